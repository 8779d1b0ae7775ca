use super::data::BlobRef;
use super::lenient;
use super::typed::record;
use crate::oci::RepositoryName;
use crate::syntax::{Datetime, RecordKey};

record! {
    "io.atcr.repo.page";
    /// What is shown of a repository, in its owner's repo under [`page_rkey`](super::page_rkey).
    pub struct RepoPageRecord {
        /// The repository, without its owner.
        pub repository: RepositoryName,
        /// Markdown, at most 100,000 bytes.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub description: Option<String>,
        /// PNG, JPEG or WebP of at most 3 MB.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub avatar: Option<BlobRef>,
        /// Whether its owner wrote it, so that a push must not overwrite it from annotations.
        #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "lenient::is_false")]
        pub user_edited: bool,
        /// When it was made.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
        /// When it was last changed.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub updated_at: Datetime,
    }
}

impl RepoPageRecord {
    /// The key of the record.
    pub fn rkey(&self) -> RecordKey {
        super::page_rkey(&self.repository)
    }
}
