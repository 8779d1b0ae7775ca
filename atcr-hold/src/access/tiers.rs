/// A tier of a hold: how much its members may store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its name, 1 to 32 bytes: it stands in crew records.
    pub name: String,
    /// How many bytes a member may store; `None` is any number.
    pub limit: Option<u64>,
    /// What else it gives, for people to read.
    pub features: Vec<String>,
}

/// The tiers of a hold, lowest first. None at all: nobody has a limit. The captain never has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiers {
    tiers: Vec<Tier>,
    default: usize,
}

/// Why tiers cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TiersError {
    /// A name is empty, or longer than crew records have room for.
    #[error("{0:?} cannot be the name of a tier: names have 1 to 32 bytes")]
    Name(String),
    /// Two have one name.
    #[error("there are two tiers {0:?}")]
    Twice(String),
    /// The default is none of them.
    #[error("the tier of new crew is {0:?}, and there is none of that name")]
    NoDefault(String),
}

impl Tiers {
    /// Tiers in their order, lowest first. `default` is the name of the one for members whose record names none, or one
    /// that is not here; `None` is the first.
    pub fn new(tiers: Vec<Tier>, default: Option<&str>) -> Result<Self, TiersError> {
        for (at, tier) in tiers.iter().enumerate() {
            if tier.name.is_empty() || tier.name.len() > 32 {
                return Err(TiersError::Name(tier.name.clone()));
            }
            if tiers[..at].iter().any(|other| other.name == tier.name) {
                return Err(TiersError::Twice(tier.name.clone()));
            }
        }
        let default = match default {
            Some(name) => tiers
                .iter()
                .position(|tier| tier.name == name)
                .ok_or_else(|| TiersError::NoDefault(name.to_owned()))?,
            None => 0,
        };
        Ok(Self { tiers, default })
    }

    /// All, lowest first.
    pub fn all(&self) -> &[Tier] {
        &self.tiers
    }

    /// The tier of a member whose crew record names this one. `None`: there are no tiers.
    pub(crate) fn of(&self, name: Option<&str>) -> Option<&Tier> {
        let named = name.and_then(|name| self.tiers.iter().find(|tier| tier.name == name));
        named.or_else(|| self.tiers.get(self.default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_in_the_tier_that_is_named_else_in_the_default_one() {
        let tier = |name: &str, limit| Tier { name: name.to_owned(), limit, features: Vec::new() };
        let all = vec![tier("deckhand", Some(5)), tier("bosun", Some(50)), tier("quartermaster", None)];
        let tiers = Tiers::new(all.clone(), Some("bosun")).unwrap();
        let name = |of: Option<&str>| tiers.of(of).unwrap().name.as_str();
        assert_eq!(name(Some("quartermaster")), "quartermaster");
        assert_eq!((name(None), name(Some("admiral"))), ("bosun", "bosun"));
        assert_eq!(Tiers::new(all.clone(), None).unwrap().of(None).unwrap().name, "deckhand");
        assert_eq!(Tiers::default().of(Some("bosun")), None);
        assert_eq!(Tiers::new(Vec::new(), None).unwrap(), Tiers::default());
        assert_eq!(Tiers::new(all.clone(), Some("x")), Err(TiersError::NoDefault("x".to_owned())));
        assert!(Tiers::new([all.clone(), all].concat(), None).is_err());
        assert!(Tiers::new(vec![tier("", None)], None).is_err());
    }
}
