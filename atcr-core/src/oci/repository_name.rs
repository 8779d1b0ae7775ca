use crate::syntax::{AtIdentifier, Did, string_format};

/// The name of a repository (distribution specification, Pulling manifests): lower-case path components joined by
/// `/`, at most 255 bytes.
///
/// Beyond the specification the first component may be a DID with its colons (`did:plc:xyz/app`), which no OCI
/// client writes but a person with curl does; [`RepositoryName::owner`] reads all three spellings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    const FORMAT: &'static str = "repository name";

    fn check(text: &str) -> Result<(), &'static str> {
        if text.is_empty() || text.len() > 255 {
            return Err("a name has 1 to 255 bytes");
        }
        let path = match text.split_once('/') {
            Some((first, rest)) if first.starts_with("did:") => {
                first.parse::<Did>().map_err(|_| "the first component is not a DID")?;
                rest
            }
            _ => text,
        };
        if path.split('/').all(is_component) {
            Ok(())
        } else {
            Err("a component is lower-case letters and digits, separated by '.', '_', '__' or hyphens")
        }
    }

    /// Whose name the repository stands under, and its name there: `alice.test/tools/app` is `tools/app` of the
    /// handle `alice.test`. The first component is a handle, a DID, or a DID with hyphens for its first two colons.
    ///
    /// `None` when there is one component only, or the first names no identity.
    pub fn owner(&self) -> Option<(AtIdentifier, RepositoryName)> {
        let (first, rest) = self.0.split_once('/')?;
        let owner = match Did::from_hyphenated(first) {
            Some(did) => AtIdentifier::Did(did),
            None => first.parse().ok()?,
        };
        Some((owner, Self(rest.into())))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let run = rest.iter().take_while(|b| alphanumeric(b)).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

string_format!(RepositoryName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_grammar_of_the_specification() {
        for good in [
            "app",
            "a/b/c",
            "alice.test/app",
            "a__b",
            "a---b",
            "x.y_z-0/1",
            "did:plc:abc234/app",
            "did-plc-abc/app",
        ] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "App",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a/did:plc:abc",
            "did:plc:abc",
            "a b",
            "é",
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }

    #[test]
    fn the_owner_is_a_handle_a_did_or_a_hyphenated_did() {
        let owner = |name: &str| {
            let (owner, image) = name.parse::<RepositoryName>().unwrap().owner()?;
            Some((owner.to_string(), image.to_string()))
        };
        assert_eq!(owner("alice.test/tools/app"), Some(("alice.test".into(), "tools/app".into())));
        assert_eq!(owner("did:plc:abc234/app"), Some(("did:plc:abc234".into(), "app".into())));
        assert_eq!(owner("did-plc-abc234/app"), Some(("did:plc:abc234".into(), "app".into())));
        assert_eq!(
            owner("did-web-my-host.example/app"),
            Some(("did:web:my-host.example".into(), "app".into()))
        );
        assert_eq!(owner("app"), None);
        assert_eq!(owner("nodots/app"), None);
    }
}
