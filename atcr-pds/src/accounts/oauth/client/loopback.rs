use url::form_urlencoded;

use super::{AuthMethod, Client, redirect};
use crate::accounts::oauth::OAuthError;
use crate::accounts::oauth::scope::is_scope_text;

const ORIGIN: &str = "http://localhost";
/// Where a program on this computer is sent when it names no place: any port, the root.
const DEFAULT_REDIRECTS: [&str; 2] = ["http://127.0.0.1/", "http://[::1]/"];

/// Whether an identifier is that of a program on this computer: it has no document.
pub(super) fn is_loopback(id: &str) -> bool {
    id.strip_prefix(ORIGIN).is_some_and(|rest| {
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        rest.is_empty() || rest.starts_with('?')
    })
}

/// The client that the query of a loopback identifier describes (specification, OAuth, "Localhost Client
/// Development").
pub(super) fn client(id: &str) -> Result<Client, OAuthError> {
    let invalid = |what: &str| {
        OAuthError::invalid_client_metadata(format!("Invalid loopback client id \"{id}\": {what}"))
    };
    if id.contains('#') {
        return Err(invalid("Value must not contain a hash component"));
    }
    let query = id.split_once('?').map_or("", |(_, query)| query);
    let mut scope = None;
    let mut redirect_uris = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "scope" if scope.is_some() => return Err(invalid("Duplicate \"scope\" query parameter")),
            "scope" if !is_scope_text(&value) => return Err(invalid("Invalid \"scope\" query parameter")),
            "scope" => scope = Some(value.into_owned()),
            "redirect_uri" => {
                redirect::check_loopback(&value).map_err(&invalid)?;
                redirect_uris.push(value.into_owned());
            }
            other => return Err(invalid(&format!("Unexpected query parameter \"{other}\""))),
        }
    }
    let scopes: Vec<String> = scope.as_deref().unwrap_or("atproto").split(' ').map(str::to_owned).collect();
    if !scopes.iter().any(|scope| scope == "atproto") {
        return Err(invalid("ATProto Loopback ClientID must include \"atproto\" scope"));
    }
    if redirect_uris.is_empty() {
        redirect_uris = DEFAULT_REDIRECTS.map(str::to_owned).into();
    }
    Ok(Client {
        id: id.to_owned(),
        name: None,
        uri: None,
        redirect_uris,
        scopes,
        refreshes: true,
        auth: AuthMethod::None,
        loaded: 0,
    })
}
