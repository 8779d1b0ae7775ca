use serde_json::{Value, json};

use super::*;
use crate::oci::{Algorithm, Digest, Manifest, ManifestContent, MediaType};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn digest() -> String {
    format!("sha256:{HEX}")
}

fn read<T: Record>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn refused<T: Record>(json: Value) -> String {
    serde_json::from_value::<T>(json).err().expect("the record should be refused").to_string()
}

fn pushed(json: &str, media_type: &str) -> (Manifest, ManifestContent) {
    let bytes = bytes::Bytes::copy_from_slice(json.as_bytes());
    let manifest =
        Manifest { digest: Digest::sha256(&bytes), media_type: media_type.parse().unwrap(), bytes };
    let content = manifest.content().unwrap();
    (manifest, content)
}

fn record_of(json: &str) -> Result<ManifestRecord, RecordError> {
    let (manifest, content) = pushed(json, MediaType::OCI_MANIFEST);
    let hold = Some("did:web:hold.example.com".parse().unwrap());
    ManifestRecord::from_manifest("app".parse().unwrap(), &manifest, &content, hold, lenient::epoch())
}

#[test]
fn a_record_of_another_collection_is_refused() {
    let mut json = json!({"repository": "app", "tag": "v1", "manifestDigest": digest()});
    assert!(read::<TagRecord>(json.clone()).manifest_digest().is_some());
    json["$type"] = "io.atcr.tag".into();
    assert!(read::<TagRecord>(json.clone()).manifest_digest().is_some());
    json["$type"] = "io.atcr.manifest".into();
    assert!(refused::<TagRecord>(json.clone()).contains("io.atcr.manifest"));
    json["$type"] = 1.into();
    refused::<TagRecord>(json);
    refused::<TagRecord>(json!([1, 2]));
}

#[test]
fn the_type_is_written() {
    let json = serde_json::to_value(StarRecord {
        subject: StarSubject::new(&"did:plc:bob".parse().unwrap(), &"tools/app".parse().unwrap()),
        created_at: lenient::epoch(),
    })
    .unwrap();
    assert_eq!(
        json,
        json!({
            "$type": "io.atcr.sailor.star",
            "subject": "at://did:plc:bob/io.atcr.repo.page/tools~app",
            "createdAt": "1970-01-01T00:00:00.000Z",
        })
    );
}

#[test]
fn a_manifest_of_2025_with_only_a_url_is_read() {
    // The first version: no holdDid, no bytes, no media types inside.
    let record: ManifestRecord = read(json!({
        "$type": "io.atcr.manifest",
        "repository": "app",
        "digest": digest(),
        "holdEndpoint": "https://hold1.example.com:8443",
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": {"digest": digest(), "size": 12},
        "layers": [{"digest": digest(), "size": 34, "annotations": null, "urls": null}],
        "annotations": {"a": "b", "n": 1},
        "createdAt": "2025-10-01T12:00:00.123456789+02:00",
        "somethingNew": {"x": [null]},
    }));
    assert_eq!(record.hold().unwrap().as_str(), "did:web:hold1.example.com%3A8443");
    assert_eq!(record.annotations.len(), 1);
    assert!(record.inline_manifest().is_none());
    let rebuilt = record.rebuild();
    assert!(!rebuilt.exact);
    let content: ManifestContent = serde_json::from_slice(&rebuilt.bytes).unwrap();
    assert_eq!(content.config.unwrap().media_type, "application/vnd.oci.image.config.v1+json");
    assert_eq!(content.layers[0].media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
}

#[test]
fn the_did_of_a_hold_counts_before_its_url() {
    let mut json = json!({
        "repository": "app", "digest": digest(), "mediaType": "a/b", "schemaVersion": 2,
        "createdAt": "2025-12-20T00:00:00Z",
        "holdDid": "did:plc:hold", "holdEndpoint": "https://old.example.com",
    });
    assert_eq!(read::<ManifestRecord>(json.clone()).hold().unwrap().as_str(), "did:plc:hold");
    json["holdDid"] = "".into();
    assert_eq!(read::<ManifestRecord>(json.clone()).hold().unwrap().as_str(), "did:web:old.example.com");
    json["holdEndpoint"] = "ftp://old.example.com".into();
    assert_eq!(read::<ManifestRecord>(json.clone()).hold(), None);
    // What does not identify the manifest does not make it unreadable.
    json["createdAt"] = "yesterday".into();
    json["holdEndpoint"] = 7.into();
    json["manifestBlob"] = json!({"nonsense": true});
    json["layers"] = Value::Null;
    let record: ManifestRecord = read(json.clone());
    assert_eq!(record.created_at, lenient::epoch());
    json["digest"] = "sha256:short".into();
    refused::<ManifestRecord>(json);
}

#[test]
fn a_pushed_manifest_comes_back_byte_for_byte() {
    let d = digest();
    let text = format!(
        r#"{{ "schemaVersion":2, "artifactType":"x/y","config":{{"mediaType":"a/b","digest":"{d}","size":1}},
            "layers":[{{"mediaType":"c/d","digest":"{d}","size":2,"urls":["https://example.com/l","not a uri"]}}],
            "subject":{{"mediaType":"e/f","digest":"{d}","size":3}},
            "annotations":{{"k":"v","$type":"blob"}}, "unknown":[1.5] }}"#
    );
    let record = record_of(&text).unwrap();
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["layers"][0]["urls"], json!(["https://example.com/l"]));
    assert_eq!(json["annotations"], json!({"k": "v"}));
    assert!(json.get("holdEndpoint").is_none() && json.get("manifestBlob").is_none());
    let again: ManifestRecord = read(json);
    assert_eq!(again, record);
    assert_eq!(again.inline_manifest().unwrap().bytes, text.as_bytes());
    assert_eq!(again.rkey().as_str(), record.digest.hex());
}

#[test]
fn bytes_that_do_not_have_the_digest_are_not_given() {
    let mut record = record_of(r#"{"schemaVersion":2}"#).unwrap();
    assert!(record.inline_manifest().is_some());
    record.manifest_bytes = Some(BytesField("forged".into()));
    assert!(record.inline_manifest().is_none());
    assert!(record.manifest_with("forged".into()).is_none());
}

#[test]
fn a_sha512_manifest_has_a_record() {
    let bytes = bytes::Bytes::from_static(b"{}");
    let manifest = Manifest {
        digest: Digest::of(Algorithm::Sha512, &bytes),
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        bytes,
    };
    let content = manifest.content().unwrap();
    let record =
        ManifestRecord::from_manifest("app".parse().unwrap(), &manifest, &content, None, lenient::epoch())
            .unwrap();
    assert_eq!(record.rkey().as_str().len(), 128);
    assert_eq!(record.inline_manifest(), Some(manifest.clone()));
    let owner = "did:plc:bob".parse().unwrap();
    let tag = TagRecord::new(
        &owner,
        "app".parse().unwrap(),
        "v1".parse().unwrap(),
        &manifest.digest,
        None,
        lenient::epoch(),
    );
    assert_eq!(TagRecord { manifest_digest: None, ..tag }.manifest_digest(), Some(manifest.digest));
}

#[test]
fn a_large_manifest_is_not_inline_and_its_annotations_stay_out() {
    let text =
        format!(r#"{{"schemaVersion":2,"annotations":{{"big":"{}","k":"v"}}}}"#, "x".repeat(4_000_000));
    let record = record_of(&text).unwrap();
    assert!(record.manifest_bytes.is_none());
    assert_eq!(record.annotations.keys().collect::<Vec<_>>(), ["k"]);
    assert!(serde_json::to_vec(&record).unwrap().len() < 1000);
}

#[test]
fn what_a_record_cannot_hold_is_refused() {
    let d = digest();
    let long = "a".repeat(130);
    let layer = |fields: &str| format!(r#"{{"layers":[{{"digest":"{d}",{fields}}}]}}"#);
    let error = |text: &str| record_of(text).unwrap_err();
    assert!(matches!(
        error(&layer(&format!(r#""size":1,"mediaType":"a/{long}""#))),
        RecordError::TooLong { .. }
    ));
    assert!(matches!(error(&layer(r#""size":9007199254740992"#)), RecordError::Size(_)));
    let platform = format!(r#"{{"manifests":[{{"digest":"{d}","size":1,"platform":{{"os":"{long}"}}}}]}}"#);
    assert!(matches!(error(&platform), RecordError::TooLong { field: "platform.os", .. }));
    let one = format!(r#"{{"mediaType":"a/b","digest":"{d}","size":1}}"#);
    let many = format!(r#"{{"layers":[{}]}}"#, vec![one; 10_000].join(","));
    assert!(matches!(error(&many), RecordError::TooLarge(_)));
}

#[test]
fn the_platform_of_an_index_is_written_in_camel_case() {
    let text = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"a/b","digest":"{}","size":1,"platform":
            {{"architecture":"arm64","os":"windows","os.version":"10.0","os.features":["win32k"]}}}}]}}"#,
        digest()
    );
    let record = record_of(&text).unwrap();
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(
        json["manifests"][0]["platform"],
        json!({"architecture": "arm64", "os": "windows", "osVersion": "10.0", "osFeatures": ["win32k"]})
    );
    let rebuilt: Value = serde_json::from_slice(&record.rebuild().bytes).unwrap();
    assert_eq!(rebuilt["manifests"][0]["platform"]["os.version"], "10.0");
    assert!(rebuilt.get("layers").is_none());
}

#[test]
fn the_layouts_of_usual_clients_are_rebuilt_exactly() {
    let descriptor = |kind: &str| json!({"mediaType": kind, "digest": digest(), "size": 1});
    let (config, layer) = (
        descriptor("application/vnd.docker.container.image.v1+json"),
        descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip"),
    );
    // Written by hand: the order of fields is part of what is rebuilt.
    let text = format!(
        r#"{{
   "schemaVersion": 2,
   "mediaType": "{kind}",
   "config": {{
      "mediaType": {config_type},
      "digest": "{d}",
      "size": 1
   }},
   "layers": [
      {{
         "mediaType": {layer_type},
         "digest": "{d}",
         "size": 1
      }}
   ]
}}"#,
        kind = MediaType::DOCKER_MANIFEST,
        config_type = config["mediaType"],
        layer_type = layer["mediaType"],
        d = digest(),
    );
    let (manifest, content) = pushed(&text, MediaType::DOCKER_MANIFEST);
    let record =
        ManifestRecord::from_manifest("app".parse().unwrap(), &manifest, &content, None, lenient::epoch())
            .unwrap();
    let rebuilt = record.rebuild();
    assert!(rebuilt.exact);
    assert_eq!(rebuilt.bytes, manifest.bytes);
}

#[test]
fn every_version_of_a_tag_is_read() {
    let uri = format!("at://did:plc:bob/io.atcr.manifest/{HEX}");
    let base = json!({"repository": "tools/app", "tag": "V1.0_x"});
    let with = |fields: Value| {
        let mut json = base.clone();
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read::<TagRecord>(json)
    };
    let expected: Digest = digest().parse().unwrap();
    for fields in [
        json!({"manifestDigest": digest(), "createdAt": "2025-12-01T00:00:00Z"}),
        json!({"manifest": uri, "updatedAt": "2026-03-01T00:00:00Z"}),
        json!({"manifest": uri, "manifestDigest": digest(), "updatedAt": "2026-03-01T00:00:00Z"}),
        json!({"manifest": uri, "mediaType": "a/b", "manifestDigest": "", "updatedAt": null}),
        json!({"manifest": "at://did:plc:bob/io.atcr.manifest/3jui7kd54zh2y", "manifestDigest": digest()}),
    ] {
        assert_eq!(with(fields).manifest_digest(), Some(expected));
    }
    assert_eq!(with(json!({"createdAt": "2025-12-01T00:00:00Z"})).written_at().unwrap().as_str().len(), 20);
    assert_eq!(with(json!({})).manifest_digest(), None);
    let elsewhere = format!("at://did:plc:bob/io.atcr.other/{HEX}");
    assert_eq!(with(json!({"manifest": elsewhere})).manifest_digest(), None);
}

#[test]
fn a_tag_is_written_for_readers_of_every_version() {
    let owner = "did:plc:bob".parse().unwrap();
    let tag = TagRecord::new(
        &owner,
        "tools/app".parse().unwrap(),
        "v1".parse().unwrap(),
        &digest().parse().unwrap(),
        None,
        lenient::epoch(),
    );
    assert_eq!(
        serde_json::to_value(&tag).unwrap(),
        json!({
            "$type": "io.atcr.tag",
            "repository": "tools/app",
            "tag": "v1",
            "manifest": format!("at://did:plc:bob/io.atcr.manifest/{HEX}"),
            "manifestDigest": digest(),
            "updatedAt": "1970-01-01T00:00:00.000Z",
            "createdAt": "1970-01-01T00:00:00.000Z",
        })
    );
}

#[test]
fn a_default_hold_is_a_did_a_url_or_nothing() {
    let hold = |value: Value| {
        read::<ProfileRecord>(json!({"defaultHold": value, "createdAt": "2025-10-01T00:00:00Z"})).default_hold
    };
    assert_eq!(hold(json!("did:plc:hold")).unwrap().as_str(), "did:plc:hold");
    assert_eq!(hold(json!("http://172.28.0.3:8080")).unwrap().as_str(), "did:web:172.28.0.3%3A8080");
    for none in [Value::Null, json!(""), json!("hold.example.com"), json!(["x"]), json!("file:///etc")] {
        assert_eq!(hold(none), None);
    }
}

#[test]
fn both_subjects_of_a_star_name_the_repository() {
    let new: StarRecord = read(json!({
        "subject": "at://did:plc:bob/io.atcr.repo.page/tools~app", "createdAt": "2026-08-01T00:00:00Z",
    }));
    let old: StarRecord = read(json!({
        "subject": {"did": "did:plc:bob", "repository": "tools/app"}, "createdAt": "2025-12-01T00:00:00Z",
    }));
    assert_eq!(new.subject.repository(), old.subject.repository());
    assert_eq!(new.rkey(), old.rkey());
    let other: StarRecord = read(json!({"subject": "at://did:plc:bob/app.bsky.feed.post/x"}));
    assert_eq!(other.subject.repository(), None);
}

#[test]
fn both_shapes_of_crew_are_told_apart() {
    let new = json!({
        "$type": "io.atcr.hold.crew", "member": "did:plc:bob", "role": "member",
        "permissions": ["blob:write", "x:y", "blob:write"], "addedAt": "2026-01-01T00:00:00Z",
    });
    let AnyCrewRecord::Crew(crew) = serde_json::from_value(new).unwrap() else { panic!("the new shape") };
    assert!(
        crew.permissions.can_read() && crew.permissions.can_write() && !crew.permissions.can_administer()
    );
    assert_eq!(serde_json::to_value(&crew).unwrap()["permissions"], json!(["blob:write", "x:y"]));
    assert_eq!(crew.rkey(), crew_rkey(&crew.member));

    let old = json!({
        "hold": "at://did:plc:own/io.atcr.hold/hold.example.com", "memberPattern": "*", "role": "write",
        "addedAt": "2025-10-01T00:00:00Z",
    });
    let AnyCrewRecord::Legacy(crew) = serde_json::from_value(old.clone()).unwrap() else {
        panic!("the old shape")
    };
    assert_eq!(crew.member(), Some(LegacyMember::Pattern("*")));
    assert_eq!(crew.created_at.as_str(), "2025-10-01T00:00:00Z");
    let mut both = old.clone();
    both["member"] = "did:plc:bob".into();
    assert_eq!(read::<LegacyCrewRecord>(both).member(), None);
    let mut endless = old;
    endless["expiresAt"] = "next year".into();
    refused::<LegacyCrewRecord>(endless);
}

#[test]
fn permissions_give_no_more_than_they_say() {
    let rights = |json: Value| {
        let p: Permissions = serde_json::from_value(json).unwrap();
        (p.can_read(), p.can_write(), p.can_administer())
    };
    assert_eq!(rights(json!([])), (false, false, false));
    assert_eq!(rights(json!(["BLOB:READ", "blob:*", "admin"])), (false, false, false));
    assert_eq!(rights(json!(["blob:read"])), (true, false, false));
    assert_eq!(rights(json!(["blob:write"])), (true, true, false));
    assert_eq!(rights(json!(["crew:admin"])), (true, true, true));
    for bad in [json!({"permissions": "blob:read"}), json!({"permissions": null}), json!({})] {
        let mut json = json!({"member": "did:plc:bob", "role": "read"});
        json.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        refused::<CrewRecord>(json);
    }
}

#[test]
fn a_captain_record_opens_nothing_that_it_does_not_say() {
    let captain: CaptainRecord = read(json!({"owner": "did:plc:own", "provider": "fly.io"}));
    assert!(!captain.public && !captain.allow_all_crew && !captain.enable_bluesky_posts);
    assert!(serde_json::to_value(&captain).unwrap().get("provider").is_none());
    refused::<CaptainRecord>(json!({"owner": "did:plc:own", "public": "yes"}));
    refused::<CaptainRecord>(json!({"public": true}));
}

#[test]
fn both_shapes_of_a_layer_are_read() {
    let old: LayerRecord = read(json!({
        "digest": digest(), "size": 5, "mediaType": "a/b", "repository": "app", "userDid": "did:plc:bob",
        "userHandle": "Bob.Example.com", "createdAt": "2025-12-01T00:00:00Z",
    }));
    assert!(old.manifest.is_none() && old.repository.is_some() && old.user_handle.is_some());
    let uri = format!("at://did:plc:bob/io.atcr.manifest/{HEX}");
    let new: LayerRecord = read(json!({
        "digest": digest(), "size": 5, "mediaType": "a/b", "manifest": uri, "userDid": "did:plc:bob",
        "createdAt": "2026-08-01T00:00:00Z",
    }));
    let user = "did:plc:bob".parse().unwrap();
    let built = LayerRecord::new(new.digest, 5, "a/b", uri.parse().unwrap(), user, new.created_at.clone());
    assert_eq!(new, built);
}

#[test]
fn legacy_records_are_read() {
    let hold: HoldRecord = read(json!({"endpoint": "https://hold.example.com/", "owner": "did:plc:own"}));
    assert_eq!(hold.did().unwrap().as_str(), "did:web:hold.example.com");
    let webhook: WebhookRecord = read(json!({
        "holdDid": "did:plc:hold", "triggers": 5, "privateCid": "bafy", "createdAt": "2026-02-01T00:00:00Z",
    }));
    assert!(webhook.triggers.contains(WebhookTriggers::SCAN_FIRST));
    assert!(!webhook.triggers.contains(WebhookTriggers::SCAN_ALL));
    let scan: ScanRecord = read(json!({
        "manifest": format!("at://did:plc:bob/io.atcr.manifest/{HEX}"), "repository": "app",
        "userDid": "did:plc:bob", "critical": 1, "high": 2, "medium": 3, "low": 4, "total": 10,
        "scannerVersion": "1", "scannedAt": "2026-02-01T00:00:00Z",
    }));
    assert_eq!(scan.status, None);
    assert_eq!(scan.counts().total, 10);
}

#[test]
fn links_bytes_and_blobs_have_the_json_form_of_the_data_model() {
    let cid = "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy";
    let blob = json!({"$type": "blob", "ref": {"$link": cid}, "mimeType": "image/png", "size": 3});
    let read: BlobRef = serde_json::from_value(blob.clone()).unwrap();
    assert_eq!(read.size, Some(3));
    assert_eq!(serde_json::to_value(&read).unwrap(), blob);
    let legacy = json!({"cid": cid, "mimeType": "image/png"});
    let read: BlobRef = serde_json::from_value(legacy.clone()).unwrap();
    assert_eq!(read.size, None);
    assert_eq!(serde_json::to_value(&read).unwrap(), legacy);
    for bad in [
        json!({"$type": "blub", "ref": {"$link": cid}, "mimeType": "image/png", "size": 3}),
        json!({"$type": "blob", "ref": {"$link": "bafy"}, "mimeType": "image/png", "size": 3}),
        json!({"$type": "blob", "ref": cid, "mimeType": "image/png", "size": 3}),
        json!({"$type": "blob", "ref": {"$link": cid}, "mimeType": "image/png", "size": -1}),
        json!({"cid": "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR", "mimeType": "image/png"}),
    ] {
        assert!(serde_json::from_value::<BlobRef>(bad.clone()).is_err(), "{bad}");
    }
    for text in ["aGVsbG8", "aGVsbG8="] {
        let bytes: BytesField = serde_json::from_value(json!({"$bytes": text})).unwrap();
        assert_eq!(&*bytes.0, b"hello");
        assert_eq!(serde_json::to_value(&bytes).unwrap(), json!({"$bytes": "aGVsbG8"}));
    }
    for bad in [json!({"$bytes": "a-_b"}), json!({"$bytes": "aGVsbG8", "x": 1}), json!("aGVsbG8")] {
        assert!(serde_json::from_value::<BytesField>(bad.clone()).is_err(), "{bad}");
    }
    assert!(serde_json::from_value::<CidLink>(json!({"$link": cid.to_uppercase()})).is_err());
}

#[test]
fn every_record_reads_and_writes_what_its_lexicon_says() {
    use crate::lexicon::example::check_record;
    check_record::<ManifestRecord>();
    check_record::<TagRecord>();
    check_record::<ProfileRecord>();
    check_record::<StarRecord>();
    check_record::<WebhookRecord>();
    check_record::<RepoPageRecord>();
    check_record::<HoldRecord>();
    check_record::<CrewRecord>();
    check_record::<CaptainRecord>();
    check_record::<LayerRecord>();
    check_record::<StatsRecord>();
    check_record::<ScanRecord>();
    // The lexicon has no place for the old shape.
    assert_eq!(LegacyCrewRecord::collection(), CrewRecord::collection());
}

#[test]
fn a_record_made_from_any_pushed_manifest_fits_its_lexicon() {
    let d = Digest::of(Algorithm::Sha512, b"x");
    let long = "m".repeat(126);
    let text = format!(
        r#"{{"mediaType":"{index}","manifests":[{{"mediaType":"a/{long}","digest":"{d}","size":0,
            "platform":{{"architecture":"","os":"{os}","os.features":["","{feature}"],"variant":"v8"}},
            "annotations":{{"$bytes":"x","":""}},"urls":["u"]}}],
            "config":{{"digest":"{d}","size":9007199254740991,"urls":["http://","a b","x:y"],"artifactType":"t"}},
            "layers":null,"blobs":[{{"digest":"{d}","size":1}}],"subject":{{"digest":"{d}","size":1}}}}"#,
        index = MediaType::OCI_INDEX,
        os = "o".repeat(32),
        feature = "f".repeat(64),
    );
    let (mut manifest, content) = pushed(&text, MediaType::OCI_INDEX);
    manifest.digest = Digest::of(Algorithm::Sha512, &manifest.bytes);
    let name = "r".repeat(255).parse().unwrap();
    let mut record =
        ManifestRecord::from_manifest(name, &manifest, &content, None, crate::syntax::Datetime::now())
            .unwrap();
    let cid = data::parse_cid("bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy").unwrap();
    record.manifest_blob = Some(BlobRef::new(cid, MediaType::OCI_INDEX, 5));
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(crate::lexicon::validate_record(&ManifestRecord::collection(), &json), Ok(()));
}
