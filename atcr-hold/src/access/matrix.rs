use atcr_core::records::Permissions;

/// What somebody wants to do at a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read blobs.
    Read,
    /// Upload blobs and tell of manifests.
    Write,
    /// Manage the crew and the hold's records.
    Administer,
}

impl Action {
    /// The permission that allows it.
    pub(crate) fn permission(self) -> &'static str {
        match self {
            Self::Read => "blob:read",
            Self::Write => "blob:write",
            Self::Administer => "crew:admin",
        }
    }
}

/// What somebody is to a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Has not said who they are.
    Anonymous,
    /// An account without a crew record.
    Stranger,
    /// A member of the crew.
    Crew(Permissions),
    /// The owner.
    Captain,
}

impl Standing {
    /// Whether they may do it; `public` says that anyone may read.
    pub(crate) fn may(&self, action: Action, public: bool) -> bool {
        match (self, action) {
            (_, Action::Read) if public => true,
            (Self::Anonymous | Self::Stranger, _) => false,
            (Self::Crew(permissions), Action::Read) => permissions.can_read(),
            (Self::Crew(permissions), Action::Write) => permissions.can_write(),
            (Self::Crew(permissions), Action::Administer) => permissions.can_administer(),
            (Self::Captain, _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::legacy::granted;
    use atcr_core::records::{LegacyCrewRecord, Permission};
    use atcr_core::syntax::{Did, Handle};
    use serde_json::json;

    #[test]
    fn the_matrix_of_2026() {
        let crew = |permissions: &[&str]| {
            Standing::Crew(permissions.iter().map(|text| Permission::from(*text)).collect())
        };
        let table = [
            // who, read public, read private, write, administer
            (Standing::Anonymous, true, false, false, false),
            (Standing::Stranger, true, false, false, false),
            (crew(&[]), true, false, false, false),
            (crew(&["blob:unknown"]), true, false, false, false),
            (crew(&["blob:read"]), true, true, false, false),
            (crew(&["blob:write"]), true, true, true, false),
            (crew(&["blob:read", "blob:write"]), true, true, true, false),
            (crew(&["crew:admin"]), true, true, true, true),
            (Standing::Captain, true, true, true, true),
        ];
        for (who, read_public, read_private, write, administer) in table {
            assert_eq!(who.may(Action::Read, true), read_public, "{who:?}");
            assert_eq!(who.may(Action::Read, false), read_private, "{who:?}");
            for public in [true, false] {
                assert_eq!(who.may(Action::Write, public), write, "{who:?}");
                assert_eq!(who.may(Action::Administer, public), administer, "{who:?}");
            }
        }
    }

    /// Records in the owner's repo, as holds of 2025 had them.
    #[test]
    fn the_matrix_of_2025() {
        const NOW: i64 = 1_800_000_000;
        let member: Did = "did:plc:bob".parse().unwrap();
        let handle: Handle = "bob.team.example.com".parse().unwrap();
        let table = [
            // the record, what is known of the handle, read private, write
            (json!({"member": "did:plc:bob", "role": "owner"}), true, true, true),
            (json!({"member": "did:plc:bob", "role": "write"}), true, true, true),
            (json!({"member": "did:plc:bob", "role": "read"}), true, true, false),
            (json!({"member": "did:plc:bob", "role": "write"}), false, true, true),
            (json!({"member": "did:plc:bob", "role": "admin"}), true, false, false),
            (json!({"member": "did:plc:bob", "role": "unheard"}), true, false, false),
            (json!({"member": "did:plc:carol", "role": "write"}), true, false, false),
            (json!({"memberPattern": "*", "role": "write"}), true, true, true),
            (json!({"memberPattern": "*.team.*", "role": "read"}), true, true, false),
            (json!({"memberPattern": "*.other.com", "role": "write"}), true, false, false),
            // Whose handle is not known is not meant by any pattern.
            (json!({"memberPattern": "*", "role": "write"}), false, false, false),
            // Neither, or both.
            (json!({"role": "write"}), true, false, false),
            (json!({"member": "did:plc:bob", "memberPattern": "*", "role": "write"}), true, false, false),
            (
                json!({"member": "did:plc:bob", "role": "write", "expiresAt": "2027-01-15T08:00:01Z"}),
                true,
                true,
                true,
            ),
            (
                json!({"member": "did:plc:bob", "role": "write", "expiresAt": "2027-01-15T08:00:00Z"}),
                true,
                false,
                false,
            ),
            (
                json!({"member": "did:plc:bob", "role": "write", "expiresAt": "2025-01-01T00:00:00Z"}),
                true,
                false,
                false,
            ),
            // An end that cannot be read is none that lies ahead.
            (json!({"member": "did:plc:bob", "role": "write", "expiresAt": "one day"}), true, false, false),
        ];
        for (mut record, known, read, write) in table {
            record["$type"] = "io.atcr.hold.crew".into();
            record["hold"] = "at://did:plc:alice/io.atcr.hold/hold.example.com".into();
            record["createdAt"] = "2025-01-01T00:00:00Z".into();
            let records: Vec<LegacyCrewRecord> = serde_json::from_value(record.clone()).into_iter().collect();
            let granted = granted(&records, &member, known.then_some(&handle), NOW);
            let who = granted.map_or(Standing::Stranger, Standing::Crew);
            assert_eq!(who.may(Action::Read, false), read, "{record}");
            assert_eq!(who.may(Action::Write, false), write, "{record}");
            assert!(who.may(Action::Read, true) && !who.may(Action::Administer, true), "{record}");
        }
    }
}
