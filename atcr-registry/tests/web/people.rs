//! Alice and bob, who are signed in by a cookie, and their repos in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use atcr_core::manifest_store::{Listing, ManifestStore, Page, Referrer};
use atcr_core::oci::{Digest, Manifest, Reference, RepositoryName, Tag};
use atcr_core::records::{BlobRef, manifest_rkey, tag_rkey};
use atcr_core::syntax::{Did, Nsid, RecordKey};
use atcr_core::{Access, Principal, StoreError};
use atcr_registry::atproto::Change;
use atcr_registry::index::{Collection, Index, RecordOp, Since};
use atcr_registry::web::{Content, Person, Visitors};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::world::{alice, commit, image, index_manifest, sbom, tagged, written};

pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand more";

type Key = (Did, String, String);

#[derive(Debug)]
pub(crate) struct People {
    index: Index,
    /// What is in their repos, but for manifests and tags.
    pub(crate) records: Mutex<BTreeMap<Key, Value>>,
    number: AtomicU64,
}

impl People {
    pub(crate) fn new(index: Index, pages: impl IntoIterator<Item = (RecordKey, Value)>) -> Self {
        let page = |(rkey, value): (RecordKey, Value)| {
            ((alice(), "io.atcr.repo.page".to_owned(), rkey.to_string()), value)
        };
        let records = pages.into_iter().map(page).collect();
        Self { index, records: Mutex::new(records), number: AtomicU64::new(100) }
    }

    pub(crate) fn of(&self, did: &Did, collection: &str) -> Vec<Value> {
        let records = self.records.lock().unwrap();
        let of = records.iter().filter(|((owner, nsid, _), _)| owner == did && nsid == collection);
        of.map(|(_, value)| value.clone()).collect()
    }

    async fn wrote(&self, did: &Did, ops: Vec<RecordOp>) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.index.apply(&[commit(did.clone(), number, Since::Unknown, ops)], None).await.unwrap();
    }
}

#[async_trait]
impl Visitors for People {
    async fn signed_in(&self, headers: &HeaderMap) -> Result<Option<Person>, StoreError> {
        let cookies = headers.get("cookie").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let who = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
        Ok(who.map(|who| Person {
            did: format!("did:plc:{who}").parse().unwrap(),
            handle: Some(format!("{who}.example").parse().unwrap()),
            form_token: format!("token of {who}"),
        }))
    }

    fn sign_in_path(&self, return_to: &str) -> String {
        format!("/sign-in?return_to={return_to}")
    }

    fn sign_out_path(&self) -> &'static str {
        "/sign-out"
    }

    async fn edit(
        &self,
        did: &Did,
        collection: &Nsid,
        rkey: &RecordKey,
        change: Change<'_>,
    ) -> Result<(), StoreError> {
        let key = (did.clone(), collection.to_string(), rkey.to_string());
        let of = Collection::of(collection.as_str()).unwrap();
        let op = {
            let mut records = self.records.lock().unwrap();
            if let Some(value) = change(records.get(&key).cloned()) {
                records.insert(key, value.clone());
                written(of, rkey.clone(), value)
            } else {
                records.remove(&key);
                RecordOp::gone(of, rkey.clone())
            }
        };
        self.wrote(did, vec![op]).await;
        Ok(())
    }

    async fn upload(&self, _: &Did, media_type: &str, bytes: Bytes) -> Result<BlobRef, StoreError> {
        let cid = "bafkreibme22gw2h7y2h7tg2fhqotaqjucnbc24deqo72b6mkl2egezxhvy";
        let cid = atcr_core::records::data::parse_cid(cid).unwrap();
        Ok(BlobRef::new(cid, media_type, bytes.len() as u64))
    }

    async fn delete_all(&self, did: &Did, collections: &[Nsid]) -> Result<usize, StoreError> {
        let gone: Vec<Key> = {
            let mut records = self.records.lock().unwrap();
            let named = |nsid: &String| collections.iter().any(|collection| collection.as_str() == nsid);
            let gone: Vec<Key> =
                records.keys().filter(|(owner, nsid, _)| owner == did && named(nsid)).cloned().collect();
            records.retain(|key, _| !gone.contains(key));
            gone
        };
        let op = |(_, nsid, rkey): &Key| RecordOp::gone(Collection::of(nsid).unwrap(), rkey.parse().unwrap());
        self.wrote(did, gone.iter().map(op).collect()).await;
        Ok(gone.len())
    }
}

/// A change by the owner, as nobody else may.
fn owner(access: &Access) -> Did {
    assert_eq!(access.principal.did(), Some(&alice()));
    assert_eq!(access.repository.as_str(), "did-plc-alice/tools/app");
    alice()
}

fn name() -> RepositoryName {
    "tools/app".parse().unwrap()
}

#[async_trait]
impl ManifestStore for People {
    async fn get(&self, _: &Access, reference: &Reference) -> Result<Manifest, StoreError> {
        let all = [image(), index_manifest(), sbom()];
        let found = all.into_iter().find(|manifest| *reference == Reference::Digest(manifest.digest));
        found.ok_or_else(|| StoreError::NotFound("the manifest".to_owned()))
    }

    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError> {
        let ops = tags.iter().map(|tag| tagged(tag.as_str(), &manifest)).collect();
        self.wrote(&owner(access), ops).await;
        Ok(())
    }

    async fn delete(&self, access: &Access, digest: &Digest) -> Result<(), StoreError> {
        let did = owner(access);
        let tags = self.index.tags_of(&did, &name(), digest).await.unwrap();
        let mut ops: Vec<RecordOp> =
            tags.iter().map(|tag| RecordOp::gone(Collection::Tag, tag_rkey(&name(), tag))).collect();
        ops.push(RecordOp::gone(Collection::Manifest, manifest_rkey(digest)));
        self.wrote(&did, ops).await;
        Ok(())
    }

    async fn delete_tag(&self, access: &Access, tag: &Tag) -> Result<(), StoreError> {
        let ops = vec![RecordOp::gone(Collection::Tag, tag_rkey(&name(), tag))];
        self.wrote(&owner(access), ops).await;
        Ok(())
    }

    async fn tags(&self, _: &Access, _: &Page) -> Result<Listing<Tag>, StoreError> {
        unreachable!("pages ask the index")
    }

    async fn referrers(&self, _: &Access, _: &Digest) -> Result<Vec<Referrer>, StoreError> {
        unreachable!("pages ask the index")
    }

    async fn repositories(&self, _: &Principal, _: &Page) -> Result<Listing<RepositoryName>, StoreError> {
        unreachable!("pages ask the index")
    }
}

/// Blobs by their digest, and files of PDSs by their CID; what else is asked of them is a picture, always the same.
#[derive(Debug)]
pub(crate) struct Bytestore {
    pub(crate) blobs: BTreeMap<Digest, Bytes>,
    pub(crate) files: BTreeMap<String, Bytes>,
}

#[async_trait]
impl Content for Bytestore {
    async fn blob(
        &self,
        _: &Did,
        _: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<Bytes, StoreError> {
        let blob = self.blobs.get(digest).ok_or_else(|| StoreError::NotFound("the blob".to_owned()))?;
        assert!(blob.len() <= limit);
        Ok(blob.clone())
    }

    async fn picture(&self, _: &Did, cid: &str, limit: usize) -> Result<Bytes, StoreError> {
        let file = self.files.get(cid).cloned().unwrap_or(Bytes::from_static(PNG));
        if file.len() > limit { Err(StoreError::TooLarge { limit: limit as u64 }) } else { Ok(file) }
    }
}
