// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `trust show`: a root for people, with the fingerprint that they tell each other.

use aegis_trust::{Envelope, KeyId, Kind, Role, Root, TrustRoot};
use serde_json::{Value, json};

use crate::{
    cli::Show,
    context::Context,
    output::{Answer, one_line},
    provenance::Log,
    trust::{TrustStore, clock, keys, malformed},
};

pub(super) fn run(context: &Context, args: &Show) -> anyhow::Result<Answer> {
    match &args.document {
        Some(path) => {
            let envelope = keys::envelope(Kind::Root, path)?;
            let root =
                Root::claimed(&envelope).map_err(|error| malformed(path.display(), &error))?;
            Ok(of_file(&root, &envelope))
        }
        None => of_node(context),
    }
}

fn of_file(root: &Root, envelope: &Envelope) -> Answer {
    let fingerprint = envelope.payload_digest();
    let (mut lines, mut json) = described(root, &fingerprint.to_string());
    let whole = TrustRoot::first(envelope, fingerprint);
    let signers = envelope.signers(root.keys.values().map(|key| &key.public));
    lines.extend(signers.iter().map(|id| format!("  signed    by {}", owned(root, id))));
    lines.push(match &whole {
        Ok(_) => "  enough of its own root keys have signed it".to_owned(),
        Err(error) => format!("  not yet   {error}"),
    });
    if let Some(fields) = json.as_object_mut() {
        let signers: Vec<String> = signers.iter().map(KeyId::to_string).collect();
        fields.insert("signers".to_owned(), signers.into());
        fields.insert("signed_by_itself".to_owned(), whole.is_ok().into());
    }
    Answer { text: lines.join("\n"), json, exit: 0 }
}

fn of_node(context: &Context) -> anyhow::Result<Answer> {
    let store = TrustStore::new(context);
    let installed = store.installed(&Log::new(context))?;
    let root = installed.root()?;
    let (mut lines, mut json) = described(root.root(), &root.fingerprint().to_string());
    let floors = store.floors()?;
    for (name, floor) in floors.iter() {
        lines.push(format!("  accepted  policy {name} version {}", floor.version));
    }
    let expired = floors.time(clock()) >= root.root().expires;
    if expired {
        lines.push("  expired: it accepts nothing but its successor".to_owned());
    }
    if let Some(fields) = json.as_object_mut() {
        let versions = floors.iter().map(|(name, floor)| (name.to_owned(), json!(floor.version)));
        let accepted = Value::Object(versions.collect());
        fields.insert("accepted".to_owned(), accepted);
        fields.insert("expired".to_owned(), expired.into());
    }
    Ok(Answer { text: lines.join("\n"), json, exit: 0 })
}

fn described(root: &Root, fingerprint: &str) -> (Vec<String>, Value) {
    let mut lines = vec![format!("trust root version {}", root.version)];
    lines.push(format!("  fingerprint {fingerprint}"));
    lines.push(format!("  valid     {} to {}", root.issued, root.expires));
    lines.push(format!("  root      {}", role(root, &root.root)));
    for (names, keys) in &root.delegations {
        lines.push(format!("  policy    {}: {}", names.as_str(), role(root, keys)));
    }
    for (what, versions) in [("minimum", &root.minimums), ("reset", &root.resets)] {
        let each =
            versions.iter().map(|(name, version)| format!("  {what:<9} {name} version {version}"));
        lines.extend(each);
    }
    lines.extend(root.revoked.iter().map(|id| format!("  revoked   {id}")));
    let ids = |role: &Role| role.keys.iter().map(KeyId::to_string).collect::<Vec<_>>();
    let key = |(id, key): (&KeyId, &aegis_trust::Key)| json!({ "id": id.to_string(), "public": key.public.hex(), "owner": key.owner });
    let delegation = |(names, role): (&aegis_trust::Names, &Role)| json!({ "names": names.as_str(), "threshold": role.threshold, "keys": ids(role) });
    let json = json!({
        "version": root.version,
        "fingerprint": fingerprint,
        "issued": root.issued.to_string(),
        "expires": root.expires.to_string(),
        "keys": root.keys.iter().map(key).collect::<Vec<_>>(),
        "root": { "threshold": root.root.threshold, "keys": ids(&root.root) },
        "delegations": root.delegations.iter().map(delegation).collect::<Vec<_>>(),
        "minimums": root.minimums,
        "resets": root.resets,
        "revoked": root.revoked.iter().map(KeyId::to_string).collect::<Vec<_>>(),
    });
    (lines, json)
}

fn role(root: &Root, role: &Role) -> String {
    let keys: Vec<String> = role.keys.iter().map(|id| owned(root, id)).collect();
    format!("{} of {}", role.threshold, keys.join(", "))
}

/// The beginning of an id, and whose key it is.
fn owned(root: &Root, id: &KeyId) -> String {
    let id_text = id.to_string();
    let short = id_text.get(..16).unwrap_or(&id_text);
    match root.keys.get(id).and_then(|key| key.owner.as_ref()) {
        Some(owner) => format!("{} ({short})", one_line(owner)),
        None => short.to_owned(),
    }
}
