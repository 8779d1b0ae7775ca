//! Records of a small world, made from numbers.

use atcr_core::oci::{Digest, Manifest, MediaType, RepositoryName, Tag};
use atcr_core::records::{manifest_rkey, page_rkey, star_rkey, tag_rkey};
use atcr_core::syntax::{Did, RecordKey, Tid};
use atcr_registry::index::{Collection, RecordOp};
use serde_json::{Value, json};

pub(crate) const NAMES: [&str; 3] = ["app", "tools/app", "web_site"];
pub(crate) const TAGS: [&str; 3] = ["latest", "v1", "v2"];
pub(crate) const MANIFESTS: usize = 5;
const TIME: i64 = 1_750_000_000;

pub(crate) fn did(n: usize) -> Did {
    format!("did:plc:{}", ["alice", "bob", "hold"][n]).parse().unwrap()
}

pub(crate) fn name(n: usize) -> RepositoryName {
    NAMES[n % NAMES.len()].parse().unwrap()
}

pub(crate) fn tag(n: usize) -> Tag {
    TAGS[n % TAGS.len()].parse().unwrap()
}

pub(crate) fn rev(n: usize) -> Tid {
    Tid::new(u64::try_from(TIME).unwrap() * 1_000_000 + n as u64 * 1_000, 7)
}

pub(crate) fn at(seconds: usize) -> String {
    jiff::Timestamp::from_second(TIME + i64::try_from(seconds).unwrap()).unwrap().to_string()
}

pub(crate) fn blob(n: usize) -> Digest {
    Digest::sha256(format!("blob {n}").as_bytes())
}

/// An image; the last of them refers to the first.
pub(crate) fn manifest(n: usize) -> Manifest {
    let layer = |n: usize| json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": blob(n), "size": 100 + n });
    let mut content = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob(n + 10), "size": 7 },
        "layers": [layer(n), layer(n + 1)],
    });
    if n + 1 == MANIFESTS {
        content["artifactType"] = "application/vnd.example.sbom".into();
        let first = manifest(0);
        content["subject"] =
            json!({ "mediaType": first.media_type, "digest": first.digest, "size": first.bytes.len() });
    }
    let bytes = bytes::Bytes::from(content.to_string());
    Manifest { digest: Digest::sha256(&bytes), media_type: MediaType::OCI_MANIFEST.parse().unwrap(), bytes }
}

/// A record: its place, and what it says; `version` tells apart what is written to one place.
pub(crate) fn record(kind: usize, n: usize, version: usize) -> (Collection, RecordKey, Value) {
    let strange = |n: usize| -> RecordKey { format!("key-{n}").parse().unwrap() };
    match kind % 9 {
        0 | 1 => {
            let manifest = manifest(n % MANIFESTS);
            let (repository, more) = (name(n), name(n + 1));
            let content = manifest.content().unwrap();
            let mut value = serde_json::to_value(
                atcr_core::records::ManifestRecord::from_manifest(
                    repository.clone(),
                    &manifest,
                    &content,
                    Some(did(2)),
                    at(version).parse().unwrap(),
                )
                .unwrap(),
            )
            .unwrap();
            if version.is_multiple_of(2) {
                value["repositories"] = json!([repository, more]);
            }
            (Collection::Manifest, manifest_rkey(&manifest.digest), value)
        }
        2 | 3 => {
            let (repository, tag) = (name(n), tag(n / 3));
            let rkey = if version.is_multiple_of(5) { strange(n) } else { tag_rkey(&repository, &tag) };
            let value = json!({
                "$type": "io.atcr.tag", "repository": repository, "tag": tag, "updatedAt": at(version),
                "manifestDigest": manifest((n + version) % MANIFESTS).digest,
            });
            (Collection::Tag, rkey, value)
        }
        4 => {
            let repository = name(n);
            let value = json!({
                "$type": "io.atcr.repo.page", "repository": repository, "createdAt": at(0), "updatedAt": at(version),
                "description": format!("Words number{version} for everybody\0"),
            });
            (Collection::Page, page_rkey(&repository), value)
        }
        5 => {
            let (owner, repository) = (did(n % 2), name(n));
            let subject = json!({ "did": owner, "repository": repository });
            let value =
                json!({ "$type": "io.atcr.sailor.star", "subject": subject, "createdAt": at(version) });
            let rkey = if n.is_multiple_of(2) { star_rkey(&owner, &repository) } else { strange(n % 4) };
            (Collection::Star, rkey, value)
        }
        6 => {
            let value = json!({
                "$type": "io.atcr.sailor.profile", "createdAt": at(0), "defaultHold": did(version % 3),
            });
            (Collection::Profile, RecordKey::this(), value)
        }
        7 => {
            let value = json!({
                "$type": "io.atcr.hold.stats", "ownerDid": did(n % 2), "repository": name(n), "updatedAt": at(version),
                "pullCount": version, "pushCount": n,
            });
            (Collection::Stats, strange(n % 3), value)
        }
        // Nothing that a reader can make anything of.
        _ => (Collection::Tag, strange(n % 3), json!({ "repository": 5, "tag": ["?"], "version": version })),
    }
}

pub(crate) fn cid(value: &Value) -> [u8; 32] {
    Digest::sha256(value.to_string().as_bytes()).as_bytes().try_into().unwrap()
}

pub(crate) fn written(collection: Collection, rkey: RecordKey, value: &Value) -> RecordOp {
    RecordOp::written(collection, rkey, cid(value), value.clone())
}
