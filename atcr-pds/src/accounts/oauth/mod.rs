//! The OAuth provider: sign-in with a browser, as any client of the AT Protocol knows it (specification, OAuth).
//!
//! A client pushes its request ([`par`]), sends the browser to [`authorize`], where the owner of the account logs in
//! and agrees, and gets tokens for the code it is given back ([`token`]). Every token is bound to a key of the client
//! ([`dpop`]) and to what was agreed on ([`scope`]).

mod access_token;
mod authorize;
mod browser;
mod client;
mod consent;
mod discovery;
mod dpop;
mod error;
mod form;
mod grant;
mod jwt;
mod mac;
mod pages;
mod par;
mod replay;
mod request;
mod resource;
mod response;
mod schema;
mod scope;
mod sign_in;
mod token;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use sqlx::SqlitePool;

use access_token::AccessTokens;
use client::Clients;
use dpop::Dpop;

pub use client::{ClientDocuments, DocumentError, EgressDocuments};
use error::OAuthError;
pub(super) use resource::nonces;
pub(super) use schema::SCHEMA;
pub(super) use scope::{AccountAttribute, IdentityAttribute, RepoAction, Scopes};

use super::store::AccountStore;
use super::{AccountError, Pds, PdsConfig};

/// What the provider holds in memory.
#[derive(Debug)]
pub(super) struct OAuth {
    issuer: String,
    clients: Clients,
    dpop: Dpop,
    tokens: AccessTokens,
    pages_secret: [u8; 32],
}

impl OAuth {
    pub(super) async fn open(config: &PdsConfig, accounts: &AccountStore) -> Result<Self, AccountError> {
        let secret = accounts.secret("oauth access tokens").await?;
        Ok(Self {
            issuer: config.public_url.origin().ascii_serialization(),
            clients: Clients::new(config.client_documents.clone(), config.clock.clone()),
            dpop: Dpop::new(config.clock.clone())?,
            tokens: AccessTokens::new(&secret),
            pages_secret: accounts.secret("oauth pages").await?,
        })
    }
}

impl Pds {
    fn issuer(&self) -> &str {
        &self.oauth().issuer
    }

    fn now(&self) -> i64 {
        self.clock().now().as_second()
    }

    fn pool(&self) -> &SqlitePool {
        &self.accounts().pool
    }
}

/// The endpoints and pages of the provider.
pub(super) fn routes(pds: Pds) -> Router {
    let endpoints = Router::new()
        .route("/oauth/par", post(par::push))
        .route("/oauth/token", post(token::token))
        .route("/oauth/revoke", post(token::revoke))
        .layer(from_fn_with_state(pds.clone(), resource::always_nonces));
    Router::new()
        .route("/.well-known/oauth-protected-resource", get(discovery::protected_resource))
        .route("/.well-known/oauth-authorization-server", get(discovery::authorization_server))
        .route("/oauth/jwks", get(discovery::jwks))
        .route("/oauth/authorize", get(authorize::page))
        .route("/oauth/authorize/sign-in", post(sign_in::sign_in))
        .route("/oauth/authorize/account", post(sign_in::choose))
        .route("/oauth/authorize/consent", post(consent::decide))
        .route("/oauth/style.css", get(pages::style))
        .merge(endpoints)
        .with_state(pds)
}
