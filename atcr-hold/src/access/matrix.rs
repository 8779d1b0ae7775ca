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
    use atcr_core::records::Permission;

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
}
