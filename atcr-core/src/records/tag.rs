use super::lenient;
use super::typed::record;
use super::{ManifestRecord, Record};
use crate::oci::{Algorithm, Digest, MediaType, RepositoryName, Tag};
use crate::syntax::{AtUri, Datetime, Did, RecordKey};

record! {
    "io.atcr.tag";
    /// A tag in the repo of the owner of the repository. A new one goes under [`tag_rkey`](super::tag_rkey); one
    /// that exists keeps its key, whatever it is.
    pub struct TagRecord {
        /// The repository, without its owner.
        pub repository: RepositoryName,
        /// The tag.
        pub tag: Tag,
        /// The record of the manifest.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub manifest: Option<AtUri>,
        /// The digest of the manifest; the older way to say it. Read both with [`TagRecord::manifest_digest`].
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub manifest_digest: Option<Digest>,
        /// The media type of the manifest.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub media_type: Option<MediaType>,
        /// When the tag was last moved.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub updated_at: Option<Datetime>,
        /// When the tag was made; what the lexicon of 2025 asked for.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub created_at: Option<Datetime>,
    }
}

impl TagRecord {
    /// A tag that points at the manifest with this digest in the repo of `owner`, in the form that readers of every
    /// version understand. To move a tag, keep the `created_at` of the old record.
    pub fn new(
        owner: &Did,
        repository: RepositoryName,
        tag: Tag,
        manifest: &Digest,
        media_type: Option<MediaType>,
        now: Datetime,
    ) -> Self {
        Self {
            repository,
            tag,
            manifest: Some(ManifestRecord::uri(owner, &super::manifest_rkey(manifest))),
            manifest_digest: Some(*manifest),
            media_type,
            updated_at: Some(now.clone()),
            created_at: Some(now),
        }
    }

    /// The digest of the manifest that the tag points at: the key in `manifest` when that is one of
    /// [`manifest_rkey`](super::manifest_rkey), else `manifestDigest`. `None` in a record with neither; the manifest
    /// record that `manifest` names may still say it.
    pub fn manifest_digest(&self) -> Option<Digest> {
        let from_uri = self.manifest.as_ref().and_then(|uri| {
            let is_manifest = uri.collection()?.as_str() == ManifestRecord::NSID;
            if is_manifest { digest_of_rkey(&uri.rkey()?) } else { None }
        });
        from_uri.or(self.manifest_digest)
    }

    /// When the tag was last written, as far as the record says.
    pub fn written_at(&self) -> Option<&Datetime> {
        self.updated_at.as_ref().or(self.created_at.as_ref())
    }

    /// The key for a new record.
    pub fn rkey(&self) -> RecordKey {
        super::tag_rkey(&self.repository, &self.tag)
    }
}

/// Reads the key of a manifest record; 64 hex digits are sha256, 128 are sha512.
fn digest_of_rkey(rkey: &RecordKey) -> Option<Digest> {
    let algorithm = match rkey.as_str().len() {
        64 => Algorithm::Sha256,
        128 => Algorithm::Sha512,
        _ => return None,
    };
    format!("{algorithm}:{rkey}").parse().ok()
}
