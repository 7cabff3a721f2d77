// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any text: it is refused with messages that a terminal survives, or it becomes rows.
#![no_main]

use aegis_policy::{BuiltIn, Mode, Places, PolicySet, Source, compile, lower, model::scope_of, parse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let source = Source { name: "fuzz.toml", text: &text };
    let (policy, diagnostics) = parse(source);
    for diagnostic in diagnostics.iter().take(10) {
        let rendered = diagnostic.render(source, false);
        let unsafe_to_print = |character: char| character.is_control() && character != '\n';
        assert!(!rendered.contains(unsafe_to_print), "{rendered:?}");
    }
    let Some(policy) = policy else { return };
    // What was understood can be written again, and means the same.
    for rule in &policy.rules {
        for object in rule.objects.iter().chain(&rule.except) {
            assert!(object.covers(&object.path));
            assert!(!object.written().chars().any(char::is_control));
        }
    }
    let mut set = PolicySet::new();
    set.insert(policy, Mode::Enforce);
    let built_in = BuiltIn { proof_directory: b"/run/aegisbpf/proof".to_vec() };
    let Ok(ruleset) = compile(&set, &built_in) else { return };
    let Ok(rows) = lower(&ruleset, &Places::as_written(&ruleset), 7) else { return };
    for cgroup in [&b"/"[..], b"/a", b"/system.slice/backup-1.service/x"] {
        let scope = scope_of(&rows, cgroup);
        assert_eq!(ruleset.scope(scope), ruleset.workloads_of(cgroup));
    }
});
