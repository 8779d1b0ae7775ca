//! JSON that strangers write: DID documents, manifests, records.
#![no_main]

use atcr_core::did_resolver::DidDocument;
use atcr_core::oci::{Digest, Manifest, MediaType};
use atcr_core::records::{ManifestRecord, ProfileRecord, TagRecord};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = serde_json::from_slice::<DidDocument>(bytes) {
        let _ = (document.signing_key(), document.pds(), document.claimed_handle());
    }
    if let Ok(record) = serde_json::from_slice::<ManifestRecord>(bytes) {
        let _ = (record.hold(), record.inline_manifest(), record.rebuild());
        assert!(serde_json::to_vec(&record).is_ok());
    }
    if let Ok(record) = serde_json::from_slice::<TagRecord>(bytes) {
        let _ = (record.manifest_digest(), record.written_at());
    }
    let _ = serde_json::from_slice::<ProfileRecord>(bytes);
    let media_type: MediaType = MediaType::OCI_MANIFEST.parse().expect("a media type");
    let manifest = Manifest { digest: Digest::sha256(bytes), media_type, bytes: bytes.to_vec().into() };
    if let Ok(content) = manifest.content() {
        let _ = (content.required_blobs().count(), content.effective_artifact_type());
    }
});
