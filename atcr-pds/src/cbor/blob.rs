use ipld_core::cid::Cid;
use ipld_core::ipld::Ipld;

use super::RAW;

/// A reference to a blob inside a record (specification, Blobs).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobRef {
    /// CID of the bytes, codec raw.
    pub cid: Cid,
    /// Media type.
    pub mime_type: String,
    /// Length in bytes.
    pub size: u64,
}

impl BlobRef {
    /// The reference as it stands in a record.
    pub fn to_ipld(&self) -> Ipld {
        Ipld::Map(
            [
                ("$type".to_owned(), Ipld::String("blob".into())),
                ("ref".to_owned(), Ipld::Link(self.cid)),
                ("mimeType".to_owned(), Ipld::String(self.mime_type.clone())),
                ("size".to_owned(), Ipld::Integer(self.size.into())),
            ]
            .into(),
        )
    }

    /// Reads a value that is a blob reference; `None` for everything else, broken references included.
    pub fn from_ipld(value: &Ipld) -> Option<Self> {
        let Ipld::Map(map) = value else { return None };
        if map.get("$type") != Some(&Ipld::String("blob".into())) {
            return None;
        }
        let (Some(Ipld::Link(cid)), Some(Ipld::String(mime)), Some(Ipld::Integer(size))) =
            (map.get("ref"), map.get("mimeType"), map.get("size"))
        else {
            return None;
        };
        if cid.codec() != RAW || mime.is_empty() {
            return None;
        }
        Some(Self { cid: *cid, mime_type: mime.clone(), size: u64::try_from(*size).ok()? })
    }
}

/// Every blob that a record refers to, each once, in CID order.
pub fn blob_refs(record: &Ipld) -> Vec<BlobRef> {
    let mut found = Vec::new();
    let mut open = vec![record];
    while let Some(value) = open.pop() {
        match value {
            Ipld::List(list) => open.extend(list),
            Ipld::Map(map) => match BlobRef::from_ipld(value) {
                Some(blob) => found.push(blob),
                None => open.extend(map.values()),
            },
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}
