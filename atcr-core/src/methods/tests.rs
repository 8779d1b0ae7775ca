use serde_json::json;

use super::*;
use crate::lexicon::example::check_method;

#[test]
fn every_method_reads_and_writes_what_its_lexicon_says() {
    check_method::<InitiateUpload>();
    check_method::<GetPartUploadUrl>();
    check_method::<UploadPart>();
    check_method::<CompleteUpload>();
    check_method::<AbortUpload>();
    check_method::<DeleteBlob>();
    check_method::<NotifyManifest>();
    check_method::<GetLayersForManifest>();
    check_method::<RequestCrew>();
    check_method::<UpdateCrewTier>();
    check_method::<GetQuota>();
    check_method::<ListTiers>();
    check_method::<ExportUserData>();
    check_method::<DeleteUserData>();
    check_method::<SetStats>();
    check_method::<SubscribeScanJobs>();
}

#[test]
fn an_upload_may_begin_under_a_temporary_name() {
    let read = |name: &str| serde_json::from_value::<InitiateUploadInput>(json!({ "digest": name }));
    let input = read("uploads/temp-upload-1732147200000000000").unwrap();
    assert_eq!(input.digest.digest(), None);
    assert_eq!(serde_json::to_value(&input).unwrap().as_object().unwrap().len(), 1);
    let digest = crate::oci::Digest::sha256(b"x");
    assert_eq!(read(&digest.to_string()).unwrap().digest.digest(), Some(digest));
    assert!(read("").is_err() && read("a\nb").is_err() && read(&"x".repeat(129)).is_err());
}

#[test]
fn an_old_hold_promises_nothing() {
    let output: InitiateUploadOutput =
        serde_json::from_value(json!({"uploadId": "VXBsb2FkIElE.x_-=", "capabilities": null})).unwrap();
    assert!(output.capabilities.is_empty() && output.part_size.is_none());
    let output: InitiateUploadOutput =
        serde_json::from_value(json!({"uploadId": "u", "capabilities": ["parts:recorded", "new:thing"]}))
            .unwrap();
    assert!(output.capabilities.contains(&Capability::PartsRecorded));
    assert!(!output.capabilities.contains(&Capability::DigestVerified));
    for bad in ["", "a b", "a\r\nX-Evil: 1", &"x".repeat(257)] {
        assert!(bad.parse::<UploadId>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_part_is_sent_with_put_or_post_only() {
    let read = |json| serde_json::from_value::<GetPartUploadUrlOutput>(json);
    let part = read(json!({"url": "https://s3.example.com/x", "headers": null})).unwrap();
    assert_eq!((part.method, part.headers.len()), (PartMethod::Put, 0));
    assert!(read(json!({"url": "https://s3.example.com/x", "method": "DELETE"})).is_err());
    let zero = json!({"uploadId": "u", "partNumber": 0});
    assert!(serde_json::from_value::<GetPartUploadUrlInput>(zero).is_err());
}

#[test]
fn an_etag_is_the_same_with_and_without_quotes() {
    let bare = |etag: &str| {
        let part: CompletedPart = serde_json::from_value(json!({"partNumber": 1, "etag": etag})).unwrap();
        part.bare_etag().to_owned()
    };
    assert_eq!(bare("\"abc-1\""), "abc-1");
    assert_eq!(bare("abc-1"), "abc-1");
    assert_eq!(bare("\""), "\"");
}

#[test]
fn an_unknown_operation_is_kept_so_that_it_can_be_refused_by_name() {
    let digest = crate::oci::Digest::sha256(b"x");
    let mut json = json!({
        "repository": "app", "userDid": "did:plc:bob", "manifestDigest": digest, "userHandle": "bob.test",
        "manifest": {"mediaType": "a/b", "config": {"digest": digest, "size": 1}, "layers": null, "manifests": null},
    });
    let read =
        |json: &serde_json::Value| serde_json::from_value::<NotifyManifestInput>(json.clone()).unwrap();
    assert_eq!(read(&json).operation, Operation::Push);
    json["operation"] = "delete".into();
    assert_eq!(read(&json).operation, Operation::Other("delete".into()));
}

#[test]
fn a_notification_names_the_layers_that_the_hold_has() {
    let d = crate::oci::Digest::sha256(b"x");
    let bytes = format!(
        r#"{{"config":{{"mediaType":"a/b","digest":"{d}","size":1}},"layers":[
            {{"mediaType":"c/d","digest":"{d}","size":2}},
            {{"mediaType":"c/d","digest":"{d}","size":3,"urls":["https://example.com"]}}]}}"#
    );
    let manifest = crate::oci::Manifest {
        digest: crate::oci::Digest::sha256(bytes.as_bytes()),
        media_type: "a/b".parse().unwrap(),
        bytes: bytes.into(),
    };
    let notified = NotifiedManifest::new(&manifest, &manifest.content().unwrap());
    assert_eq!(notified.config, Some(NotifiedBlob { digest: d, size: 1 }));
    assert_eq!(notified.layers.iter().map(|layer| layer.size).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_messages_of_a_scanner_are_told_apart() {
    let digest = crate::oci::Digest::sha256(b"x");
    let summary = json!({"critical": 0, "high": 0, "medium": 1, "low": 2, "total": 3});
    // Go writes bytes as bare base64.
    for sbom in [json!("aGVsbG8="), json!({"$bytes": "aGVsbG8"})] {
        let frame = json!({"type": "scan_result", "digest": digest, "summary": summary, "sbom": sbom});
        let ScanMessage::ScanResult(result) = serde_json::from_value(frame).unwrap() else {
            panic!("a result")
        };
        assert_eq!(&*result.sbom.unwrap().0, b"hello");
        assert_eq!(result.summary.total, 3);
    }
    assert!(serde_json::from_value::<ScanMessage>(json!({"type": "other", "digest": digest})).is_err());
}
