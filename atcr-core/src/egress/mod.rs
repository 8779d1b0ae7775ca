//! The egress gate: the only way out to an address that somebody else chose.
//!
//! DIDs, handles, PDSs, holds and authorisation servers are named by strangers, and a request to such a name must not
//! reach the host's own network. The gate refuses what is not a public address (RFC 6890) *after* resolving the name
//! and connects to the very address it has checked, checks every redirect anew, and caps time and size. No other code
//! builds an HTTP client; a clippy rule keeps it so.

mod address;
mod dns;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Response, StatusCode, header};
use url::{Host, Url};

pub use address::is_public;

use crate::error::Source;

/// What the gate lets through.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EgressPolicy {
    /// Lets requests reach this machine, and use plain http to do so: for development only.
    pub allow_loopback: bool,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a peer may be silent in the middle of an answer.
    pub read_timeout: Duration,
    /// How long a whole exchange of a small document may take.
    pub total_timeout: Duration,
    /// What the gate calls itself.
    pub user_agent: String,
}

impl Default for EgressPolicy {
    /// Public addresses over https only; 5 s to connect, 30 s of silence, 15 s for a small document.
    fn default() -> Self {
        Self {
            allow_loopback: false,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(15),
            user_agent: concat!("atcr/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl EgressPolicy {
    /// The policy of a development network: loopback is open.
    pub fn development() -> Self {
        Self { allow_loopback: true, ..Self::default() }
    }
}

/// Why a request did not get its answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The gate does not let it through.
    #[error("a request to {url} is not allowed: {reason}")]
    Forbidden {
        /// Where it was to go, without query and user.
        url: String,
        /// Why not.
        reason: &'static str,
    },
    /// The peer cannot be reached, or the exchange broke off.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// Where it went, without query and user.
        url: String,
        /// What happened.
        #[source]
        source: Source,
    },
    /// The peer answered with a status that is not a success.
    #[error("{url} answered {status}")]
    Status {
        /// Where it went, without query and user.
        url: String,
        /// The status.
        status: StatusCode,
        /// The first bytes of the answer.
        body: Bytes,
    },
    /// The answer is larger than what was asked for.
    #[error("{url} sent more than {limit} bytes")]
    TooLarge {
        /// Where it went, without query and user.
        url: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// More redirects than are followed.
    #[error("{url} redirects too often")]
    Redirects {
        /// Where it went at last, without query and user.
        url: String,
    },
}

/// How many redirects [`Egress::get`] and [`Egress::follow`] go along with.
const MAX_REDIRECTS: usize = 5;

/// The gate. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Egress {
    client: reqwest::Client,
    policy: Arc<EgressPolicy>,
}

impl Egress {
    /// A gate with this policy. Says so in the log when it is open towards loopback.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        Self::with_lookup(policy, dns::System)
    }

    fn with_lookup(policy: EgressPolicy, lookup: impl dns::Lookup) -> Result<Self, EgressError> {
        if policy.allow_loopback {
            tracing::warn!("outgoing requests may reach this machine itself: a development setting");
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one place where a client is made")]
        let client = reqwest::Client::builder()
            .dns_resolver(dns::GatedResolver { allow_loopback: policy.allow_loopback, lookup })
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(policy.connect_timeout)
            .read_timeout(policy.read_timeout)
            .user_agent(&policy.user_agent)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|e| EgressError::Unreachable { url: String::new(), source: e.into() })?;
        Ok(Self { client, policy: Arc::new(policy) })
    }

    /// The policy.
    pub fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    /// Begins a request, if it may go there. Redirects are not followed; [`Egress::send`] sends it.
    pub fn request(&self, method: Method, url: Url) -> Result<reqwest::RequestBuilder, EgressError> {
        self.check(&url)?;
        Ok(self.client.request(method, url))
    }

    /// Sends a request and gives the answer, whatever its status; the body is not read yet.
    ///
    /// Only connecting and silence are bounded in time, so that a large transfer may take as long as it moves.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, EgressError> {
        request.send().await.map_err(Self::unreachable)
    }

    /// Sends GET or HEAD, follows redirects (each checked like the first) and gives the last answer. Credentials are
    /// sent to the first host only.
    pub async fn follow(
        &self,
        method: Method,
        url: Url,
        headers: header::HeaderMap,
    ) -> Result<Response, EgressError> {
        let (mut url, mut headers) = (url, headers);
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(method.clone(), url.clone())?.headers(headers.clone());
            let response = self.send(request).await?;
            let Some(next) = redirect_target(&response, &url) else { return Ok(response) };
            if next.origin() != url.origin() {
                headers.remove(header::AUTHORIZATION);
            }
            url = next;
        }
        Err(EgressError::Redirects { url: shown(&url) })
    }

    /// Fetches a small document: follows redirects, takes a success only, and no more than `limit` bytes.
    pub async fn get(&self, url: Url, limit: usize) -> Result<Bytes, EgressError> {
        let at = shown(&url);
        let exchange = async {
            let response = self.follow(Method::GET, url, header::HeaderMap::new()).await?;
            let status = response.status();
            if !status.is_success() {
                let body = read_some(response, 4096).await;
                return Err(EgressError::Status { url: at.clone(), status, body });
            }
            self.read(response, limit).await
        };
        tokio::time::timeout(self.policy.total_timeout, exchange).await.unwrap_or_else(|elapsed| {
            Err(EgressError::Unreachable { url: at.clone(), source: elapsed.into() })
        })
    }

    /// Reads an answer's body, no more than `limit` bytes of it.
    pub async fn read(&self, mut response: Response, limit: usize) -> Result<Bytes, EgressError> {
        let url = shown(response.url());
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(Self::unreachable)? {
            if body.len() + piece.len() > limit {
                return Err(EgressError::TooLarge { url, limit });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    fn check(&self, url: &Url) -> Result<(), EgressError> {
        let forbidden = |reason| Err(EgressError::Forbidden { url: shown(url), reason });
        let loopback_name = match url.host() {
            None => return forbidden("it names no host"),
            Some(Host::Domain(name)) => {
                // The root of the DNS may be written out.
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
            Some(Host::Ipv4(ip)) if !is_public(ip.into()) => {
                if !(ip.is_loopback() && self.policy.allow_loopback) {
                    return forbidden("the address is not a public one");
                }
                true
            }
            Some(Host::Ipv6(ip)) if !is_public(ip.into()) => {
                if !(ip.is_loopback() && self.policy.allow_loopback) {
                    return forbidden("the address is not a public one");
                }
                true
            }
            Some(_) => false,
        };
        if loopback_name && !self.policy.allow_loopback {
            return forbidden("the address is not a public one");
        }
        match url.scheme() {
            "https" => {}
            "http" if loopback_name => {}
            _ => return forbidden("only https is"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return forbidden("it carries a user name or password");
        }
        Ok(())
    }

    fn unreachable(error: reqwest::Error) -> EgressError {
        let url = error.url().map(shown).unwrap_or_default();
        if let Some(refused) = dns::refused(&error) {
            return EgressError::Forbidden { url, reason: refused };
        }
        EgressError::Unreachable { url, source: error.without_url().into() }
    }
}

fn redirect_target(response: &Response, base: &Url) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    base.join(location).ok()
}

/// Reads the beginning of an error's body; whatever goes wrong is not worth another error.
async fn read_some(mut response: Response, limit: usize) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(piece)) = response.chunk().await {
        let room = limit - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == limit {
            break;
        }
    }
    body.freeze()
}

/// A URL for a message: its query may carry a signature.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;

    async fn serve(router: Router) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    fn gate(allow_loopback: bool) -> Egress {
        Egress::new(EgressPolicy { allow_loopback, ..EgressPolicy::default() }).unwrap()
    }

    #[tokio::test]
    async fn private_addresses_are_refused_in_every_notation() {
        let gate = gate(false);
        for url in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://017700000001/",
            "https://10.0.0.1/",
            "https://192.168.1.1/",
            "https://172.16.0.1/",
            "https://169.254.169.254/latest",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fc00::1]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://localhost/",
            "https://x.localhost/",
            "https://LOCALHOST/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://192.0.2.1/",
            "https://0177.0.0.1/",
            "https://0xa.0.0.1/",
            "https://10.1/",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https://%31%30.0.0.1/",
            "https://[::]/",
            "https://[ff02::1]/",
            "https://[::ffff:a9fe:a9fe]/",
            "https://[fd00:ec2::254]/",
            "https://localhost./",
        ] {
            let result = gate.get(url.parse().unwrap(), 10).await;
            assert!(matches!(result, Err(EgressError::Forbidden { .. })), "{url}: {result:?}");
        }
    }

    #[tokio::test]
    async fn plain_http_other_schemes_and_credentials_are_refused() {
        let gate = gate(true);
        for url in [
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user:pw@example.com/",
            "http://10.0.0.1/",
        ] {
            let result = gate.get(url.parse().unwrap(), 10).await;
            assert!(matches!(result, Err(EgressError::Forbidden { .. })), "{url}: {result:?}");
        }
    }

    #[tokio::test]
    async fn loopback_is_reached_only_where_the_policy_opens_it() {
        let url = serve(Router::new().route("/", get(|| async { "hello" }))).await;
        assert_eq!(&gate(true).get(url.clone(), 5).await.unwrap()[..], b"hello");
        assert!(matches!(gate(false).get(url, 5).await, Err(EgressError::Forbidden { .. })));
    }

    #[tokio::test]
    async fn each_redirect_is_checked_like_the_first_request() {
        let router = Router::new()
            .route("/to-private", get(|| async { Redirect::temporary("http://10.0.0.1/") }))
            .route("/round", get(|| async { Redirect::temporary("/round") }));
        let url = serve(router).await;
        let gate = gate(true);
        let result = gate.get(url.join("to-private").unwrap(), 10).await;
        assert!(matches!(result, Err(EgressError::Forbidden { .. })), "{result:?}");
        let result = gate.get(url.join("round").unwrap(), 10).await;
        assert!(matches!(result, Err(EgressError::Redirects { .. })), "{result:?}");
    }

    #[tokio::test]
    async fn a_name_that_moves_into_a_private_network_is_refused_at_the_next_connection() {
        let close = [(header::CONNECTION, "close")];
        let url = serve(Router::new().route("/", get(move || async move { (close, "hello") }))).await;
        let answers: [&[&str]; 2] = [&["127.0.0.1"], &["10.0.0.1"]];
        let policy = EgressPolicy { allow_loopback: true, ..EgressPolicy::default() };
        let gate = Egress::with_lookup(policy, dns::tests::Rebinding::new(&answers)).unwrap();
        let name: Url = format!("http://rebind.localhost:{}", url.port().unwrap()).parse().unwrap();
        assert_eq!(&gate.get(name.clone(), 5).await.unwrap()[..], b"hello");
        assert!(matches!(gate.get(name, 5).await, Err(EgressError::Forbidden { .. })));
    }

    #[tokio::test]
    async fn an_answer_above_the_limit_is_refused() {
        let url = serve(Router::new().route("/", get(|| async { "x".repeat(11) }))).await;
        assert!(matches!(gate(true).get(url, 10).await, Err(EgressError::TooLarge { limit: 10, .. })));
    }
}
