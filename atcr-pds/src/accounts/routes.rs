use std::convert::Infallible;

use atcr_core::crypto::PublicKey;
use atcr_core::syntax::{Datetime, Did, Handle, Nsid};
use axum::extract::{FromRequest as _, FromRequestParts, Request, State};
use axum::{Json, Router};
use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Rights, SessionCaller, scope_missing};
use super::limits::{Counted, client};
use super::oauth::{AccountAttribute, IdentityAttribute};
use super::password::new_app_password;
use super::store::AppPassword;
use super::token::Scope;
use super::{AccountError, NewAccount, Pds, Session};
use crate::store::RepoStatus;
use crate::xrpc::{Input, Params, XrpcError, bearer_token, procedure, query};

/// Methods for which only the account's own password is good enough.
const PROTECTED_METHODS: [&str; 13] = [
    "com.atproto.admin.sendEmail",
    "com.atproto.identity.requestPlcOperationSignature",
    "com.atproto.identity.signPlcOperation",
    "com.atproto.identity.updateHandle",
    "com.atproto.server.activateAccount",
    "com.atproto.server.confirmEmail",
    "com.atproto.server.createAppPassword",
    "com.atproto.server.deactivateAccount",
    "com.atproto.server.getAccountInviteCodes",
    "com.atproto.server.listAppPasswords",
    "com.atproto.server.requestAccountDelete",
    "com.atproto.server.requestEmailUpdate",
    "com.atproto.server.updateEmail",
];

/// The methods that only a server with accounts has.
pub(super) fn routes(pds: Pds) -> Router {
    Router::new()
        .route("/xrpc/com.atproto.server.createAccount", procedure(create_account))
        .route("/xrpc/com.atproto.server.createSession", procedure(create_session))
        .route("/xrpc/com.atproto.server.refreshSession", procedure(refresh_session))
        .route("/xrpc/com.atproto.server.getSession", query(get_session))
        .route("/xrpc/com.atproto.server.deleteSession", procedure(delete_session))
        .route("/xrpc/com.atproto.server.getServiceAuth", query(get_service_auth))
        .route("/xrpc/com.atproto.server.createAppPassword", procedure(create_app_password))
        .route("/xrpc/com.atproto.server.listAppPasswords", query(list_app_passwords))
        .route("/xrpc/com.atproto.server.revokeAppPassword", procedure(revoke_app_password))
        .route("/xrpc/com.atproto.server.activateAccount", procedure(activate_account))
        .route("/xrpc/com.atproto.server.deactivateAccount", procedure(deactivate_account))
        .route("/xrpc/com.atproto.identity.updateHandle", procedure(update_handle))
        .with_state(pds)
}

impl FromRequestParts<Pds> for SessionCaller {
    type Rejection = XrpcError;

    async fn from_request_parts(parts: &mut Parts, pds: &Pds) -> Result<Self, XrpcError> {
        pds.caller(parts).await
    }
}

/// A session of the account's own password.
struct FullAccess(Did);

impl FromRequestParts<Pds> for FullAccess {
    type Rejection = XrpcError;

    async fn from_request_parts(parts: &mut Parts, pds: &Pds) -> Result<Self, XrpcError> {
        let caller = pds.caller(parts).await?;
        match &caller.rights {
            Rights::Password(_) => caller.manages(|_| Ok(())).map(Self),
            Rights::OAuth(_) => {
                Err(XrpcError::forbidden("OAuth credentials are not supported for this endpoint"))
            }
        }
    }
}

/// The address of the client.
struct Client(String);

impl FromRequestParts<Pds> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _pds: &Pds) -> Result<Self, Infallible> {
        Ok(Self(client(parts)))
    }
}

/// The token of a request that is answered for a refresh token.
struct Refresh(String);

impl FromRequestParts<Pds> for Refresh {
    type Rejection = XrpcError;

    async fn from_request_parts(parts: &mut Parts, _pds: &Pds) -> Result<Self, XrpcError> {
        bearer_token(parts).map(|token| Self(token.to_owned()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateAccountInput {
    handle: Handle,
    email: Option<String>,
    password: Option<String>,
    did: Option<Did>,
    recovery_key: Option<String>,
}

async fn create_account(
    State(pds): State<Pds>,
    Client(client): Client,
    Input(input): Input<CreateAccountInput>,
) -> Result<Json<Session>, XrpcError> {
    pds.count(Counted::Accounts, &client, 1)?;
    if input.did.is_some() {
        return Err(AccountError::Invalid("accounts of other servers cannot be moved here").into());
    }
    let password = input.password.ok_or(AccountError::Invalid("Password is required"))?;
    let email = input.email.ok_or(AccountError::Invalid("Email is required"))?;
    let bad_key = |_| XrpcError::invalid_request("recoveryKey is not a did:key of P-256 or secp256k1");
    let recovery_key =
        input.recovery_key.map(|key| PublicKey::from_did_key(&key).map_err(bad_key)).transpose()?;
    let new = NewAccount {
        handle: &input.handle,
        password: &password,
        email: &email,
        recovery_key: recovery_key.as_ref(),
    };
    let account = pds.make_account(&new).await?;
    Ok(Json(pds.open_session(account, None).await?))
}

#[derive(Deserialize)]
struct CreateSessionInput {
    identifier: String,
    password: String,
}

async fn create_session(
    State(pds): State<Pds>,
    Client(client): Client,
    Input(input): Input<CreateSessionInput>,
) -> Result<Json<Session>, XrpcError> {
    pds.count(Counted::Sessions, &format!("{client} {}", input.identifier), 1)?;
    Ok(Json(pds.create_session(&input.identifier, &input.password).await?))
}

async fn refresh_session(
    State(pds): State<Pds>,
    Refresh(token): Refresh,
) -> Result<Json<Session>, XrpcError> {
    Ok(Json(pds.refresh_session(&token).await?))
}

async fn delete_session(State(pds): State<Pds>, Refresh(token): Refresh) -> Result<StatusCode, XrpcError> {
    pds.delete_session(&token).await?;
    Ok(StatusCode::OK)
}

async fn get_session(State(pds): State<Pds>, caller: SessionCaller) -> Result<Json<Value>, XrpcError> {
    let account = pds.account(&caller.did).await?;
    let status = pds.status(&caller.did).await?;
    let mut answer = json!({
        "did": account.did,
        "handle": account.handle,
        "active": status == RepoStatus::Active,
    });
    let sees_email = match &caller.rights {
        Rights::Password(scope) => *scope == Scope::Access,
        Rights::OAuth(scopes) => scopes.check_account(AccountAttribute::Email, false).is_ok(),
    };
    if sees_email {
        answer["email"] = json!(account.email);
    }
    if sees_email || matches!(caller.rights, Rights::Password(_)) {
        answer["emailConfirmed"] = json!(false);
    }
    if status != RepoStatus::Active {
        answer["status"] = json!(status.as_str());
    }
    Ok(Json(answer))
}

async fn get_service_auth(
    State(pds): State<Pds>,
    caller: SessionCaller,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let audience: String = params.required("aud")?;
    let method: Option<Nsid> = params.optional("lxm")?;
    let exp = params.number("exp")?;
    let beyond = |method: &&Nsid| {
        let name = method.as_str();
        match &caller.rights {
            Rights::Password(Scope::Access) => false,
            Rights::Password(Scope::AppPasswordPrivileged) | Rights::OAuth(_) => {
                PROTECTED_METHODS.contains(&name)
            }
            Rights::Password(_) => PROTECTED_METHODS.contains(&name) || name.starts_with("chat.bsky."),
        }
    };
    if let Some(method) = method.as_ref().filter(beyond) {
        return Err(XrpcError::invalid_request(format!(
            "insufficient access to request a service auth token for the following method: {method}"
        )));
    }
    if let Rights::OAuth(scopes) = &caller.rights {
        let name = method.as_ref().map_or("*", Nsid::as_str);
        scopes.check_rpc(name, &audience).map_err(scope_missing)?;
    }
    let token = pds.service_token(&caller.did, &audience, method.as_ref(), exp).await?;
    Ok(Json(json!({"token": token})))
}

#[derive(Deserialize)]
struct CreateAppPasswordInput {
    name: String,
    #[serde(default)]
    privileged: bool,
}

async fn create_app_password(
    State(pds): State<Pds>,
    FullAccess(did): FullAccess,
    Input(input): Input<CreateAppPasswordInput>,
) -> Result<Json<Value>, XrpcError> {
    if input.name.is_empty() || input.name.len() > 256 {
        return Err(AccountError::Invalid("the name of an app password has 1 to 256 bytes").into());
    }
    let password = new_app_password()?;
    let hash = pds.passwords().hash_app_password(&did, &password).await?;
    let created_at = Datetime::from(pds.clock().now());
    let kept = AppPassword { name: input.name, privileged: input.privileged, created_at };
    pds.accounts().add_app_password(&did, &kept, &hash).await?;
    Ok(Json(json!({
        "name": kept.name,
        "password": password,
        "createdAt": kept.created_at,
        "privileged": kept.privileged,
    })))
}

async fn list_app_passwords(
    State(pds): State<Pds>,
    FullAccess(did): FullAccess,
) -> Result<Json<Value>, XrpcError> {
    let passwords = pds.accounts().app_passwords(&did).await?;
    let describe = |kept: &AppPassword| json!({"name": kept.name, "createdAt": kept.created_at, "privileged": kept.privileged});
    Ok(Json(json!({"passwords": passwords.iter().map(describe).collect::<Vec<_>>()})))
}

#[derive(Deserialize)]
struct RevokeAppPasswordInput {
    name: String,
}

async fn revoke_app_password(
    State(pds): State<Pds>,
    FullAccess(did): FullAccess,
    Input(input): Input<RevokeAppPasswordInput>,
) -> Result<StatusCode, XrpcError> {
    pds.accounts().revoke_app_password(&did, &input.name).await?;
    Ok(StatusCode::OK)
}

async fn activate_account(
    State(pds): State<Pds>,
    FullAccess(did): FullAccess,
) -> Result<StatusCode, XrpcError> {
    pds.activate_account(&did).await?;
    Ok(StatusCode::OK)
}

async fn deactivate_account(
    State(pds): State<Pds>,
    caller: SessionCaller,
    request: Request,
) -> Result<StatusCode, XrpcError> {
    let did = caller.manages(|scopes| scopes.check_account(AccountAttribute::Status, true))?;
    // `deleteAfter` may be sent; here nothing is deleted by itself.
    Input::<Value>::from_request(request, &()).await?;
    pds.deactivate_account(&did).await?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
struct UpdateHandleInput {
    handle: Handle,
}

async fn update_handle(
    State(pds): State<Pds>,
    caller: SessionCaller,
    Input(input): Input<UpdateHandleInput>,
) -> Result<StatusCode, XrpcError> {
    let did = caller.manages(|scopes| scopes.check_identity(IdentityAttribute::Handle))?;
    pds.count(Counted::Handles, did.as_str(), 1)?;
    pds.update_handle(&did, &input.handle).await?;
    Ok(StatusCode::OK)
}
