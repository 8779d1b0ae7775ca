//! A registry over a store of one's own: manifests in memory, but no tag is ever moved or removed.
//!
//! `cargo run --example custom_store`. The contract of a store is checked by `atcr_core::manifest_store::contract`
//! (feature `contract` of `atcr-core`); this one breaks it on purpose, where it says that tags move.

use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::authorizer::OpenAuthorizer;
use atcr_core::blob_store::MemoryBlobStore;
use atcr_core::manifest_store::{Listing, ManifestStore, MemoryManifestStore, Page, Referrer};
use atcr_core::oci::{Digest, Manifest, Reference, RepositoryName, Tag};
use atcr_core::{Access, Principal, StoreError};
use atcr_registry::Registry;
use axum::body::Body;
use http::Request;

/// What a tag names stays what it names.
#[derive(Debug, Default)]
struct ImmutableTags {
    inner: MemoryManifestStore,
}

#[async_trait]
impl ManifestStore for ImmutableTags {
    async fn get(&self, access: &Access, reference: &Reference) -> Result<Manifest, StoreError> {
        self.inner.get(access, reference).await
    }

    async fn put(&self, access: &Access, manifest: Manifest, tags: &[Tag]) -> Result<(), StoreError> {
        for tag in tags {
            match self.inner.head(access, &tag.clone().into()).await {
                Ok(there) if there.digest != manifest.digest => {
                    return Err(StoreError::Denied(format!(
                        "the tag {tag} is taken; push under another one"
                    )));
                }
                Ok(_) | Err(StoreError::NotFound(_)) => {}
                Err(other) => return Err(other),
            }
        }
        self.inner.put(access, manifest, tags).await
    }

    async fn delete(&self, _: &Access, _: &Digest) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("nothing is deleted here".to_owned()))
    }

    async fn delete_tag(&self, _: &Access, _: &Tag) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("nothing is deleted here".to_owned()))
    }

    async fn tags(&self, access: &Access, page: &Page) -> Result<Listing<Tag>, StoreError> {
        self.inner.tags(access, page).await
    }

    async fn referrers(&self, access: &Access, subject: &Digest) -> Result<Vec<Referrer>, StoreError> {
        self.inner.referrers(access, subject).await
    }

    async fn repositories(
        &self,
        principal: &Principal,
        page: &Page,
    ) -> Result<Listing<RepositoryName>, StoreError> {
        self.inner.repositories(principal, page).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::builder()
        .manifests(Arc::new(ImmutableTags::default()))
        .blobs(Arc::new(MemoryBlobStore::new()))
        .authorizer(Arc::new(OpenAuthorizer::default()))
        .build()?;
    let index = |name| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"x":"{name}"}}"#
        )
    };
    for name in ["first", "first", "second"] {
        let request = Request::put("/v2/app/manifests/1.0").body(Body::from(index(name)))?;
        let answer = registry.handle(request).await;
        println!("push of the {name}: {}", answer.status());
    }
    Ok(())
}
