use std::sync::Arc;

use bytes::Bytes;
use ipld_core::cid::Cid;
use serde::Deserialize;

use super::key::common_prefix;
use super::{MstError, check_key, height};
use crate::cbor::{DAG_CBOR, check_cid, cid_for_cbor, cid_for_cbor_digest, emit};

/// The largest node that is read or written. Nodes have four entries on average; only keys chosen for the purpose
/// make one grow.
pub const MAX_NODE_BYTES: usize = 1_000_000;

/// The SHA-256 of a block: all of its CID that differs, since nodes and records have one codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::repo) struct Hash([u8; 32]);

impl std::hash::Hash for Hash {
    /// Eight bytes of it are as good as all.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

impl Hash {
    /// The hash of no block that anybody knows.
    pub(super) const NONE: Self = Self([0; 32]);

    /// The hash of a block of DAG-CBOR; `None` for any other CID.
    pub(in crate::repo) fn of(cid: &Cid) -> Option<Self> {
        check_cid(cid).ok()?;
        if cid.codec() != DAG_CBOR {
            return None;
        }
        cid.hash().digest().try_into().ok().map(Self)
    }

    pub(super) fn cid(self) -> Cid {
        cid_for_cbor_digest(self.0)
    }
}

/// A way down.
#[derive(Debug, Clone)]
pub(super) enum Link {
    /// A node that has its CID.
    Stored(Hash),
    /// A node that was changed and not encoded since.
    Dirty(Arc<Node>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Arc<str>,
    pub(super) value: Hash,
    /// The keys between this entry and the next.
    pub(super) right: Option<Link>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// The keys below the first entry.
    pub(super) left: Option<Link>,
    pub(super) entries: Vec<Entry>,
}

impl Node {
    /// The number of entries with keys below `key`, and whether the next one has it.
    pub(super) fn find(&self, key: &str) -> (usize, bool) {
        let at = self.entries.partition_point(|e| &*e.key < key);
        (at, self.entries.get(at).is_some_and(|e| &*e.key == key))
    }

    /// The link before the entry `at`.
    pub(super) fn link(&self, at: usize) -> Option<&Link> {
        match at {
            0 => self.left.as_ref(),
            _ => self.entries[at - 1].right.as_ref(),
        }
    }

    pub(super) fn set_link(&mut self, at: usize, link: Option<Link>) {
        match at {
            0 => self.left = link,
            _ => self.entries[at - 1].right = link,
        }
    }

    /// The layer, where the node has an entry to tell it.
    pub(super) fn layer(&self) -> Option<u8> {
        self.entries.first().map(|e| height(&e.key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.left.is_none()
    }
}

/// What a node holds, in the order of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A node one layer below.
    Child(Cid),
    /// A record: its key and its CID.
    Leaf(&'a str, Cid),
}

/// A node with its bytes and their CID. Its own form is canonical; whether it fits the place where it stands is
/// checked on the way to it.
#[derive(Debug, Clone)]
pub struct NodeBlock {
    cid: Cid,
    bytes: Bytes,
    layer: Option<u8>,
    pub(super) node: Arc<Node>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeData {
    l: Option<Cid>,
    e: Vec<EntryData>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryData {
    p: usize,
    k: serde_bytes::ByteBuf,
    v: Cid,
    t: Option<Cid>,
}

impl NodeBlock {
    /// Reads a node.
    ///
    /// # Errors
    /// [`MstError::NotCanonical`] for anything but the one encoding of a node.
    pub fn decode(bytes: Bytes) -> Result<Self, MstError> {
        let cid = cid_for_cbor(&bytes);
        let bad = |what| MstError::NotCanonical { cid, what };
        if bytes.len() > MAX_NODE_BYTES {
            return Err(bad("it is larger than a million bytes"));
        }
        let data: NodeData =
            serde_ipld_dagcbor::from_slice(&bytes).map_err(|_| bad("it is not a map of l and e"))?;
        let link = |cid: Option<Cid>| match cid {
            None => Ok(None),
            Some(cid) => {
                Hash::of(&cid).map(|hash| Some(Link::Stored(hash))).ok_or(bad("a link is not to a node"))
            }
        };
        let mut node = Node { left: link(data.l)?, entries: Vec::with_capacity(data.e.len()) };
        let mut key = Vec::new();
        let mut layer = None;
        for entry in data.e {
            let previous = key.clone();
            if entry.p > previous.len() {
                return Err(bad("a prefix is longer than the key before it"));
            }
            key.truncate(entry.p);
            key.extend_from_slice(&entry.k);
            if key <= previous {
                return Err(bad("its keys are not ascending"));
            }
            if common_prefix(&previous, &key) != entry.p {
                return Err(bad("a prefix is not minimal"));
            }
            let text = std::str::from_utf8(&key).map_err(|_| bad("a key is not text"))?;
            check_key(text)?;
            let own = height(text);
            if *layer.get_or_insert(own) != own {
                return Err(bad("its keys belong to different layers"));
            }
            let value = Hash::of(&entry.v).ok_or(bad("a value is not a record"))?;
            node.entries.push(Entry { key: text.into(), value, right: link(entry.t)? });
        }
        // What is left (missing nulls, numbers in a longer form) shows when it is written again.
        if node.encode().is_none_or(|again| again != bytes) {
            return Err(bad("it is not encoded canonically"));
        }
        if layer == Some(0) && (node.left.is_some() || node.entries.iter().any(|e| e.right.is_some())) {
            return Err(bad("it has a node below the lowest layer"));
        }
        Ok(Self { cid, bytes, layer, node: Arc::new(node) })
    }

    /// Encodes a node whose links all have their CIDs.
    pub(super) fn encode(node: Node) -> Result<Self, MstError> {
        let bytes = node.encode().expect("all links have their CIDs");
        let cid = cid_for_cbor(&bytes);
        if bytes.len() > MAX_NODE_BYTES {
            return Err(MstError::NotCanonical { cid, what: "it is larger than a million bytes" });
        }
        Ok(Self { cid, bytes: bytes.into(), layer: node.layer(), node: Arc::new(node) })
    }

    /// The CID.
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    pub(in crate::repo) fn hash(&self) -> Hash {
        Hash::of(&self.cid).expect("the CID of a node is made here")
    }

    /// The block.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The layer, where the node has an entry to tell it.
    pub fn layer(&self) -> Option<u8> {
        self.layer
    }

    /// What the node holds, in order.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = Item<'_>> {
        fn child(link: Option<&Link>) -> Option<Item<'_>> {
            match link {
                Some(Link::Stored(hash)) => Some(Item::Child(hash.cid())),
                Some(Link::Dirty(_)) | None => None,
            }
        }
        let entries =
            self.node.entries.iter().flat_map(|e| {
                std::iter::once(Item::Leaf(&e.key, e.value.cid())).chain(child(e.right.as_ref()))
            });
        child(self.node.left.as_ref()).into_iter().chain(entries)
    }

    /// About how much memory it takes.
    pub fn weight(&self) -> usize {
        let entries: usize = self.node.entries.iter().map(|e| 112 + e.key.len()).sum();
        300 + self.bytes.len() + entries
    }

    /// Checks that a node may stand at `layer`, between the keys `low` and `high`.
    pub(in crate::repo) fn check_place(
        &self,
        layer: u8,
        low: Option<&str>,
        high: Option<&str>,
    ) -> Result<(), MstError> {
        let bad = |what| Err(MstError::NotCanonical { cid: self.cid, what });
        match self.layer {
            Some(own) if own != layer => return bad("its keys belong to another layer"),
            None if self.node.left.is_none() => return bad("it is empty"),
            None if layer == 0 => return bad("it has a node below the lowest layer"),
            _ => {}
        }
        if let (Some(first), Some(last)) = (self.node.entries.first(), self.node.entries.last())
            && (low.is_some_and(|low| &*first.key <= low) || high.is_some_and(|high| &*last.key >= high))
        {
            return bad("its keys are outside the range of their subtree");
        }
        Ok(())
    }
}

impl Node {
    /// The canonical bytes; `None` when a link has no CID yet.
    fn encode(&self) -> Option<Vec<u8>> {
        fn link(out: &mut Vec<u8>, link: Option<&Link>) -> Option<()> {
            match link {
                None => out.push(emit::NULL),
                Some(Link::Stored(hash)) => emit::link(out, &hash.0),
                Some(Link::Dirty(_)) => return None,
            }
            Some(())
        }
        let size: usize = self.entries.iter().map(|e| 100 + e.key.len()).sum();
        let mut out = Vec::with_capacity(64 + size);
        emit::map(&mut out, 2);
        emit::text(&mut out, "e");
        emit::list(&mut out, self.entries.len());
        let mut previous: &[u8] = &[];
        for entry in &self.entries {
            let key = entry.key.as_bytes();
            let shared = common_prefix(previous, key);
            emit::map(&mut out, 4);
            emit::text(&mut out, "k");
            emit::bytes(&mut out, &key[shared..]);
            emit::text(&mut out, "p");
            emit::head(&mut out, 0, shared as u64);
            emit::text(&mut out, "t");
            link(&mut out, entry.right.as_ref())?;
            emit::text(&mut out, "v");
            emit::link(&mut out, &entry.value.0);
            previous = key;
        }
        emit::text(&mut out, "l");
        link(&mut out, self.left.as_ref())?;
        Some(out)
    }
}
