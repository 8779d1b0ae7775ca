//! Signing in with a browser: the pages and routes between a visitor and the authorization server of their account.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /auth/oauth/login?handle=…&return_to=…` | begins a sign-in; without a handle, asks for it |
//! | `GET /auth/oauth/authorize` | the same, by its older name |
//! | `GET /auth/oauth/callback` | ends it |
//! | `GET /auth/account` | who is signed in, and the way out |
//! | `POST /auth/logout` | ends the session at the PDS and in every browser; with `here=on`, in this browser alone |
//! | `GET /oauth-client-metadata.json`, `/client-metadata.json` | who this registry is, for authorization servers |
//! | `GET /auth/oauth/jwks.json` | by which keys it proves that |

mod begin;
mod callback;
mod pages;
mod problem;
mod registry;
mod sign_out;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::browser::{BrowserStore, Browsers, Cookie, LOGIN};
use crate::clock::Clock;
use crate::oauth::{CALLBACK, JWKS, METADATA};
use crate::pds_session::{AccountSessions, Attempts};
use crate::peer::TrustedProxies;

/// Where a session is ended, by POST.
pub const LOGOUT: &str = "/auth/logout";

/// Sign-ins that are being begun at the same time: each one makes this machine ask strangers' servers.
const CONCURRENT: usize = 256;
/// Sign-ins that one address may begin within five minutes: many people may share one.
const BEGINNINGS: usize = 100;

/// Signing in with a browser. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WebSignIn {
    sessions: AccountSessions,
    browsers: Browsers,
    store: Arc<dyn BrowserStore>,
    /// Tells the browser that began a sign-in from every other one.
    cookie: Cookie,
    clock: Clock,
    beginning: Arc<Semaphore>,
    begun: Attempts<IpAddr>,
    proxies: TrustedProxies,
}

impl WebSignIn {
    /// Sign-in for sessions that have an OAuth client ([`AccountSessions::with_oauth`]); `None` for those that have not.
    /// `store` keeps the browsers and the sign-ins under way.
    pub fn new(sessions: AccountSessions, store: Arc<dyn BrowserStore>, clock: Clock) -> Option<Self> {
        let base = sessions.oauth()?.registration().base().clone();
        let browsers = Browsers::new(&base, Arc::clone(&store), Arc::clone(sessions.store()), clock.clone());
        Some(Self {
            cookie: Cookie::new(&base, "atcr-sign-in"),
            beginning: Arc::new(Semaphore::new(CONCURRENT)),
            begun: Attempts::new(clock.clone(), BEGINNINGS),
            proxies: TrustedProxies::default(),
            sessions,
            browsers,
            store,
            clock,
        })
    }

    /// The same, behind proxies. An address that has begun a hundred sign-ins waits, as at the
    /// [`TokenEndpoint`](crate::TokenEndpoint::with_trusted_proxies).
    #[must_use]
    pub fn with_trusted_proxies(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// Who is signed in in which browser.
    pub fn browsers(&self) -> &Browsers {
        &self.browsers
    }

    /// The routes.
    pub fn router(self) -> Router {
        let mut router = Router::new()
            .route(LOGIN, get(begin::begin))
            .route("/auth/oauth/authorize", get(begin::begin))
            .route(CALLBACK, get(callback::callback))
            .route("/auth/account", get(sign_out::account))
            .route(LOGOUT, post(sign_out::sign_out))
            .route("/auth/style.css", get(crate::pages::style))
            .route(JWKS, get(registry::jwks));
        for path in METADATA {
            router = router.route(path, get(registry::metadata));
        }
        router.layer(DefaultBodyLimit::max(16 * 1024)).with_state(self)
    }
}
