//! What a handle's host and the DNS answer: at most one DID, and one that is in the answer.
#![no_main]

use std::sync::LazyLock;

use atcr_core::did_resolver::{did_of_records, did_of_well_known};
use atcr_core::syntax::Handle;
use libfuzzer_sys::fuzz_target;

static ALICE: LazyLock<Handle> = LazyLock::new(|| "alice.example.com".parse().expect("a handle"));

fuzz_target!(|data: &[u8]| {
    if let Ok(did) = did_of_well_known(&ALICE, data) {
        assert_eq!(data.trim_ascii(), did.as_str().as_bytes());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(Some(did)) = did_of_records(&ALICE, text.lines().map(str::to_owned)) {
        let line = format!("did={did}");
        assert!(text.lines().filter(|text| text.trim_ascii().starts_with("did=")).all(|text| text.trim_ascii() == line));
    }
});
