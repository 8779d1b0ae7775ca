//! A commit that is accepted is in its one form; a signature is never taken for another.
#![no_main]

use atcr_core::crypto::{Curve, SigningKey};
use atcr_pds::repo::Commit;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(commit) = Commit::decode(bytes) {
        assert_eq!(commit.encode().unwrap(), bytes);
        let key = SigningKey::from_bytes(Curve::P256, &[7; 32]).unwrap().public_key();
        assert!(commit.verify(&commit.did, &key).is_err());
    }
});
