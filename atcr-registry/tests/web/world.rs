//! A small world on an index of its own, and somebody who looks at its pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use atcr_auth::pds_session::SealingKey;
use atcr_core::egress::{Egress, EgressPolicy};
use atcr_core::oci::{Digest, Manifest, MediaType, RepositoryName};
use atcr_core::records::{BlobRef, ManifestRecord, manifest_rkey, page_rkey, star_rkey, tag_rkey};
use atcr_core::syntax::{Did, RecordKey, Tid};
use atcr_pds::cbor::cid_for_raw;
use atcr_registry::index::{Collection, Event, IdentityChange, Index, RecordOp, RepoCommit, Since};
use atcr_registry::web::WebUi;
use atcr_registry::webhooks::{WebhookOptions, Webhooks};
use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::people::{Bytestore, People};

pub(crate) const SCRIPT: &str = "<script>alert(1)</script>";

pub(crate) fn alice() -> Did {
    "did:plc:alice".parse().unwrap()
}

pub(crate) fn bob() -> Did {
    "did:plc:bob".parse().unwrap()
}

pub(crate) fn hold() -> Did {
    "did:web:hold.example".parse().unwrap()
}

fn manifest(content: &Value, media_type: &str) -> Manifest {
    let bytes = Bytes::from(content.to_string());
    Manifest { digest: Digest::sha256(&bytes), media_type: media_type.parse().unwrap(), bytes }
}

fn blob(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

/// A hostile config.
pub(crate) fn config() -> Bytes {
    let config = json!({
        "os": "linux", "architecture": SCRIPT, "author": "\"><img src=x>",
        "config": { "Env": [SCRIPT], "Cmd": [SCRIPT], "Labels": { SCRIPT: SCRIPT }, "ExposedPorts": { SCRIPT: {} } },
        "history": [{ "created": "2026-06-01", "created_by": format!("RUN echo {SCRIPT}") }],
    });
    config.to_string().into()
}

/// An image whose annotations are hostile.
pub(crate) fn image() -> Manifest {
    manifest(
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256(&config()), "size": config().len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": blob("layer"), "size": 5_000_000 }],
            "annotations": { "org.example.note": SCRIPT, "\"><img src=x>": "x" },
        }),
        MediaType::OCI_MANIFEST,
    )
}

/// An index with the image for arm64.
pub(crate) fn index_manifest() -> Manifest {
    let image = image();
    manifest(
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
            "manifests": [{
                "mediaType": image.media_type, "digest": image.digest, "size": image.bytes.len(),
                "platform": { "os": "linux", "architecture": "arm64", "variant": "v8" },
            }],
        }),
        MediaType::OCI_INDEX,
    )
}

/// A bill of materials for the image.
pub(crate) fn sbom() -> Manifest {
    let image = image();
    manifest(
        &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": "application/spdx+json",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": blob("{}"), "size": 2 },
            "layers": [{ "mediaType": "application/spdx+json", "digest": blob("sbom"), "size": 10 }],
            "subject": { "mediaType": image.media_type, "digest": image.digest, "size": image.bytes.len() },
        }),
        MediaType::OCI_MANIFEST,
    )
}

/// What a scanner found in the image; hostile.
pub(crate) fn report() -> Bytes {
    let matched = |id: &str, severity: &str, package: &str| {
        json!({
            "vulnerability": {
                "id": id, "severity": severity, "dataSource": "javascript:alert(1)",
                "fix": { "versions": ["1.3", SCRIPT], "state": "fixed" },
            },
            "artifact": { "name": package, "version": SCRIPT, "type": "deb" },
        })
    };
    let many = (0..200).map(|number| matched(&format!("CVE-2026-{number}"), "Medium", "many"));
    let matches: Vec<Value> = many
        .chain([matched(SCRIPT, "High", SCRIPT), matched("CVE-2026-9999", "Critical", "first")])
        .collect();
    json!({ "matches": matches, "descriptor": { "name": "grype" } }).to_string().into()
}

/// A record of a scan of the image.
pub(crate) fn scanned(more: Value) -> RecordOp {
    let rkey = manifest_rkey(&image().digest);
    let mut record = json!({
        "manifest": format!("at://{}/io.atcr.manifest/{rkey}", alice()), "repository": "tools/app",
        "userDid": alice(), "critical": 1, "high": 1, "medium": 200, "low": 0, "total": 202,
        "scannerVersion": format!("atcr-scanner {SCRIPT}"), "scannedAt": "2026-06-01T00:00:00Z",
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    written(Collection::Scan, rkey, record)
}

/// A blob, as a record names it.
pub(crate) fn blob_ref(bytes: &Bytes, media_type: &str) -> Value {
    serde_json::to_value(BlobRef::new(cid_for_raw(bytes), media_type, bytes.len() as u64)).unwrap()
}

pub(crate) fn written(collection: Collection, rkey: RecordKey, value: Value) -> RecordOp {
    let cid = Digest::sha256(value.to_string().as_bytes());
    RecordOp::written(collection, rkey, cid.as_bytes().try_into().unwrap(), value)
}

pub(crate) fn pushed(manifest: &Manifest) -> RecordOp {
    let content = manifest.content().unwrap();
    let at = "2026-06-01T00:00:00Z".parse().unwrap();
    let name = "tools/app".parse().unwrap();
    let record = ManifestRecord::from_manifest(name, manifest, &content, Some(hold()), at).unwrap();
    written(Collection::Manifest, manifest_rkey(&manifest.digest), serde_json::to_value(record).unwrap())
}

pub(crate) fn tagged(tag: &str, manifest: &Manifest) -> RecordOp {
    let repository = "tools/app".parse().unwrap();
    let value = json!({
        "$type": "io.atcr.tag", "repository": repository, "tag": tag, "updatedAt": "2026-06-01T00:00:00Z",
        "manifestDigest": manifest.digest,
    });
    written(Collection::Tag, tag_rkey(&repository, &tag.parse().unwrap()), value)
}

pub(crate) fn commit(did: Did, number: u64, since: Since, ops: Vec<RecordOp>) -> Event {
    let rev = Tid::new(1_780_000_000_000_000 + number * 1_000_000, 7);
    Event::Commit(RepoCommit { did, rev, since, data: None, ops })
}

pub(crate) struct World {
    pub(crate) index: Index,
    pub(crate) people: Arc<People>,
    router: Router,
    _folder: TempDir,
}

/// An answer.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl World {
    /// Alice has an image for arm64, a bill of materials and a hostile description in `tools/app`, which bob stars.
    pub(crate) async fn new() -> Self {
        Self::with(|ui, _| ui).await
    }

    /// The same, on pages that are set up otherwise.
    pub(crate) async fn with(set_up: impl FnOnce(WebUi, &Index) -> WebUi) -> Self {
        let index = Index::open("sqlite::memory:").await.unwrap();
        let repository: RepositoryName = "tools/app".parse().unwrap();
        let page = json!({
            "$type": "io.atcr.repo.page", "repository": repository, "createdAt": "2026-06-01T00:00:00Z",
            "updatedAt": "2026-06-01T00:00:00Z",
            "description": format!("# Tools for gardeners\n\n{SCRIPT} ![pixel](https://tracker.example/p.png) [x](javascript:alert(1))"),
        });
        let star = json!({
            "$type": "io.atcr.sailor.star", "subject": { "did": alice(), "repository": repository },
            "createdAt": "2026-06-01T00:00:00Z",
        });
        let of_alice = vec![
            pushed(&image()),
            pushed(&index_manifest()),
            pushed(&sbom()),
            tagged("latest", &index_manifest()),
            tagged("v1", &image()),
            written(Collection::Page, page_rkey(&repository), page.clone()),
        ];
        let list = blob_ref(&report(), "application/vnd.atcr.vulnerabilities+json");
        let sbom = blob_ref(&Bytes::from_static(b"{}"), "application/spdx+json");
        let of_hold = vec![scanned(json!({ "vulnReportBlob": list, "sbomBlob": sbom }))];
        let of_bob = vec![written(Collection::Star, star_rkey(&alice(), &repository), star)];
        let known = |did: Did, handle: &str| {
            Event::Identity(IdentityChange {
                did,
                handle: Some(handle.parse().unwrap()),
                pds: Some("https://pds.example".to_owned()),
                document: None,
            })
        };
        let events = [
            known(alice(), "alice.example"),
            known(bob(), "bob.example"),
            known(hold(), "hold.example"),
            commit(alice(), 1, Since::Nothing, of_alice),
            commit(bob(), 1, Since::Nothing, of_bob),
            commit(hold(), 1, Since::Nothing, of_hold),
        ];
        index.apply(&events, None).await.unwrap();
        let base = "https://registry.example".parse().unwrap();
        let people = Arc::new(People::new(index.clone(), [(page_rkey(&repository), page)]));
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("webhooks.sqlite"), SealingKey::new(&[7; 32]));
        let egress = Egress::new(EgressPolicy::development()).unwrap();
        let options = WebhookOptions::default();
        let webhooks = Webhooks::open(&path, key, index.clone(), egress, &base, options).await.unwrap();
        let content = Bytestore {
            blobs: BTreeMap::from([(Digest::sha256(&config()), config())]),
            files: BTreeMap::from([(cid_for_raw(&report()).to_string(), report())]),
        };
        let ui = WebUi::new(index.clone(), &base, "Registry of tests")
            .with_visitors(people.clone(), people.clone())
            .with_content(Arc::new(content))
            .with_webhooks(webhooks);
        let router = set_up(ui, &index).router();
        Self { index, people, router, _folder: folder }
    }

    /// Sends what a browser of `who` sends, who may be nobody.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        who: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Page {
        let mut request = Request::builder().method(method).uri(path);
        if !who.is_empty() {
            request = request.header("cookie", format!("session={who}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        read(response).await
    }

    /// A page as somebody sees it.
    pub(crate) async fn get_as(&self, who: &str, path: &str) -> Page {
        self.send(Method::GET, path, who, &[], Body::empty()).await
    }

    /// Sends a form of a page.
    pub(crate) async fn post(&self, who: &str, path: &str, fields: &[(&str, &str)]) -> Page {
        let token = format!("token of {who}");
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("csrf", &token)
            .extend_pairs(fields)
            .finish();
        let headers =
            [("content-type", "application/x-www-form-urlencoded"), ("origin", "https://registry.example")];
        self.send(Method::POST, path, who, &headers, body).await
    }

    /// Sends the form of the page on which a repository is edited.
    pub(crate) async fn post_page(&self, who: &str, fields: &[(&str, &[u8])]) -> Page {
        let mut body = Vec::new();
        let token = format!("token of {who}");
        let common: [(&str, &[u8]); 3] =
            [("csrf", token.as_bytes()), ("owner", b"alice.example"), ("repository", b"tools/app")];
        for (name, value) in common.iter().chain(fields) {
            let file = if *name == "avatar" { "; filename=\"a.png\"" } else { "" };
            body.extend_from_slice(
                format!("--line\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes(),
            );
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--line--\r\n");
        let headers = [("content-type", "multipart/form-data; boundary=line")];
        self.send(Method::POST, "/actions/page", who, &headers, body).await
    }

    pub(crate) async fn response(&self, path: &str) -> http::Response<Body> {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        read(self.response(path).await).await
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        let page = self.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        serde_json::from_str(&page.body).unwrap()
    }
}

async fn read(response: http::Response<Body>) -> Page {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    Page { status: parts.status, headers: parts.headers, body }
}
