use atcr_core::syntax::Nsid;

use super::syntax::{Syntax, format};
use crate::accounts::service_auth::check_audience;

/// One scope that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::accounts::oauth) enum Permission {
    /// `atproto`: the account's identity, and nothing else.
    Atproto,
    /// `transition:generic`: what an app password may do.
    Generic,
    /// `transition:email`: the account's e-mail address.
    Email,
    /// `transition:chat.bsky`: the methods `chat.bsky.*`.
    Chat,
    Repo {
        collections: Vec<OrAny<Nsid>>,
        actions: Vec<RepoAction>,
    },
    Rpc {
        methods: Vec<OrAny<Nsid>>,
        audience: OrAny<String>,
    },
    Blob {
        accept: Vec<String>,
    },
    Account {
        attribute: AccountAttribute,
        manage: bool,
    },
    Identity {
        attribute: IdentityAttribute,
    },
    Include {
        set: Nsid,
        audience: Option<String>,
    },
}

/// Something, or anything: `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::accounts::oauth) enum OrAny<T> {
    Any,
    This(T),
}

impl<T: AsRef<str>> OrAny<T> {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::This(this) => this.as_ref() == text,
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::This(this) => this.as_ref(),
        }
    }
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::accounts) enum RepoAction {
    Create,
    Update,
    Delete,
}

impl RepoAction {
    const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::accounts) enum AccountAttribute {
    Email,
    Repo,
    Status,
}

impl AccountAttribute {
    const ALL: [Self; 3] = [Self::Email, Self::Repo, Self::Status];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Repo => "repo",
            Self::Status => "status",
        }
    }
}

/// What an identity has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::accounts) enum IdentityAttribute {
    Handle,
    Any,
}

impl IdentityAttribute {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Handle => "handle",
            Self::Any => "*",
        }
    }
}

impl Permission {
    /// `None` for what is not known, or not allowed to be asked for.
    pub(super) fn parse(scope: &str) -> Option<Self> {
        match scope {
            "atproto" => Some(Self::Atproto),
            "transition:generic" => Some(Self::Generic),
            "transition:email" => Some(Self::Email),
            "transition:chat.bsky" => Some(Self::Chat),
            _ => Self::of(&Syntax::of_text(scope)?),
        }
    }

    pub(super) fn of(syntax: &Syntax) -> Option<Self> {
        match syntax.resource.as_str() {
            "repo" => Self::repo(syntax),
            "rpc" => Self::rpc(syntax),
            "blob" => Self::blob(syntax),
            "account" => Self::account(syntax),
            "identity" => Self::identity(syntax),
            "include" => Self::include(syntax),
            _ => None,
        }
    }

    fn repo(syntax: &Syntax) -> Option<Self> {
        syntax.only(&["collection", "action"])?;
        let collections = nsids(&syntax.main_many("collection")?)?;
        let actions = match syntax.many("action").ok()? {
            None => RepoAction::ALL.to_vec(),
            Some(named) => {
                let known = |name: &String| RepoAction::ALL.iter().any(|action| action.as_str() == name);
                if !named.iter().all(known) {
                    return None;
                }
                let is_named = |action: &RepoAction| named.iter().any(|name| name == action.as_str());
                RepoAction::ALL.into_iter().filter(is_named).collect()
            }
        };
        Some(Self::Repo { collections, actions })
    }

    fn rpc(syntax: &Syntax) -> Option<Self> {
        syntax.only(&["lxm", "aud"])?;
        let methods = nsids(&syntax.main_many("lxm")?)?;
        let audience = match syntax.one("aud").ok()?? {
            // Any method of any service is more than can be asked for.
            "*" if methods.contains(&OrAny::Any) => return None,
            "*" => OrAny::Any,
            service => OrAny::This(service_id(service)?),
        };
        Some(Self::Rpc { methods, audience })
    }

    fn blob(syntax: &Syntax) -> Option<Self> {
        syntax.only(&["accept"])?;
        let accept = syntax.main_many("accept")?;
        let fits = accept.iter().all(|accept| is_accept(accept));
        fits.then(|| Self::Blob { accept: accept.iter().map(|accept| accept.to_ascii_lowercase()).collect() })
    }

    fn account(syntax: &Syntax) -> Option<Self> {
        syntax.only(&["attr", "action"])?;
        let name = syntax.main("attr")?;
        let attribute = AccountAttribute::ALL.into_iter().find(|attribute| attribute.as_str() == name)?;
        let actions = syntax.many("action").ok()?.unwrap_or_default();
        if !actions.iter().all(|action| matches!(action.as_str(), "read" | "manage")) {
            return None;
        }
        Some(Self::Account { attribute, manage: actions.iter().any(|action| action == "manage") })
    }

    fn identity(syntax: &Syntax) -> Option<Self> {
        syntax.only(&["attr"])?;
        let attribute = match syntax.main("attr")? {
            "handle" => IdentityAttribute::Handle,
            "*" => IdentityAttribute::Any,
            _ => return None,
        };
        Some(Self::Identity { attribute })
    }

    fn include(syntax: &Syntax) -> Option<Self> {
        syntax.only(&["nsid", "aud"])?;
        let set = syntax.main("nsid")?.parse().ok()?;
        let audience = match syntax.one("aud").ok()? {
            None => None,
            Some(service) => Some(service_id(service)?),
        };
        Some(Self::Include { set, audience })
    }

    pub(super) fn allows_repo(&self, collection: &Nsid, action: RepoAction) -> bool {
        let Self::Repo { collections, actions } = self else { return false };
        actions.contains(&action) && collections.iter().any(|one| one.fits(collection.as_str()))
    }

    pub(super) fn allows_rpc(&self, method: &str, service: &str) -> bool {
        let Self::Rpc { methods, audience } = self else { return false };
        audience.fits(service) && methods.iter().any(|one| one.fits(method))
    }

    pub(super) fn allows_blob(&self, mime_type: &str) -> bool {
        let Self::Blob { accept } = self else { return false };
        let mime_type = mime_type.to_ascii_lowercase();
        let fits = |accept: &String| match accept.strip_suffix('*') {
            Some("*/") => true,
            Some(kind) => mime_type.starts_with(kind),
            None => *accept == mime_type,
        };
        is_media_type(&mime_type) && !mime_type.contains('*') && accept.iter().any(fits)
    }

    pub(super) fn allows_account(&self, wanted: AccountAttribute, to_manage: bool) -> bool {
        matches!(self, Self::Account { attribute, manage } if *attribute == wanted && (*manage || !to_manage))
    }

    pub(super) fn allows_identity(&self, wanted: IdentityAttribute) -> bool {
        let Self::Identity { attribute } = self else { return false };
        *attribute == IdentityAttribute::Any || *attribute == wanted
    }

    /// The text of a permission that a permission set gives.
    pub(super) fn format(&self) -> Option<String> {
        let (resource, name, values, mut rest) = match self {
            Self::Repo { collections, actions } => {
                let all = actions.len() == RepoAction::ALL.len();
                let actions = actions.iter().filter(|_| !all).map(|action| ("action", action.as_str()));
                ("repo", "collection", sorted(collections), actions.collect::<Vec<_>>())
            }
            Self::Rpc { methods, audience } => {
                ("rpc", "lxm", sorted(methods), vec![("aud", audience.as_str())])
            }
            _ => return None,
        };
        Some(match values.as_slice() {
            [one] => format(resource, Some(one), &rest),
            several => {
                let mut parameters: Vec<_> = several.iter().map(|value| (name, *value)).collect();
                parameters.append(&mut rest);
                format(resource, None, &parameters)
            }
        })
    }
}

fn sorted(nsids: &[OrAny<Nsid>]) -> Vec<&str> {
    let mut names: Vec<&str> = nsids.iter().map(OrAny::as_str).collect();
    if names.contains(&"*") {
        return vec!["*"];
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn nsids(texts: &[&str]) -> Option<Vec<OrAny<Nsid>>> {
    let one = |text: &&str| if *text == "*" { Some(OrAny::Any) } else { text.parse().ok().map(OrAny::This) };
    texts.iter().map(one).collect()
}

/// A DID with the name of a service behind it.
fn service_id(text: &str) -> Option<String> {
    (text.contains('#') && check_audience(text).is_ok()).then(|| text.to_owned())
}

fn is_media_type(text: &str) -> bool {
    text.split_once('/').is_some_and(|(kind, subtype)| {
        !kind.is_empty() && !subtype.is_empty() && !subtype.contains('/') && !text.contains(' ')
    })
}

fn is_accept(text: &str) -> bool {
    text == "*/*"
        || is_media_type(text)
            && (!text.contains('*') || text.find('*') == Some(text.len() - 1) && text.ends_with("/*"))
}
