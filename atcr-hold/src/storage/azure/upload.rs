use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, Method};
use jiff::Timestamp;
use serde::Deserialize;

use super::super::bucket::UploadName;
use super::super::{Object, ObjectKey, OpenUpload, Part, PartNumber, StorageError, StorageUpload};
use super::AzureStorage;
use super::blobs::{CACHE_CONTROL_OF_BLOB, CONTENT_TYPE_OF_BLOB};
use super::client::AzureFailure;
use super::sas::Right;

/// Where uploads stand that go on.
const UPLOADS: &str = "atcr/uploads/";
/// Bytes of chance in a block's name.
const CHANCE: usize = 8;

/// How the parts of an upload become its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Others may be given URLs to write parts, and such a URL is good for overwriting the blob it names. So parts go to
    /// a blob that nobody reads, and are copied from it.
    Staged,
    /// Nobody but the hold can write, so parts go to the object itself.
    Direct,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Direct => "direct",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Staged, Self::Direct].into_iter().find(|kind| kind.name() == name)
    }
}

/// An upload, taken apart.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) name: UploadName,
    pub(super) kind: Kind,
}

impl Upload {
    pub(super) fn of(upload: &StorageUpload) -> Result<Self, StorageError> {
        let (name, kind) = UploadName::of_upload(upload)?;
        let kind = Kind::of(kind).ok_or_else(|| StorageError::UploadUnknown(upload.clone()))?;
        Ok(Self { name, kind })
    }

    /// The blob that parts are put to.
    pub(super) fn blocks(&self) -> ObjectKey {
        match self.kind {
            Kind::Staged => staging(&self.name),
            Kind::Direct => self.name.data(),
        }
    }
}

fn of_upload(name: &UploadName, what: &str) -> ObjectKey {
    ObjectKey::try_from(format!("{UPLOADS}{}/{what}", name.as_str())).expect("a name is hex")
}

fn staging(name: &UploadName) -> ObjectKey {
    of_upload(name, "parts")
}

/// An empty object that is there while the upload is.
fn marker(name: &UploadName, kind: Kind) -> ObjectKey {
    of_upload(name, kind.name())
}

/// The name of a block, which is also the ETag of the part: its number, when it was named, and chance, so that each
/// sending of a part has a block of its own; last whether the part is empty. Azure takes no empty block, so there is one
/// of a byte for it, which does not become part of the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockId(String);

impl BlockId {
    pub(super) fn new(number: PartNumber, empty: bool) -> Result<Self, StorageError> {
        let mut chance = [0; CHANCE];
        getrandom::fill(&mut chance).map_err(|error| StorageError::Failed {
            doing: "naming a block".into(),
            source: error.to_string().into(),
        })?;
        let at = Timestamp::now().as_nanosecond();
        Ok(Self(format!("{number:08x}{at:016x}{}{}", HEXLOWER.encode(&chance), u8::from(empty))))
    }

    fn decode(text: &str) -> Option<(PartNumber, Self)> {
        let id = String::from_utf8(BASE64.decode(text.as_bytes()).ok()?).ok()?;
        let number = PartNumber::new(u32::from_str_radix(id.get(..8)?, 16).ok()?)?;
        let hex = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (id.len() == 25 + 2 * CHANCE && hex).then_some((number, Self(id)))
    }

    fn is_empty(&self) -> bool {
        self.0.ends_with('1')
    }

    /// As the protocol has it.
    pub(super) fn encoded(&self) -> String {
        BASE64.encode(self.0.as_bytes())
    }

    pub(super) fn into_etag(self) -> String {
        self.0
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BlockList {
    committed_blocks: Blocks,
    uncommitted_blocks: Blocks,
}

#[derive(Debug, Default, Deserialize)]
struct Blocks {
    #[serde(rename = "Block", default)]
    block: Vec<Block>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Block {
    name: String,
    size: u64,
}

impl AzureStorage {
    pub(super) async fn begin(&self) -> Result<StorageUpload, StorageError> {
        let name = UploadName::random()?;
        let kind = if self.inner.config.presign { Kind::Staged } else { Kind::Direct };
        self.put_object(&marker(&name, kind), "").await?;
        Ok(name.upload(kind.name()))
    }

    /// Whether the upload goes on.
    pub(super) async fn is_open(&self, upload: &Upload) -> Result<bool, StorageError> {
        Ok(self.size_of(&marker(&upload.name, upload.kind)).await?.is_some())
    }

    /// All parts, with all their sendings.
    async fn sendings(&self, upload: &StorageUpload, of: &Upload) -> Result<Vec<Part>, StorageError> {
        if !self.is_open(of).await? {
            return Err(StorageError::UploadUnknown(upload.clone()));
        }
        let mut url = self.own_url(&of.blocks(), Right::Read);
        url.query_pairs_mut().append_pair("comp", "blocklist").append_pair("blocklisttype", "all");
        let doing = |failure: AzureFailure| failure.doing("listing the parts");
        let list: BlockList = match self.send(Method::GET, &url, &HeaderMap::new(), "").await {
            Ok(list) => self.xml(list).await.map_err(doing)?,
            Err(failure) if failure.is_missing() => BlockList::default(),
            Err(failure) => return Err(doing(failure)),
        };
        let blocks = list.committed_blocks.block.into_iter().chain(list.uncommitted_blocks.block);
        let parts = blocks.filter_map(|block| {
            let (number, id) = BlockId::decode(&block.name)?;
            let size = if id.is_empty() { 0 } else { block.size };
            Some(Part { number, size, etag: id.into_etag() })
        });
        Ok(parts.collect())
    }

    pub(super) async fn parts(&self, upload: &StorageUpload) -> Result<Vec<Part>, StorageError> {
        let mut newest: BTreeMap<PartNumber, Part> = BTreeMap::new();
        for part in self.sendings(upload, &Upload::of(upload)?).await? {
            // The time stands in the name.
            if newest.get(&part.number).is_none_or(|other| other.etag < part.etag) {
                newest.insert(part.number, part);
            }
        }
        Ok(newest.into_values().collect())
    }

    pub(super) async fn complete(
        &self,
        upload: &StorageUpload,
        parts: &[Part],
    ) -> Result<Object, StorageError> {
        let of = Upload::of(upload)?;
        let key = of.name.data();
        if let Some(size) = self.size_of(&key).await? {
            return Ok(Object { key, size });
        }
        let there = self.sendings(upload, &of).await?;
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for part in parts {
            if !there.iter().any(|known| known.number == part.number && known.etag == part.etag) {
                return Err(StorageError::PartUnknown { number: part.number, etag: part.etag.clone() });
            }
            let id = BlockId(part.etag.clone());
            if !id.is_empty() {
                list += &format!("<Latest>{}</Latest>", id.encoded());
            }
        }
        list += "</BlockList>";
        let mut url = self.own_url(&of.blocks(), Right::Write);
        url.query_pairs_mut().append_pair("comp", "blocklist");
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE_OF_BLOB, HeaderValue::from_static("application/octet-stream")),
            // The bytes under a name never change.
            (CACHE_CONTROL_OF_BLOB, HeaderValue::from_static("max-age=31536000, immutable")),
        ]);
        let joined = self.send(Method::PUT, &url, &headers, list).await;
        let made = match (joined, of.kind) {
            (Ok(answer), Kind::Staged) => {
                // As it is now, and into a place where nothing is: whoever may write parts cannot exchange it meanwhile.
                let etag = answer.headers().get(ETAG).ok_or_else(|| {
                    AzureFailure::Unreached("the answer has no ETag".to_owned()).doing("joining the parts")
                })?;
                self.copy(&of.blocks(), Some(etag), &key, true).await?
            }
            // It was done before, maybe, by a request whose answer was lost.
            (_, Kind::Direct) => self.size_of(&key).await?,
            (Err(failure), Kind::Staged) => match self.size_of(&key).await? {
                Some(size) => Some(size),
                None => return Err(failure.doing("joining the parts")),
            },
        };
        let size = made.ok_or_else(|| StorageError::Failed {
            doing: "joining the parts".into(),
            source: "the storage has no object of them".into(),
        })?;
        Ok(Object { key, size })
    }

    /// Removes what was there for the sake of the upload.
    pub(super) async fn forget(&self, name: &UploadName) -> Result<(), StorageError> {
        self.remove_object(&staging(name)).await?;
        for kind in [Kind::Staged, Kind::Direct] {
            self.remove_object(&marker(name, kind)).await?;
        }
        Ok(())
    }

    pub(super) async fn abort(&self, upload: &StorageUpload) -> Result<(), StorageError> {
        let Ok(of) = Upload::of(upload) else { return Ok(()) };
        let open = self.is_open(&of).await?;
        if self.size_of(&of.name.location()).await?.is_none() {
            self.remove_object(&of.name.data()).await?;
        }
        if open && self.size_of(&of.name.location()).await?.is_none() {
            // Writing a blob is what drops its blocks at once; else they go after a week.
            self.put_object(&of.blocks(), "").await?;
            self.remove_object(&of.blocks()).await?;
        }
        self.forget(&of.name).await
    }

    pub(super) async fn open_uploads(&self) -> Result<Vec<OpenUpload>, StorageError> {
        let mut open: Vec<OpenUpload> = Vec::new();
        self.list(UPLOADS, |key, blob| {
            let name = key.strip_prefix(UPLOADS).and_then(|rest| rest.split_once('/'));
            let Some((name, what)) = name.and_then(|(name, what)| Some((UploadName::parse(name)?, what)))
            else {
                return;
            };
            // A staging blob without a marker was written with a URL of an upload that has ended.
            let kind = Kind::of(what).unwrap_or(Kind::Staged);
            let upload = name.upload(kind.name());
            if open.last().is_none_or(|last| last.upload != upload) {
                let started = blob.modified().unwrap_or(Timestamp::UNIX_EPOCH);
                open.push(OpenUpload { upload, started });
            }
        })
        .await?;
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_somebody_else_is_no_part() {
        let number = PartNumber::new(7).unwrap();
        let id = BlockId::new(number, false).unwrap();
        assert_eq!(BlockId::decode(&id.encoded()), Some((number, id)));
        for foreign in ["", "AAAA", "!", &BASE64.encode(b"0"), &BASE64.encode("é".repeat(20).as_bytes())] {
            assert_eq!(BlockId::decode(foreign), None, "{foreign}");
        }
    }
}
