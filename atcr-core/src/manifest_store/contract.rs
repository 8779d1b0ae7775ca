//! What every [`ManifestStore`] must do, as a function that a test calls with an implementation.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ManifestStore, Page};
use crate::access::Access;
use crate::error::StoreError;
use crate::oci::{Algorithm, Digest, Manifest, MediaType, Reference, Tag};

/// Runs the suite. `here` and `elsewhere` are one caller at two repositories, who may do everything in both; nothing
/// was ever pushed to either.
pub async fn check(store: &dyn ManifestStore, here: &Access, elsewhere: &Access) {
    let suite = Suite { store, here, elsewhere };
    suite.knows_nothing_at_first().await;
    suite.keeps_every_byte().await;
    suite.lists_tags_in_byte_order_and_in_pages().await;
    suite.moves_and_deletes_tags().await;
    suite.deletes_a_manifest_with_its_tags().await;
    suite.lists_referrers().await;
    suite.keeps_repositories_apart().await;
}

struct Suite<'a> {
    store: &'a dyn ManifestStore,
    here: &'a Access,
    elsewhere: &'a Access,
}

fn manifest_of(json: String, media_type: &str, algorithm: Algorithm) -> Manifest {
    let bytes = Bytes::from(json);
    let media_type = media_type.parse().expect("a media type");
    Manifest { digest: Digest::of(algorithm, &bytes), media_type, bytes }
}

/// An image that differs with each name. Its spelling is one that no serialiser would choose, with fields that no
/// schema has.
fn image(name: &str) -> Manifest {
    let (config, layer) = (Digest::sha256(name.as_bytes()), Digest::sha256(b"layer"));
    let json = format!(
        "{{ \"schemaVersion\":2,\n\t\"x-unknown\": [1.50, {{\"\\u0061\": null}}],\
         \"config\":{{\"size\":1,\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{config}\"}},\
         \"layers\":[{{\"digest\":\"{layer}\",\"size\":5,\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\"}}] }}\n"
    );
    manifest_of(json, MediaType::OCI_MANIFEST, Algorithm::Sha256)
}

fn artifact(name: &str, subject: &Digest, artifact_type: Option<&str>) -> Manifest {
    let artifact_type = artifact_type.map(|t| format!("\"artifactType\":\"{t}\",")).unwrap_or_default();
    let config = Digest::sha256(b"{}");
    let json = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",{artifact_type}\
         \"config\":{{\"mediaType\":\"application/vnd.example.config\",\"digest\":\"{config}\",\"size\":2}},\"layers\":[],\
         \"subject\":{{\"mediaType\":\"{}\",\"digest\":\"{subject}\",\"size\":9}},\"annotations\":{{\"name\":\"{name}\"}}}}",
        MediaType::OCI_MANIFEST,
        MediaType::OCI_MANIFEST,
    );
    manifest_of(json, MediaType::OCI_MANIFEST, Algorithm::Sha256)
}

fn tag(text: &str) -> Tag {
    text.parse().expect("a tag")
}

fn tags(texts: &[&str]) -> Vec<Tag> {
    texts.iter().map(|text| tag(text)).collect()
}

impl Suite<'_> {
    async fn put(&self, manifest: &Manifest, at: &[&str]) {
        self.store.put(self.here, manifest.clone(), &tags(at)).await.expect("a manifest is put");
    }

    async fn assert_has(&self, reference: impl Into<Reference>, manifest: &Manifest) {
        let reference = reference.into();
        let got = self.store.get(self.here, &reference).await;
        assert_eq!(got.as_ref().ok(), Some(manifest), "{reference}: {got:?}");
        let head = self.store.head(self.here, &reference).await.expect("what can be got has a head");
        assert_eq!(
            (head.digest, head.size, &head.media_type),
            (manifest.digest, manifest.bytes.len() as u64, &manifest.media_type)
        );
    }

    async fn assert_has_not(&self, access: &Access, reference: impl Into<Reference>) {
        let reference = reference.into();
        let got = self.store.get(access, &reference).await;
        let unknown = matches!(got, Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)));
        assert!(unknown, "{reference} is not there, but get gives {got:?}");
        let head = self.store.head(access, &reference).await;
        let unknown = matches!(head, Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)));
        assert!(unknown, "{reference} is not there, but head gives {head:?}");
    }

    async fn page(&self, limit: Option<usize>, after: Option<&str>) -> (Vec<String>, bool) {
        let page = Page { limit, after: after.map(str::to_owned) };
        let listing = self.store.tags(self.here, &page).await.expect("the tags are listed");
        (listing.items.iter().map(Tag::to_string).collect(), listing.more)
    }

    async fn knows_nothing_at_first(&self) {
        let absent = Digest::sha256(b"absent");
        self.assert_has_not(self.here, absent).await;
        self.assert_has_not(self.here, tag("latest")).await;
        let listed = self.store.tags(self.here, &Page::default()).await;
        assert!(matches!(listed, Err(StoreError::RepositoryUnknown(_))), "no repository, but {listed:?}");
        let referrers = self.store.referrers(self.here, &absent).await;
        assert!(referrers.as_ref().is_ok_and(Vec::is_empty), "no repository, but {referrers:?}");
        for deleted in [
            self.store.delete(self.here, &absent).await,
            self.store.delete_tag(self.here, &tag("latest")).await,
        ] {
            let unknown = matches!(deleted, Err(StoreError::NotFound(_) | StoreError::RepositoryUnknown(_)));
            assert!(unknown, "nothing to delete, but {deleted:?}");
        }
    }

    async fn keeps_every_byte(&self) {
        let untagged = image("untagged");
        self.put(&untagged, &[]).await;
        self.assert_has(untagged.digest, &untagged).await;
        assert_eq!(
            self.page(None, None).await,
            (vec![], false),
            "a repository without tags has an empty list"
        );

        let tagged = image("tagged");
        self.put(&tagged, &["one", "two"]).await;
        self.assert_has(tagged.digest, &tagged).await;
        self.assert_has(tag("one"), &tagged).await;
        self.assert_has(tag("two"), &tagged).await;
        self.put(&tagged, &["one"]).await;
        self.assert_has(tag("one"), &tagged).await;

        for media_type in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
            let child = untagged.digest;
            let json = format!(
                "{{\"schemaVersion\": 2, \"manifests\": [{{\"mediaType\": \"{}\", \"digest\": \"{child}\", \"size\": 7}}], \
                 \"x\": \"{media_type}\"}}",
                MediaType::OCI_MANIFEST
            );
            let index = manifest_of(json, media_type, Algorithm::Sha256);
            self.put(&index, &["index"]).await;
            self.assert_has(tag("index"), &index).await;
        }
        let bytes = String::from_utf8(image("wide").bytes.to_vec()).expect("it is JSON");
        let wide = manifest_of(bytes, MediaType::OCI_MANIFEST, Algorithm::Sha512);
        self.put(&wide, &["wide"]).await;
        self.assert_has(wide.digest, &wide).await;
        self.assert_has(tag("wide"), &wide).await;
        for name in ["one", "two", "index", "wide"] {
            self.store.delete_tag(self.here, &tag(name)).await.expect("a tag is deleted");
        }
    }

    async fn lists_tags_in_byte_order_and_in_pages(&self) {
        let sorted = ["1.0", "1.0-alpine", "1.0.1", "1.0_x", "10", "2", "A", "Z", "_", "a", "a-b", "ab", "b"];
        let manifest = image("tags");
        let mut shuffled = sorted;
        shuffled.reverse();
        self.put(&manifest, &shuffled).await;
        let all: Vec<String> = sorted.iter().map(ToString::to_string).collect();
        assert_eq!(self.page(None, None).await, (all.clone(), false));
        assert_eq!(self.page(Some(sorted.len()), None).await, (all.clone(), false), "exactly one page");
        assert_eq!(self.page(Some(0), None).await, (vec![], false), "nothing asked for, nothing more");
        assert_eq!(self.page(Some(2), None).await, (all[..2].to_vec(), true));
        assert_eq!(self.page(Some(2), Some("1.0-alpine")).await, (all[2..4].to_vec(), true));
        assert_eq!(
            self.page(None, Some("1.0.0")).await,
            (all[2..].to_vec(), false),
            "`after` need not exist"
        );
        assert_eq!(self.page(Some(5), Some("b")).await, (vec![], false));
        let (mut paged, mut after) = (Vec::new(), None::<String>);
        loop {
            let (items, more) = self.page(Some(3), after.as_deref()).await;
            assert!(!more || items.len() == 3, "a page before the last one is full");
            paged.extend(items);
            after = paged.last().cloned();
            if !more {
                break;
            }
        }
        assert_eq!(paged, all, "the pages make up the list");
        self.store.delete(self.here, &manifest.digest).await.expect("a manifest is deleted");
        assert_eq!(self.page(None, None).await, (vec![], false), "the tags went with their manifest");
    }

    async fn moves_and_deletes_tags(&self) {
        let (old, new) = (image("old"), image("new"));
        self.put(&old, &["moving", "staying"]).await;
        self.put(&new, &["moving"]).await;
        self.assert_has(tag("moving"), &new).await;
        self.assert_has(tag("staying"), &old).await;
        self.store.delete_tag(self.here, &tag("moving")).await.expect("a tag is deleted");
        self.assert_has_not(self.here, tag("moving")).await;
        self.assert_has(new.digest, &new).await;
        let again = self.store.delete_tag(self.here, &tag("moving")).await;
        assert!(matches!(again, Err(StoreError::NotFound(_))), "a second deletion gives {again:?}");
        self.put(&old, &["moving"]).await;
        self.assert_has(tag("moving"), &old).await;
    }

    async fn deletes_a_manifest_with_its_tags(&self) {
        let (gone, kept) = (image("gone"), image("kept"));
        self.put(&gone, &["gone-1", "gone-2", "moved-away"]).await;
        self.put(&kept, &["kept", "moved-away"]).await;
        self.store.delete(self.here, &gone.digest).await.expect("a manifest is deleted");
        self.assert_has_not(self.here, gone.digest).await;
        self.assert_has_not(self.here, tag("gone-1")).await;
        self.assert_has_not(self.here, tag("gone-2")).await;
        self.assert_has(tag("kept"), &kept).await;
        self.assert_has(tag("moved-away"), &kept).await;
        let again = self.store.delete(self.here, &gone.digest).await;
        assert!(matches!(again, Err(StoreError::NotFound(_))), "a second deletion gives {again:?}");
        self.put(&gone, &[]).await;
        self.assert_has(gone.digest, &gone).await;
        self.assert_has_not(self.here, tag("gone-1")).await;
    }

    async fn lists_referrers(&self) {
        let subject = image("subject");
        let typed = artifact("typed", &subject.digest, Some("application/vnd.example.sbom"));
        let untyped = artifact("untyped", &subject.digest, None);
        // A referrer may come before its subject.
        self.put(&typed, &[]).await;
        self.put(&subject, &[]).await;
        self.put(&untyped, &["untyped"]).await;
        self.put(&untyped, &[]).await;
        let listed = self.store.referrers(self.here, &subject.digest).await.expect("referrers are listed");
        let by_digest: BTreeMap<_, _> = listed.iter().map(|entry| (entry.digest, entry)).collect();
        assert_eq!((listed.len(), by_digest.len()), (2, 2), "each referrer is listed once: {listed:?}");
        for (manifest, name, artifact_type) in [
            (&typed, "typed", "application/vnd.example.sbom"),
            (&untyped, "untyped", "application/vnd.example.config"),
        ] {
            let entry = by_digest.get(&manifest.digest).expect("the referrer is listed");
            assert_eq!(entry.size, manifest.bytes.len() as u64);
            assert_eq!(entry.media_type, manifest.media_type);
            assert_eq!(entry.artifact_type.as_deref(), Some(artifact_type));
            assert_eq!(entry.annotations.get("name").map(String::as_str), Some(name));
        }
        assert_eq!(
            self.store.referrers(self.here, &subject.digest).await.ok(),
            Some(listed),
            "a stable order"
        );
        self.store.delete(self.here, &subject.digest).await.expect("a subject is deleted");
        self.store.delete(self.here, &untyped.digest).await.expect("a referrer is deleted");
        let left = self.store.referrers(self.here, &subject.digest).await.expect("referrers are listed");
        let left: Vec<_> = left.iter().map(|entry| entry.digest).collect();
        assert_eq!(left, [typed.digest], "only the deleted referrer is gone");
    }

    async fn keeps_repositories_apart(&self) {
        let manifest = image("apart");
        self.put(&manifest, &["apart"]).await;
        self.assert_has_not(self.elsewhere, manifest.digest).await;
        self.assert_has_not(self.elsewhere, tag("apart")).await;
        self.store.put(self.elsewhere, manifest.clone(), &tags(&["apart"])).await.expect("a manifest is put");
        self.store.delete(self.elsewhere, &manifest.digest).await.expect("a manifest is deleted");
        self.assert_has(tag("apart"), &manifest).await;

        let listing = self.store.repositories(&self.here.principal, &Page::default()).await;
        let names = listing.expect("the repositories are listed").items;
        assert!(names.contains(&self.here.repository), "{names:?} has {}", self.here.repository);
        assert!(names.is_sorted_by(|a, b| a.as_str() < b.as_str()), "{names:?} is in byte order");
        let first = Page { limit: Some(1), after: None };
        let first = self.store.repositories(&self.here.principal, &first).await.expect("a page is given");
        assert_eq!(first.items, names[..1]);
        assert_eq!(first.more, names.len() > 1);
    }
}
