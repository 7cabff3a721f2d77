// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `why`: the last denials, each with its rule and what to write so that it does not happen again.

use std::os::unix::ffi::OsStrExt as _;

use aegis_policy::{Object, Rule, escape};
use serde_json::{Value, json};

use super::events::line;
use crate::{
    cli,
    context::Context,
    event_log::{self, Reader, is_of_proof},
    output::Answer,
    view::{self, View},
};

pub(super) fn run(context: &Context, args: &cli::Why) -> anyhow::Result<Answer> {
    let view = view::in_force(context)?;
    if let Some(kernel) = &view.kernel {
        event_log::drain_if_free(context, kernel)?;
    }
    let path = args.path.as_ref().map(|path| escape(path.as_os_str().as_bytes()));
    let wanted = |record: &Value| {
        !is_of_proof(record)
            && matches!(record["verdict"].as_str(), Some("deny" | "would_deny"))
            && args.pid.is_none_or(|pid| record["pid"] == pid)
            && path.as_ref().is_none_or(|path| record["path"] == path.as_str())
    };
    let mut denials: Vec<Value> = Reader::new(context).read()?.into_iter().filter(wanted).collect();
    let mut seen = Vec::new();
    denials.reverse();
    // The same denial a thousand times has one reason.
    denials.retain(|record| {
        let key = ["policy", "rule", "path", "access", "exe"].map(|name| record[name].clone());
        let fresh = !seen.contains(&key) && seen.len() < SHOWN;
        if fresh {
            seen.push(key);
        }
        fresh
    });
    for record in &mut denials {
        let except = except(&view, record);
        if let (Some(fields), Some(except)) = (record.as_object_mut(), except) {
            fields.insert("except".to_owned(), except);
        }
    }
    let lines: Vec<String> = denials.iter().map(text).collect();
    let none = denials.is_empty();
    let text = if none { "no such denial is in the log".to_owned() } else { lines.join("\n") };
    Ok(Answer { text, json: json!({ "denials": denials }), exit: u8::from(none) })
}

fn text(record: &Value) -> String {
    let mut text = line(record);
    let found = record["why"].as_str().unwrap_or("?");
    text.push_str(&format!(
        "\n    found by its {found}, workload {}",
        record["workload"].as_str().unwrap_or("?")
    ));
    if let Some(except) = record["except"].as_str() {
        text.push_str(&format!("\n    to let it happen: {except}"));
    }
    text
}

/// What to write in the policy.
fn except(view: &View, record: &Value) -> Option<Value> {
    let (policy, id, path) =
        (record["policy"].as_str()?, record["rule"].as_str()?, record["path"].as_str()?);
    let (stored, _) = view.active.as_ref()?.texts.as_ref()?;
    let (policy, _) = stored.set.policy(policy)?;
    let rule = policy.rules.iter().find(|rule| rule.id == id)?;
    Some(advice(&policy.name, policy.version, rule, path).into())
}

fn advice(policy: &str, version: u32, rule: &Rule, path: &str) -> String {
    let (id, next) = (&rule.id, version.saturating_add(1));
    let place = format!("in policy {policy}, rule {id}");
    let then = format!("write version = {next} and apply it");
    let named = |object: &&Object| escape(&object.path) == path;
    if let Some(object) = rule.objects.iter().find(named) {
        return format!("{place}, take {:?} out of objects; {then}", object.written());
    }
    let mut excepted: Vec<String> = rule.except.iter().map(Object::written).collect();
    excepted.push(path.to_owned());
    format!("{place}, write except = {excepted:?}; {then}")
}

/// Denials that are told, the last first.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use aegis_policy::{Accesses, RuleAction, Who};

    use super::*;

    fn rule() -> Rule {
        let object = |path: &str, directory| Object { path: path.into(), directory };
        Rule {
            id: "r".to_owned(),
            who: Who::Everyone,
            action: RuleAction::Deny,
            access: Accesses::all(),
            objects: vec![object("/d", true), object("/f", false)],
            except: vec![object("/d/a", false)],
            reason: String::new(),
            line: 1,
        }
    }

    #[test]
    fn what_is_beneath_is_excepted_and_what_is_named_is_taken_out() {
        let beneath = advice("p", 4, &rule(), "/d/b");
        assert!(beneath.contains(r#"except = ["/d/a", "/d/b"]"#), "{beneath}");
        assert!(beneath.contains("version = 5"), "{beneath}");
        let named = advice("p", 4, &rule(), "/f");
        assert!(named.contains(r#"take "/f" out of objects"#), "{named}");
        let directory = advice("p", 4, &rule(), "/d");
        assert!(directory.contains(r#"take "/d/" out of objects"#), "{directory}");
    }
}
