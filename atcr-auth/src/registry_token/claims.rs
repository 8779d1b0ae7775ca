use atcr_core::authorizer::Action;
use atcr_core::syntax::{Did, Handle};
use atcr_core::{Account, Principal, Proof};
use serde::{Deserialize, Serialize};

use super::RepositoryAccess;

/// `typ` of a registry token.
pub(super) const ACCESS: &str = "JWT";
/// `typ` of a refresh token: a distinct one, so that neither passes for the other.
pub(super) const REFRESH: &str = "atcr-refresh+jwt";

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: Vec<String>,
    pub(super) sub: String,
    pub(super) exp: i64,
    pub(super) nbf: i64,
    pub(super) iat: i64,
    pub(super) jti: String,
    #[serde(default)]
    pub(super) access: Vec<AccessClaim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) auth_method: Option<AuthMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) handle: Option<Handle>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AccessClaim {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuthMethod {
    AppPassword,
    #[serde(rename = "oauth")]
    OAuth,
    Trusted,
}

impl AuthMethod {
    pub(super) fn of(proof: Proof) -> Self {
        match proof {
            Proof::AppPassword => Self::AppPassword,
            Proof::OAuth => Self::OAuth,
            _ => Self::Trusted,
        }
    }

    fn proof(self) -> Proof {
        match self {
            Self::AppPassword => Proof::AppPassword,
            Self::OAuth => Proof::OAuth,
            Self::Trusted => Proof::Trusted,
        }
    }
}

impl From<&RepositoryAccess> for AccessClaim {
    fn from(access: &RepositoryAccess) -> Self {
        Self {
            kind: "repository".to_owned(),
            name: access.name.to_string(),
            actions: access.actions.iter().map(|action| action.as_str().to_owned()).collect(),
        }
    }
}

impl Claims {
    /// Who the token is for; `None` when its subject is not a DID or says not how it was proven.
    pub(super) fn principal(&self) -> Option<Principal> {
        if self.sub.is_empty() {
            return Some(Principal::Anonymous);
        }
        let did: Did = self.sub.parse().ok()?;
        Some(Principal::Account(Account {
            did,
            handle: self.handle.clone(),
            proof: self.auth_method?.proof(),
        }))
    }

    /// What it allows; entries of other types and unknown actions allow nothing.
    pub(super) fn access(&self) -> Vec<RepositoryAccess> {
        let known = [Action::Pull, Action::Push, Action::Delete];
        let entries = self.access.iter().filter(|entry| entry.kind == "repository");
        entries
            .filter_map(|entry| {
                let has = |action: &Action| entry.actions.iter().any(|text| text == action.as_str());
                Some(RepositoryAccess {
                    name: entry.name.parse().ok()?,
                    actions: known.into_iter().filter(has).collect(),
                })
            })
            .collect()
    }
}
