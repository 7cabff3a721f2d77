// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Any bytes: they are an event or an error.
#![no_main]

use aegis_abi::Event;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = Event::from_bytes(bytes) {
        for path in [&event.path, &event.exe] {
            assert!(path.is_empty() || path.starts_with(b"/"));
            assert!(!path.contains(&0));
        }
    }
    // An event has one size; so that most inputs get beyond it, the same again at that size.
    let mut sized = bytes.to_vec();
    sized.resize(size_of::<aegis_abi::generated::aegis_event>(), 0);
    let _either = Event::from_bytes(&sized);
});
