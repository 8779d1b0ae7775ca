//! Manifests: what is read of one says the same after it was written again, and its entry among the referrers is that
//! of its subject.
#![no_main]

use atcr_core::manifest_store::Referrer;
use atcr_core::oci::{Digest, Manifest, ManifestContent, MediaType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(media_type) = MediaType::OCI_MANIFEST.parse() else { return };
    let manifest = Manifest { digest: Digest::sha256(data), media_type, bytes: data.to_vec().into() };
    let Ok(content) = manifest.content() else {
        assert!(Referrer::of(&manifest).is_none());
        return;
    };
    let again = serde_json::to_vec(&content).expect("JSON");
    let again: ManifestContent = serde_json::from_slice(&again).expect("a manifest");
    assert_eq!(again, content);
    let subject = content.subject.as_ref().map(|subject| subject.digest);
    let entry = Referrer::of(&manifest);
    assert_eq!(entry.as_ref().map(|(subject, _)| *subject), subject);
    assert!(entry.is_none_or(|(_, entry)| entry.size == data.len() as u64));
});
