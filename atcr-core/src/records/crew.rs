use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::lenient;
use super::open_enum;
use super::typed::record;
use crate::syntax::{AtUri, Datetime, Did, RecordKey};

record! {
    "io.atcr.hold.crew";
    /// A member of a hold's crew, in the hold's own repo. A new one goes under [`crew_rkey`](super::crew_rkey);
    /// upstream uses other keys, so look members up by `member`.
    pub struct CrewRecord {
        /// Who.
        pub member: Did,
        /// What they are called; rights come from `permissions`.
        pub role: Role,
        /// What they may do.
        pub permissions: Permissions,
        /// The quota tier; `None` is the hold's default one.
        #[serde(default, deserialize_with = "lenient::option", skip_serializing_if = "Option::is_none")]
        pub tier: Option<String>,
        /// Since when.
        #[serde(default = "lenient::epoch", deserialize_with = "lenient::datetime")]
        pub added_at: Datetime,
    }
}

impl CrewRecord {
    /// The key for a new record.
    pub fn rkey(&self) -> RecordKey {
        super::crew_rkey(&self.member)
    }
}

record! {
    "io.atcr.hold.crew";
    /// A member of the crew of a hold of 2025, in the repo of the hold's owner.
    pub struct LegacyCrewRecord {
        /// The `io.atcr.hold` record of the hold; the membership is void in any other.
        pub hold: AtUri,
        /// Who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub member: Option<Did>,
        /// Whose handle: a name with `*` for any part of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub member_pattern: Option<String>,
        /// What they may do: `owner`, `write` or `read`.
        pub role: Role,
        /// Until when. One that cannot be read makes the record unreadable, not endless.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expires_at: Option<Datetime>,
        /// Since when.
        #[serde(default = "lenient::epoch", alias = "addedAt", deserialize_with = "lenient::datetime")]
        pub created_at: Datetime,
    }
}

/// Whom a [`LegacyCrewRecord`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyMember<'a> {
    /// One account.
    Did(&'a Did),
    /// Every account whose handle matches: `*`, `*.example.com`, `alice.*`, `*.team.*`.
    Pattern(&'a str),
}

impl LegacyCrewRecord {
    /// Whom it names; `None` unless it is exactly one of an account and a pattern.
    pub fn member(&self) -> Option<LegacyMember<'_>> {
        match (&self.member, &self.member_pattern) {
            (Some(did), None) => Some(LegacyMember::Did(did)),
            (None, Some(pattern)) => Some(LegacyMember::Pattern(pattern)),
            _ => None,
        }
    }
}

/// A record of `io.atcr.hold.crew`, whose NSID two shapes share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AnyCrewRecord {
    /// Of a hold with a repo of its own.
    Crew(CrewRecord),
    /// Of a hold of 2025.
    Legacy(LegacyCrewRecord),
}

open_enum! {
    /// What a member of the crew is called.
    pub enum Role {
        /// The captain's own entry.
        Owner = "owner",
        /// May manage the crew.
        Admin = "admin",
        /// May push.
        Write = "write",
        /// May pull.
        Read = "read",
        /// What someone who enrols is.
        Member = "member",
    }
}

open_enum! {
    /// One thing that a member of the crew may do.
    pub enum Permission {
        /// Pull from a private hold.
        BlobRead = "blob:read",
        /// Push, and pull.
        BlobWrite = "blob:write",
        /// Manage crew and settings, push and pull.
        CrewAdmin = "crew:admin",
    }
}

/// What a member of the crew may do, written in order and without repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// What someone gets who enrols without asking for anything: `blob:read` and `blob:write`.
    pub fn member() -> Self {
        [Permission::BlobRead, Permission::BlobWrite].into_iter().collect()
    }

    /// What the captain's own crew record has: everything.
    pub fn all() -> Self {
        [Permission::BlobRead, Permission::BlobWrite, Permission::CrewAdmin].into_iter().collect()
    }

    /// Whether this very permission is named.
    pub fn contains(&self, permission: &Permission) -> bool {
        self.0.contains(permission)
    }

    /// Whether it allows reading blobs of a private hold: any of the three known permissions does.
    pub fn can_read(&self) -> bool {
        self.can_write() || self.contains(&Permission::BlobRead)
    }

    /// Whether it allows writing blobs.
    pub fn can_write(&self) -> bool {
        self.can_administer() || self.contains(&Permission::BlobWrite)
    }

    /// Whether it allows managing the crew.
    pub fn can_administer(&self) -> bool {
        self.contains(&Permission::CrewAdmin)
    }

    /// Each permission, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.iter()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}
