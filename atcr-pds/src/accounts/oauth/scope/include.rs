use atcr_core::lexicon::BUILTIN;
use atcr_core::syntax::Nsid;
use serde_json::Value;

use super::Scopes;
use super::permission::{OrAny, Permission};
use super::syntax::Syntax;
use crate::accounts::oauth::OAuthError;
use crate::accounts::{AccountError, Pds};
use crate::repo::RecordPath;

/// The most permissions that are taken from a set.
const MAX_PERMISSIONS: usize = 200;

/// The scopes with each permission set replaced by what it gives: what a token is good for.
pub(in crate::accounts::oauth) async fn expand(pds: &Pds, scopes: &Scopes) -> Result<Scopes, OAuthError> {
    let mut given = Vec::new();
    let mut others = Vec::new();
    for (text, permission) in scopes.text.split(' ').zip(&scopes.permissions) {
        match permission {
            Permission::Include { set, audience } => {
                let document = permission_set(pds, set).await?.ok_or_else(|| {
                    OAuthError::invalid_scope(format!("Could not resolve Lexicon for NSID ({set})"))
                })?;
                given.extend(permissions(&document, set, audience.as_deref()));
            }
            _ => others.push(text.to_owned()),
        }
    }
    given.append(&mut others);
    Ok(Scopes::understood(&given.join(" ")))
}

/// The permission set of a name: from the repo that the server is told to trust for lexicons, or built in.
async fn permission_set(pds: &Pds, set: &Nsid) -> Result<Option<Value>, OAuthError> {
    let is_set = |document: &Value| document["defs"]["main"]["type"] == "permission-set";
    if let Some(authority) = &pds.config().lexicon_authority {
        let internal = |error: String| OAuthError::from(AccountError::Internal(error));
        let collection =
            "com.atproto.lexicon.schema".parse().map_err(|error| internal(format!("{error}")))?;
        let rkey = set.as_str().parse().map_err(|error| internal(format!("{error}")))?;
        let path = RecordPath::new(&collection, &rkey).map_err(|error| internal(error.to_string()))?;
        let record = pds.repos().get_record(authority, &path).await.map_err(AccountError::from)?;
        if let Some(record) = record {
            let document = record.to_json().map_err(|error| internal(error.to_string()))?;
            return Ok(Some(document).filter(is_set));
        }
    }
    let builtin = BUILTIN.iter().find(|(name, _)| *name == set.as_str());
    Ok(builtin.and_then(|(_, text)| serde_json::from_str(text).ok()).filter(is_set))
}

/// The scopes that a set gives: only records and methods, and only of its own namespace.
fn permissions(document: &Value, set: &Nsid, audience: Option<&str>) -> Vec<String> {
    let listed = document["defs"]["main"]["permissions"].as_array();
    let group = set.as_str().rsplit_once('.').map_or("", |(group, _)| group);
    let own = |nsid: &OrAny<Nsid>| match nsid {
        OrAny::Any => false,
        OrAny::This(nsid) => nsid.as_str().strip_prefix(group).is_some_and(|rest| rest.starts_with('.')),
    };
    let read = |permission: &Value| {
        let mut syntax = Syntax::of_lexicon(permission)?;
        if syntax.resource == "rpc" {
            if syntax.has("aud") && syntax.one("aud").ok()?? != "*" {
                return None;
            }
            if let Some(audience) = audience.filter(|_| !syntax.has("aud") && syntax.has("inheritAud"))
                && syntax.remove("inheritAud")? == "true"
            {
                syntax.set("aud", audience.to_owned());
            }
        }
        match Permission::of(&syntax)? {
            permission @ Permission::Repo { .. } => {
                let Permission::Repo { collections, .. } = &permission else { return None };
                collections.iter().all(own).then(|| permission.format())?
            }
            permission @ Permission::Rpc { .. } => {
                let Permission::Rpc { methods, .. } = &permission else { return None };
                methods.iter().all(own).then(|| permission.format())?
            }
            _ => None,
        }
    };
    listed.into_iter().flatten().take(MAX_PERMISSIONS).filter_map(read).collect()
}
