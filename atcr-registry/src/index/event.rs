use atcr_core::records::{
    AnyCrewRecord, CaptainRecord, CrewRecord, HoldRecord, LayerRecord, ManifestRecord, ProfileRecord, Record,
    RepoPageRecord, ScanRecord, StarRecord, StatsRecord, TagRecord,
};
use atcr_core::syntax::{Did, Handle, RecordKey, Tid};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Something that happened to a repo, as an index takes it in.
#[derive(Debug, Clone)]
pub enum Event {
    /// Records were written.
    Commit(RepoCommit),
    /// Who an account is now.
    Identity(IdentityChange),
    /// Whether an account is there.
    Account {
        /// Whose.
        did: Did,
        /// Its status now.
        status: AccountStatus,
    },
    /// Something of this repo was missed, so that it must be read whole, at this revision or a later one.
    Missed {
        /// Whose repo.
        did: Did,
        /// The revision; `None` when any will do.
        rev: Option<Tid>,
    },
}

impl Event {
    /// Whose it is.
    pub fn did(&self) -> &Did {
        match self {
            Self::Commit(commit) => &commit.did,
            Self::Identity(change) => &change.did,
            Self::Account { did, .. } | Self::Missed { did, .. } => did,
        }
    }
}

/// What one commit did to the records that an index keeps.
#[derive(Debug, Clone)]
pub struct RepoCommit {
    /// Whose repo.
    pub did: Did,
    /// The revision of the commit.
    pub rev: Tid,
    /// What came before.
    pub since: Since,
    /// The root of the tree, where it is known.
    pub data: Option<String>,
    /// The changes; those of other collections may be left out.
    pub ops: Vec<RecordOp>,
}

/// What came before a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Nothing: it is the first one.
    Nothing,
    /// This revision, with this tree where it is known. Anything else in the index means that something was missed.
    Rev(Tid, Option<String>),
    /// The source does not say, as Jetstream. Nothing can be noticed then.
    Unknown,
}

/// A change of one record.
#[derive(Debug, Clone)]
pub struct RecordOp {
    /// In which collection.
    pub collection: Collection,
    /// Under which key.
    pub rkey: RecordKey,
    /// The SHA-256 in the CID of the record now; `None` when it is gone.
    pub cid: Option<[u8; 32]>,
    /// The record now. `None` when it is gone, or was written and cannot be read: what cannot be read is not shown.
    pub record: Option<Box<Indexed>>,
}

/// Who an account is now.
#[derive(Debug, Clone)]
pub struct IdentityChange {
    /// Whose.
    pub did: Did,
    /// The handle, when it points back to the DID.
    pub handle: Option<Handle>,
    /// The URL of the PDS.
    pub pds: Option<String>,
    /// The DID document as JSON.
    pub document: Option<String>,
}

/// Whether an account is there (specification, Account Hosting).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountStatus {
    /// It is.
    Active,
    /// Its owner has switched it off.
    Deactivated,
    /// Its server has taken it down.
    TakenDown,
    /// Its server has suspended it.
    Suspended,
    /// It is gone; so is everything of it in the index.
    Deleted,
}

impl AccountStatus {
    /// As it is written in events and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::TakenDown => "takendown",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    /// Reads what an event says. A status that is not known is taken for the mildest.
    pub fn parse(active: bool, status: Option<&str>) -> Self {
        match status {
            _ if active => Self::Active,
            Some("takendown") => Self::TakenDown,
            Some("suspended") => Self::Suspended,
            Some("deleted") => Self::Deleted,
            _ => Self::Deactivated,
        }
    }
}

macro_rules! collections {
    ($($name:ident = $code:literal, $record:ty, $indexed:ty;)*) => {
        /// A collection that an index keeps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Collection {
            $(
                #[doc = concat!("That of [`", stringify!($record), "`].")]
                $name = $code,
            )*
        }

        /// A record of one of the collections that an index keeps.
        #[expect(clippy::large_enum_variant, reason = "manifests are most of them, and all are boxed")]
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Indexed {
            $(
                #[doc = concat!("Of [`Collection::", stringify!($name), "`].")]
                $name($indexed),
            )*
        }

        impl Collection {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its NSID.
            pub fn nsid(self) -> &'static str {
                match self {
                    $(Self::$name => <$record>::NSID,)*
                }
            }

            /// Reads a record of it.
            ///
            /// # Errors
            /// When it is not what the collection promises.
            pub fn read(self, value: Value) -> Result<Box<Indexed>, serde_json::Error> {
                match self {
                    $(Self::$name => read(value, Indexed::$name),)*
                }
            }
        }
    };
}

collections! {
    Manifest = 1, ManifestRecord, ManifestRecord;
    Tag = 2, TagRecord, TagRecord;
    Page = 3, RepoPageRecord, RepoPageRecord;
    Star = 4, StarRecord, StarRecord;
    Profile = 5, ProfileRecord, ProfileRecord;
    Hold = 6, HoldRecord, HoldRecord;
    Captain = 7, CaptainRecord, CaptainRecord;
    Crew = 8, CrewRecord, AnyCrewRecord;
    Stats = 9, StatsRecord, StatsRecord;
    Scan = 10, ScanRecord, ScanRecord;
    Layer = 11, LayerRecord, LayerRecord;
}

fn read<T: DeserializeOwned>(
    value: Value,
    make: fn(T) -> Indexed,
) -> Result<Box<Indexed>, serde_json::Error> {
    serde_json::from_value(value).map(|record| Box::new(make(record)))
}

impl Collection {
    /// The collection with this NSID, if an index keeps it.
    pub fn of(nsid: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|collection| collection.nsid() == nsid)
    }

    pub(super) fn code(self) -> i64 {
        self as i64
    }
}

impl RecordOp {
    /// A record as it is now; one that cannot be read counts as written and is not shown.
    pub fn written(collection: Collection, rkey: RecordKey, cid: [u8; 32], value: Value) -> Self {
        let record = match collection.read(value) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::debug!(collection = collection.nsid(), %rkey, %error, "a record that is not what its collection says");
                None
            }
        };
        Self { collection, rkey, cid: Some(cid), record }
    }

    /// A record that is gone.
    pub fn gone(collection: Collection, rkey: RecordKey) -> Self {
        Self { collection, rkey, cid: None, record: None }
    }
}
