//! What the records of a repository's log come to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Listing, Page};
use super::log::{self, Change, Log, Record};
use crate::error::StoreError;
use crate::oci::{Digest, MediaType, Reference, Tag};

/// A log is made anew when it has more bytes than this that are of no use, and more of them than of use.
const COMPACT_BYTES: u64 = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Index {
    log: Option<Log>,
    /// Where the last record ends that is in the index.
    end: u64,
    /// How many of the bytes before are of manifests that are there.
    live: u64,
    manifests: HashMap<Digest, Entry>,
    tags: BTreeMap<Tag, Digest>,
    /// Each subject with each manifest that refers to it.
    referrers: BTreeSet<(Digest, Digest)>,
}

/// A manifest, and where its bytes are.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) media_type: MediaType,
    pub(super) size: u64,
    subject: Option<Digest>,
    file: Arc<File>,
    at: u64,
    /// The length of its record.
    record: u64,
}

impl Entry {
    /// The bytes, which are checked. It blocks.
    pub(super) fn read(&self, digest: &Digest) -> Result<Bytes, StoreError> {
        let bytes = log::read(&self.file, self.at, self.size, digest)?;
        let damaged = || format!("the manifest {digest} is damaged in the storage");
        bytes.ok_or_else(|| StoreError::internal(damaged()))
    }
}

impl Index {
    /// The inode and the length of the file when it was read.
    pub(super) fn seen(&self) -> Option<(u64, u64)> {
        self.log.as_ref().map(|log| (log.inode(), log.len()))
    }

    /// Whether the log is the same file, longer or not.
    pub(super) fn is_of(&self, log: &Log) -> bool {
        self.log.as_ref().is_some_and(|own| own.inode() == log.inode()) && log.len() >= self.end
    }

    /// Where the next record goes.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Takes in the records that the index does not have.
    pub(super) fn read_on(&mut self, mut log: Log) -> io::Result<()> {
        if let Some(own) = self.log.take().filter(|own| own.inode() == log.inode()) {
            log.file = own.file;
        }
        if self.end == 0 && !log.is_empty() {
            self.end = log.begin()?;
        }
        while let Some(record) = log.record(self.end)? {
            let begin = self.end;
            self.end = record.end;
            self.apply(&log.file, begin, record);
        }
        self.log = Some(log);
        Ok(())
    }

    fn apply(&mut self, file: &Arc<File>, begin: u64, Record { change, body: (at, length), end }: Record) {
        match change {
            Change::Put { digest, media_type, size, subject, tags } => {
                match self.manifests.get_mut(&digest) {
                    Some(entry) => entry.media_type = media_type,
                    // It is here, so it has a body; a log that has none was put together by hand.
                    None if length != size => return,
                    None => {
                        let record = end - begin;
                        self.live += record;
                        self.referrers.extend(subject.map(|subject| (subject, digest)));
                        let entry = Entry { media_type, size, subject, file: Arc::clone(file), at, record };
                        self.manifests.insert(digest, entry);
                    }
                }
                self.tags.extend(tags.into_iter().map(|tag| (tag, digest)));
            }
            Change::Delete { digest } => {
                if let Some(entry) = self.manifests.remove(&digest) {
                    self.live -= entry.record;
                    self.tags.retain(|_, target| *target != digest);
                    if let Some(subject) = entry.subject {
                        self.referrers.remove(&(subject, digest));
                    }
                }
            }
            Change::Untag { tag } => {
                self.tags.remove(&tag);
            }
        }
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.manifests.contains_key(digest)
    }

    pub(super) fn find(&self, reference: &Reference) -> Option<(Digest, Entry)> {
        let digest = match reference {
            Reference::Tag(tag) => self.tags.get(tag)?,
            Reference::Digest(digest) => digest,
        };
        Some((*digest, self.manifests.get(digest)?.clone()))
    }

    pub(super) fn tags(&self, page: &Page) -> Listing<Tag> {
        let from = page.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        page.cut(self.tags.range::<str, _>((from, Bound::Unbounded)).map(|(tag, _)| tag.clone()))
    }

    pub(super) fn referrers(&self, subject: &Digest) -> Vec<(Digest, Entry)> {
        let first = Digest::from_bytes(crate::oci::Algorithm::Sha256, &[0; 32]);
        let from = first.map_or(Bound::Unbounded, |first| Bound::Included((*subject, first)));
        let of_subject = self.referrers.range((from, Bound::Unbounded)).take_while(|(of, _)| of == subject);
        of_subject.filter_map(|(_, digest)| Some((*digest, self.manifests.get(digest)?.clone()))).collect()
    }

    pub(super) fn is_worth_compacting(&self) -> bool {
        let dead = self.end - self.live;
        dead > COMPACT_BYTES && dead > self.live
    }

    /// Records that come to the same, one after the other. It blocks.
    pub(super) fn records(&self) -> impl Iterator<Item = Result<(Change, Bytes), StoreError>> + use<> {
        let mut tags: HashMap<Digest, Vec<Tag>> = HashMap::new();
        for (tag, digest) in &self.tags {
            tags.entry(*digest).or_default().push(tag.clone());
        }
        let manifests: Vec<_> =
            self.manifests.iter().map(|(digest, entry)| (*digest, entry.clone())).collect();
        manifests.into_iter().map(move |(digest, entry)| {
            let body = entry.read(&digest)?;
            let tags = tags.remove(&digest).unwrap_or_default();
            let Entry { media_type, size, subject, .. } = entry;
            Ok((Change::Put { digest, media_type, size, subject, tags }, body))
        })
    }
}
