//! Asking relays to follow this server (`com.atproto.sync.requestCrawl`).

use std::time::Duration;

use atcr_core::egress::Egress;
use atcr_core::xrpc::{XrpcClient, XrpcError};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use url::Url;

use crate::Repos;

const METHOD: &str = "com.atproto.sync.requestCrawl";

/// When relays are asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrawlerOptions {
    /// A relay that has agreed is asked again after this long, once there are events it may have missed. Default: 20
    /// minutes, as the reference server does.
    pub interval: Duration,
    /// How long after a failure a relay is asked again; it doubles each time. Default: 10 seconds.
    pub retry: Duration,
    /// The longest that grows to, and the wait after a refusal. Default: 20 minutes.
    pub retry_max: Duration,
}

impl Default for CrawlerOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(20 * 60),
            retry: Duration::from_secs(10),
            retry_max: Duration::from_secs(20 * 60),
        }
    }
}

/// Relays that are to follow this server.
///
/// A relay forgets a server that it cannot reach for a while, and learns only by being asked that it is back.
/// [`Crawlers::run`] asks at the start and, upon new events, now and then; nothing ever waits for a relay. Cloning
/// shares connections.
#[derive(Debug, Clone)]
pub struct Crawlers {
    hostname: String,
    relays: Vec<XrpcClient>,
    options: CrawlerOptions,
}

#[derive(Serialize)]
struct Input<'a> {
    hostname: &'a str,
}

impl Crawlers {
    /// Relays at these URLs, asked to follow the server at `public_url`. Relays of the public network take a host
    /// name without a port only.
    pub fn new(egress: Egress, public_url: &Url, relays: impl IntoIterator<Item = Url>) -> Self {
        let host = public_url.host_str().unwrap_or_default();
        let hostname = public_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let relays = relays.into_iter().map(|relay| XrpcClient::new(egress.clone(), relay)).collect();
        Self { hostname, relays, options: CrawlerOptions::default() }
    }

    /// The same with other times.
    #[must_use]
    pub fn with_options(self, options: CrawlerOptions) -> Self {
        Self { options, ..self }
    }

    /// The host name that relays are told.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Asks every relay once, at the same time, and gives what each has answered.
    pub async fn request(&self) -> Vec<(Url, Result<(), XrpcError>)> {
        let asked = self.relays.iter().map(async |relay| (relay.service().clone(), self.ask(relay).await));
        join_all(asked).await
    }

    /// Asks the relays now and, while `repos` has new events, every [`CrawlerOptions::interval`]; for ever. Failures
    /// are logged and tried again. To be run beside the router, which a relay calls at once.
    pub async fn run(&self, repos: &Repos) {
        join_all(self.relays.iter().map(|relay| self.follow(relay, repos.subscribe()))).await;
        // Without relays there is nothing to do, which is no reason to end.
        std::future::pending::<()>().await;
    }

    async fn ask(&self, relay: &XrpcClient) -> Result<(), XrpcError> {
        // What a relay answers besides the status does not matter.
        match relay.procedure::<Value>(METHOD, &Input { hostname: &self.hostname }).await {
            Ok(_) | Err(XrpcError::Unreadable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn follow(&self, relay: &XrpcClient, mut events: watch::Receiver<u64>) {
        let mut retry = self.options.retry;
        loop {
            events.mark_unchanged();
            let Err(error) = self.ask(relay).await else {
                tracing::info!(relay = %relay.service(), hostname = %self.hostname, "the relay was asked to follow");
                retry = self.options.retry;
                sleep(self.options.interval).await;
                if events.changed().await.is_err() {
                    // The repos are closed: the server is ending.
                    return;
                }
                continue;
            };
            let wait = if error.is_transient() { retry } else { self.options.retry_max };
            retry = (retry * 2).min(self.options.retry_max);
            tracing::warn!(
                relay = %relay.service(), hostname = %self.hostname, %error, again_in = ?wait,
                "the relay was not asked to follow; it must reach this host name over https at port 443"
            );
            sleep(wait).await;
        }
    }
}
