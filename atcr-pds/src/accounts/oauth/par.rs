use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use http::StatusCode;
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use serde_json::{Value, json};

use super::client::{Client, check_redirect_uri};
use super::form::Form;
use super::request::{AuthorizationRequest, LIFETIME, Parameters, Prompt};
use super::scope::{Scopes, expand, is_scope_text};
use super::{OAuthError, browser};
use crate::accounts::Pds;
use atcr_core::syntax::AtIdentifier;

/// The longest `state`, in bytes.
const MAX_STATE: usize = 4096;

/// A pushed authorization request (RFC 9126).
pub(super) async fn push(
    State(pds): State<Pds>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), OAuthError> {
    let (parts, body) = request.into_parts();
    let form = Form::from_request(Request::from_parts(parts.clone(), body), &()).await?;
    let client_id =
        form.get("client_id").ok_or_else(|| OAuthError::invalid_client("Client credentials missing"))?;
    check_syntax(&form)?;
    let proof = pds.proof(&parts, None)?;
    let key = proof.as_ref().map(|proof| proof.jkt.as_str());
    let (client, auth) = pds.authenticate_client(&form, client_id, key).await?;
    let dpop_jkt = match (form.get("dpop_jkt"), key) {
        (Some(named), Some(shown)) if named != shown => {
            return Err(OAuthError::invalid_token("Invalid DPoP key binding"));
        }
        (named, shown) => named.or(shown).map(str::to_owned),
    };
    let parameters = check(&form, &client, dpop_jkt)?;
    expand(&pds, &parameters.scope).await?;
    let now = pds.now();
    browser::sweep(pds.pool(), now).await?;
    let uri = AuthorizationRequest::push(pds.pool(), &client.id, &auth, &parameters, now).await?;
    Ok((StatusCode::CREATED, Json(json!({"request_uri": uri, "expires_in": LIFETIME}))))
}

/// What is wrong with a request whoever it comes from.
fn check_syntax(form: &Form) -> Result<(), OAuthError> {
    let invalid = |what: &str| OAuthError::invalid_request(format!("Invalid authorization request: {what}"));
    if let Some(uri) = form.get("redirect_uri") {
        check_redirect_uri(uri).map_err(|what| invalid(&format!("{what} at body.redirect_uri")))?;
    }
    if form.has("scope") && !form.get("scope").is_some_and(is_scope_text) {
        return Err(invalid("Invalid OAuth scope at body.scope"));
    }
    if form.get("state").is_some_and(|state| state.len() > MAX_STATE) {
        return Err(invalid("the state is longer than 4,096 bytes at body.state"));
    }
    for name in ["request", "claims", "id_token_hint", "nonce", "authorization_details"] {
        if form.has(name) {
            return Err(OAuthError::invalid_request(format!("Unsupported \"{name}\" parameter")));
        }
    }
    match form.get("response_type") {
        Some("code") => Ok(()),
        None => Err(invalid("Required at body.response_type")),
        Some(other) => {
            Err(OAuthError::unsupported_response_type(format!("Unsupported response_type \"{other}\"")))
        }
    }
}

/// One of the words that an enumeration knows.
fn word<'de, T: Deserialize<'de>>(form: &'de Form, name: &str) -> Result<Option<T>, OAuthError> {
    let Some(text) = form.get(name) else { return Ok(None) };
    let text: StrDeserializer<'de, Error> = text.into_deserializer();
    let unknown = |_| {
        OAuthError::invalid_request(format!("Invalid authorization request: Invalid value at body.{name}"))
    };
    T::deserialize(text).map(Some).map_err(unknown)
}

/// Checks a request against what the client has declared, and against the profile of the AT Protocol.
fn check(form: &Form, client: &Client, dpop_jkt: Option<String>) -> Result<Parameters, OAuthError> {
    let asked: Vec<&str> = form.get("scope").map(|scope| scope.split(' ').collect()).unwrap_or_default();
    if let Some(scope) = asked.iter().find(|scope| !client.declares(scope)) {
        return Err(OAuthError::invalid_scope(format!(
            "Scope \"{scope}\" is not declared in the client metadata"
        )));
    }
    let redirect_uri = client.redirect_uri(form.get("redirect_uri"))?;
    let code_challenge =
        form.get("code_challenge").ok_or_else(|| OAuthError::invalid_request("Use of PKCE is required"))?;
    if !asked.contains(&"atproto") {
        return Err(OAuthError::invalid_scope("The \"atproto\" scope is required"));
    }
    if asked.contains(&"openid") {
        return Err(OAuthError::invalid_scope("OpenID Connect is not compatible with atproto"));
    }
    if form.get("code_challenge_method") != Some("S256") {
        return Err(OAuthError::invalid_request("atproto requires use of \"S256\" code_challenge_method"));
    }
    let is_base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if code_challenge.len() != 43 || !code_challenge.bytes().all(is_base64url) {
        return Err(OAuthError::invalid_request("the code_challenge is not a SHA-256 in base64url"));
    }
    let mut prompt: Option<Prompt> = word(form, "prompt")?;
    if client.is_public() {
        // Anybody can say that they are a public client, so its user is asked each time.
        prompt = match prompt {
            Some(Prompt::None) => {
                return Err(OAuthError::invalid_request(
                    "Public clients are not allowed to use silent-sign-on",
                ));
            }
            Some(Prompt::Create | Prompt::Login | Prompt::SelectAccount) => prompt,
            None | Some(Prompt::Consent) => Some(Prompt::Consent),
        };
    }
    let login_hint = form.get("login_hint").map(str::to_lowercase);
    if let Some(hint) = login_hint.as_deref().filter(|hint| hint.parse::<AtIdentifier>().is_err()) {
        return Err(OAuthError::invalid_request(format!("Invalid login_hint \"{hint}\"")));
    }
    Ok(Parameters {
        redirect_uri,
        response_mode: word(form, "response_mode")?.unwrap_or_default(),
        state: form.get("state").map(str::to_owned),
        scope: Scopes::understood(&asked.join(" ")),
        code_challenge: code_challenge.to_owned(),
        dpop_jkt,
        login_hint,
        prompt,
    })
}
