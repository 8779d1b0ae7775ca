//! What the back ends in buckets have in common: the names of their objects, and how a listing is counted.
//!
//! ```text
//! docker/registry/v2/blobs/sha256/ab/<hex>/data   blobs in the layout of CNCF distribution
//! atcr/blobs/<id>/data                            an upload's object, from its completion on
//! atcr/blobs/<id>/location                        says that it stays, and under which name distribution would have it
//! ```
//!
//! An object without a location belongs to an upload that has not come to its end, and goes when that is aborted. The
//! locations are what a lost database can be made of again.

use data_encoding::HEXLOWER;

use super::{ObjectKey, StorageError, StorageUpload, Usage};

/// Where the blobs of distribution's layout are.
pub(super) const DISTRIBUTION: &str = "docker/registry/v2/blobs/";
/// Where objects stand that are not in distribution's layout.
pub(super) const UPLOADED: &str = "atcr/blobs/";

/// The random name that an upload has in the bucket. A key is never used twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UploadName(String);

impl UploadName {
    /// Draws a name.
    pub(super) fn random() -> Result<Self, StorageError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| StorageError::Failed {
            doing: "drawing an upload id".into(),
            source: error.to_string().into(),
        })?;
        Ok(Self(HEXLOWER.encode(&id)))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let right = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        right.then(|| Self(text.to_owned()))
    }

    #[cfg(feature = "azure")]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Joined with what the storage calls the upload.
    pub(super) fn upload(&self, storage_id: &str) -> StorageUpload {
        StorageUpload(format!("{}.{storage_id}", self.0))
    }

    /// Taken apart again.
    pub(super) fn of_upload(upload: &StorageUpload) -> Result<(Self, &str), StorageError> {
        let parts = upload.0.split_once('.').and_then(|(name, id)| Some((Self::parse(name)?, id)));
        parts.ok_or_else(|| StorageError::UploadUnknown(upload.clone()))
    }

    /// The name in the key of a completed object; `None` when the key is another one.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        Self::parse(key.strip_prefix(UPLOADED)?.strip_suffix("/data")?)
    }

    /// The key of the completed object.
    pub(super) fn data(&self) -> ObjectKey {
        self.key("data")
    }

    /// The key of its location.
    pub(super) fn location(&self) -> ObjectKey {
        self.key("location")
    }

    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::try_from(format!("{UPLOADED}{}/{name}", self.0)).expect("a name is hex")
    }
}

/// Counts a listing, in any order of its prefixes but with the keys of one prefix in theirs.
#[derive(Debug, Default)]
pub(super) struct Counter {
    usage: Usage,
    /// An object that counts if its location follows.
    waiting: Option<(UploadName, u64)>,
}

impl Counter {
    pub(super) fn add(&mut self, key: &str, size: u64) {
        if let Some(name) = UploadName::of_key(key) {
            self.waiting = Some((name, size));
        } else if key.starts_with(DISTRIBUTION) && key.ends_with("/data") {
            self.count(size);
        } else if let Some((name, size)) = self.waiting.take_if(|(name, _)| name.location().as_str() == key) {
            drop(name);
            self.count(size);
        }
    }

    fn count(&mut self, size: u64) {
        self.usage.objects += 1;
        self.usage.bytes += size;
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_uploads_and_keys() {
        let name = UploadName::random().unwrap();
        let upload = name.upload("2~a.b/c");
        assert_eq!(UploadName::of_upload(&upload).unwrap(), (name.clone(), "2~a.b/c"));
        assert_eq!(UploadName::of_key(name.data().as_str()), Some(name.clone()));
        assert_eq!(UploadName::of_key(name.location().as_str()), None);
        for bad in ["", "../../etc", "x.y", &"a".repeat(33), &format!("{}A.x", "a".repeat(31))] {
            assert!(UploadName::of_upload(&StorageUpload(bad.to_owned())).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_may_not_stay_does_not_count() {
        let (kept, open) = ("1".repeat(32), "2".repeat(32));
        let mut counter = Counter::default();
        for (key, size) in [
            (format!("atcr/blobs/{kept}/data"), 5),
            (format!("atcr/blobs/{kept}/location"), 70),
            (format!("atcr/blobs/{open}/data"), 7),
            ("atcr/blobs/3/location".to_owned(), 70),
            ("docker/registry/v2/blobs/sha256/ab/abcd/data".to_owned(), 11),
            ("docker/registry/v2/repositories/x/_layers/sha256/abcd/link".to_owned(), 71),
        ] {
            counter.add(&key, size);
        }
        assert_eq!(counter.usage(), Usage { objects: 2, bytes: 16 });
    }
}
