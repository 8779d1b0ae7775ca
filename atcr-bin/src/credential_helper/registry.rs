//! What the helper asks of a registry: whether it takes a secret, and the device flow (RFC 8628).

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{Account, HelperError, ServerName};

/// No answer of a registry to the helper is larger.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a client that is waiting may be kept by the network.
pub(super) const QUICK: Duration = Duration::from_millis(1200);
/// How long somebody at a terminal may be.
pub(super) const PATIENT: Duration = Duration::from_secs(30);

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RegistryError {
    #[error("{server} cannot be reached: {reason}")]
    Unreachable { server: ServerName, reason: String },
    #[error("{server} refuses: {message}")]
    Refused { server: ServerName, message: String },
    #[error("{server} answered {status}, which is not an answer of this protocol: is it an atcr registry?")]
    Unexpected { server: ServerName, status: StatusCode },
    #[error("the sign-in was denied in the browser")]
    Denied,
    #[error("nobody approved the sign-in in time; run the command again")]
    Expired,
}

/// What a registry thinks of a secret.
#[derive(Debug)]
pub(super) enum Verdict {
    Taken,
    Refused(String),
    /// It cannot be asked, or does not say.
    Unknown(String),
}

/// A code to be approved in a browser.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of RFC 8628")]
pub(super) struct DeviceCode {
    pub(super) device_code: String,
    pub(super) user_code: String,
    pub(super) verification_uri: String,
    #[serde(default)]
    pub(super) verification_uri_complete: Option<String>,
    #[serde(default = "ten_minutes")]
    pub(super) expires_in: u64,
    #[serde(default = "five_seconds")]
    pub(super) interval: u64,
}

fn ten_minutes() -> u64 {
    600
}

fn five_seconds() -> u64 {
    5
}

/// What an approved device gets.
#[derive(Debug, Deserialize)]
pub(super) struct DeviceGrant {
    pub(super) device_secret: String,
    #[serde(default)]
    pub(super) handle: String,
    #[serde(default)]
    pub(super) did: String,
}

#[derive(Debug)]
pub(super) enum Poll {
    Granted(DeviceGrant),
    Pending,
    SlowDown,
}

/// A registry.
#[derive(Debug)]
pub(super) struct Registry {
    server: ServerName,
    url: Url,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Registry {
    /// The registry of this name; every exchange takes `limit` at most.
    pub(super) fn new(server: &ServerName, limit: Duration) -> Result<Self, HelperError> {
        let unreachable = |reason: String| RegistryError::Unreachable { server: server.clone(), reason };
        #[expect(
            clippy::disallowed_methods,
            reason = "the user names the registry, also one in a private network"
        )]
        let client = reqwest::Client::builder()
            .timeout(limit)
            .connect_timeout(limit)
            // A secret goes to the registry that it is for, and to nobody that this one names.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("docker-credential-atcr/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| unreachable(reasons(&e)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| unreachable(e.to_string()))?;
        Ok(Self { server: server.clone(), url: server.url()?, client, runtime })
    }

    /// Whether the registry takes this account's secret.
    pub(super) fn check(&self, account: &Account) -> Verdict {
        let request = self.client.get(self.at("/auth/token").query_service(&self.server));
        match self.send(request.basic_auth(&account.username, Some(&account.secret))) {
            Ok((status, _)) if status.is_success() => Verdict::Taken,
            Ok((status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), body)) => {
                Verdict::Refused(message(&body).unwrap_or_else(|| status.to_string()))
            }
            Ok((status, body)) => Verdict::Unknown(message(&body).unwrap_or_else(|| status.to_string())),
            Err(error) => Verdict::Unknown(error.to_string()),
        }
    }

    /// Exchanges a password for a refresh token, so that it need not be kept; `None` where the registry has none.
    pub(super) fn exchange_password(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Option<String>, RegistryError> {
        let form = [
            ("grant_type", "password"),
            ("service", self.server.as_str()),
            ("client_id", "docker-credential-atcr"),
            ("access_type", "offline"),
            ("username", username),
            ("password", password),
        ];
        let (status, body) = self.send(self.client.post(self.at("/auth/token")).form(&form))?;
        if !status.is_success() {
            return Err(self.refusal(status, &body));
        }
        Ok(body["refresh_token"].as_str().map(str::to_owned))
    }

    pub(super) fn device_code(&self, device_name: &str) -> Result<DeviceCode, RegistryError> {
        let request =
            self.client.post(self.at("/auth/device/code")).json(&json!({ "device_name": device_name }));
        let (status, body) = self.send(request)?;
        if !status.is_success() {
            return Err(self.refusal(status, &body));
        }
        let unexpected = |_| RegistryError::Unexpected { server: self.server.clone(), status };
        serde_json::from_value(body).map_err(unexpected)
    }

    /// Asks once whether the code has been approved.
    pub(super) fn poll(&self, device_code: &str) -> Result<Poll, RegistryError> {
        let body = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
            "device_code": device_code,
        });
        let (status, body) = self.send(self.client.post(self.at("/auth/device/token")).json(&body))?;
        // Some servers answer an error with a success.
        match body["error"].as_str() {
            Some("authorization_pending") => return Ok(Poll::Pending),
            Some("slow_down") => return Ok(Poll::SlowDown),
            Some("access_denied") => return Err(RegistryError::Denied),
            Some("expired_token" | "invalid_grant") => return Err(RegistryError::Expired),
            _ => {}
        }
        if !status.is_success() {
            return Err(self.refusal(status, &body));
        }
        let unexpected = |_| RegistryError::Unexpected { server: self.server.clone(), status };
        serde_json::from_value(body).map(Poll::Granted).map_err(unexpected)
    }

    /// Tells the registry that this device is no more.
    pub(super) fn revoke(&self, secret: &str) -> Result<(), RegistryError> {
        let request =
            self.client.post(self.at("/auth/device/revoke")).json(&json!({ "device_secret": secret }));
        let (status, body) = self.send(request)?;
        if status.is_success() { Ok(()) } else { Err(self.refusal(status, &body)) }
    }

    /// The version of this program that the registry knows; `None` where it names none.
    pub(super) fn helper_version(&self) -> Result<Option<String>, RegistryError> {
        let (status, body) = self.send(self.client.get(self.at("/auth/device/version")))?;
        let version = body["version"].as_str().filter(|_| status.is_success());
        Ok(version.map(|version| printable(version, 32)))
    }

    /// What `/v2/` answers, and how many seconds its clock is ahead of ours.
    pub(super) fn ping(&self) -> Result<(StatusCode, Option<i64>), RegistryError> {
        // A request is begun inside of its runtime: its timer belongs there.
        let answer = self.runtime.block_on(async { self.client.get(self.at("/v2/")).send().await });
        let answer = answer.map_err(|e| self.unreachable(&e))?;
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let ahead = date.map(|date| date.timestamp().as_second() - jiff::Timestamp::now().as_second());
        Ok((answer.status(), ahead))
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(path);
        url
    }

    fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Value), RegistryError> {
        self.runtime.block_on(async {
            let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
            let status = answer.status();
            let body = self.body(answer).await?;
            Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
        })
    }

    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.unreachable(&e))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                let status = answer.status();
                return Err(RegistryError::Unexpected { server: self.server.clone(), status });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Unreachable { server: self.server.clone(), reason: reasons(error) }
    }

    fn refusal(&self, status: StatusCode, body: &Value) -> RegistryError {
        let server = self.server.clone();
        match message(body) {
            Some(message) => RegistryError::Refused { server, message },
            None => RegistryError::Unexpected { server, status },
        }
    }
}

trait QueryService {
    fn query_service(self, server: &ServerName) -> Self;
}

impl QueryService for Url {
    fn query_service(mut self, server: &ServerName) -> Self {
        self.query_pairs_mut().append_pair("service", server.as_str());
        self
    }
}

/// What a registry says in its error, fit for a terminal.
fn message(body: &Value) -> Option<String> {
    let texts = [&body["errors"][0]["message"], &body["error_description"], &body["message"], &body["error"]];
    let text = texts.into_iter().find_map(Value::as_str)?;
    Some(printable(text, 500))
}

/// Text from elsewhere without what moves a terminal's cursor.
pub(super) fn printable(text: &str, max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(max).collect()
}

/// An error with its causes, without the URL.
fn reasons(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if error.is_timeout() { "it does not answer in time".to_owned() } else { inner.to_string() }
}
