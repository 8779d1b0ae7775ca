use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Extensions, HeaderName, HeaderValue, StatusCode};

use super::Pds;
use crate::WriteAction;
use crate::xrpc::XrpcError;

/// Counters kept at once. Beyond that the finished windows are forgotten, and then all.
const MAX_COUNTERS: usize = 100_000;

/// So many points within so many seconds, counted from the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Points.
    pub points: u32,
    /// Seconds.
    pub seconds: i64,
}

/// How much one client or account may do. Each list is checked whole; an empty one sets no bound.
///
/// Clients are told apart by their address, for which the router has to be served with connection info
/// (`into_make_service_with_connect_info::<SocketAddr>()`); without it all count as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// Calls of any method, by client.
    pub calls: Vec<Limit>,
    /// createSession, by client and identifier.
    pub sessions: Vec<Limit>,
    /// createAccount, by client.
    pub accounts: Vec<Limit>,
    /// updateHandle, by account.
    pub handles: Vec<Limit>,
    /// uploadBlob, by client.
    pub uploads: Vec<Limit>,
    /// Records written, by account: a creation is 3 points, an update 2, a deletion 1.
    pub writes: Vec<Limit>,
}

impl RateLimits {
    /// The limits of the reference server.
    pub fn reference() -> Self {
        const MINUTES: i64 = 5 * 60;
        const HOUR: i64 = 60 * 60;
        const DAY: i64 = 24 * HOUR;
        let limits =
            |pairs: &[(u32, i64)]| pairs.iter().map(|&(points, seconds)| Limit { points, seconds }).collect();
        Self {
            calls: limits(&[(3000, MINUTES)]),
            sessions: limits(&[(30, MINUTES), (300, DAY)]),
            accounts: limits(&[(100, MINUTES)]),
            handles: limits(&[(10, MINUTES), (50, DAY)]),
            uploads: limits(&[(1000, DAY)]),
            writes: limits(&[(5000, HOUR), (35_000, DAY)]),
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    Calls,
    Sessions,
    Accounts,
    Handles,
    Uploads,
    Writes,
    /// Log-ins at the OAuth provider that failed.
    SignIns,
}

impl Counted {
    fn limits(self, limits: &RateLimits) -> &[Limit] {
        match self {
            Self::Calls => &limits.calls,
            Self::Sessions => &limits.sessions,
            Self::Accounts => &limits.accounts,
            Self::Handles => &limits.handles,
            Self::Uploads => &limits.uploads,
            Self::Writes => &limits.writes,
            // Bounded by the provider itself.
            Self::SignIns => &[],
        }
    }
}

#[derive(Debug)]
struct Window {
    ends: i64,
    used: u32,
}

/// The counters of a server.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<HashMap<(Counted, i64, String), Window>>);

impl Counters {
    fn consume(
        &self,
        counted: Counted,
        limits: &[Limit],
        key: &str,
        points: u32,
        now: i64,
    ) -> Result<(), XrpcError> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= MAX_COUNTERS {
            counters.retain(|_, window| window.ends > now);
            if counters.len() >= MAX_COUNTERS {
                counters.clear();
            }
        }
        for limit in limits {
            let window = counters
                .entry((counted, limit.seconds, key.to_owned()))
                .or_insert(Window { ends: now + limit.seconds, used: 0 });
            if window.ends <= now {
                *window = Window { ends: now + limit.seconds, used: 0 };
            }
            window.used = window.used.saturating_add(points);
            if window.used > limit.points {
                return Err(exceeded(*limit, window.ends));
            }
        }
        Ok(())
    }

    fn give_back(&self, counted: Counted, limits: &[Limit], key: &str) {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for limit in limits {
            if let Some(window) = counters.get_mut(&(counted, limit.seconds, key.to_owned())) {
                window.used = window.used.saturating_sub(1);
            }
        }
    }
}

fn exceeded(limit: Limit, ends: i64) -> XrpcError {
    let policy = HeaderValue::try_from(format!("{};w={}", limit.points, limit.seconds));
    let error = XrpcError::new(StatusCode::TOO_MANY_REQUESTS, "RateLimitExceeded", "Rate Limit Exceeded")
        .with_header(HeaderName::from_static("ratelimit-limit"), limit.points.into())
        .with_header(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from_static("0"))
        .with_header(HeaderName::from_static("ratelimit-reset"), ends.into());
    match policy {
        Ok(policy) => error.with_header(HeaderName::from_static("ratelimit-policy"), policy),
        Err(_) => error,
    }
}

impl Pds {
    /// Counts something towards its limits; without limits nothing is counted.
    pub(super) fn count(&self, counted: Counted, key: &str, points: u32) -> Result<(), XrpcError> {
        let Some(limits) = &self.config().rate_limits else { return Ok(()) };
        let now = self.clock().now().as_second();
        self.counters().consume(counted, counted.limits(limits), key, points, now)
    }

    /// Counts one point towards these limits, whatever is configured.
    pub(super) fn count_within(
        &self,
        counted: Counted,
        key: &str,
        limits: &[Limit],
    ) -> Result<(), XrpcError> {
        self.counters().consume(counted, limits, key, 1, self.clock().now().as_second())
    }

    /// Takes back what [`Pds::count_within`] counted.
    pub(super) fn give_back(&self, counted: Counted, key: &str, limits: &[Limit]) {
        self.counters().give_back(counted, limits, key);
    }
}

/// The points of a write.
pub(super) fn points(action: WriteAction) -> u32 {
    match action {
        WriteAction::Create => 3,
        WriteAction::Update => 2,
        WriteAction::Delete => 1,
        WriteAction::Unchanged => 0,
    }
}

/// The address of the client.
pub(super) fn client(request: &Parts) -> String {
    address(&request.extensions)
}

fn address(extensions: &Extensions) -> String {
    let info = extensions.get::<ConnectInfo<SocketAddr>>();
    info.map(|ConnectInfo(address)| address.ip().to_string()).unwrap_or_default()
}

/// Counts every call.
pub(super) async fn calls(State(pds): State<Pds>, request: Request, next: Next) -> Response {
    match pds.count(Counted::Calls, &address(request.extensions()), 1) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}
