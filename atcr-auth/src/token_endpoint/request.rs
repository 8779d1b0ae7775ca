use atcr_core::authorizer::Credentials;
use atcr_core::syntax::AtIdentifier;
use http::HeaderMap;
use url::form_urlencoded;

use super::answer::Failure;
use super::scope;
use crate::device_flow::{DeviceSecret, IDENTITY_TOKEN_USER};
use crate::pds_session::parse_identifier;
use crate::registry_token::RepositoryAccess;

/// How a caller proves who they are.
#[derive(PartialEq, Eq)]
pub(super) enum Grant {
    Anonymous,
    Password { username: String, password: String },
    Refresh(String),
}

impl Grant {
    /// What the audit log calls it; nothing for nobody.
    pub(super) fn way(&self) -> Option<&'static str> {
        match self {
            Self::Anonymous => None,
            Self::Password { password, .. } if DeviceSecret::read(password).is_some() => Some("device"),
            Self::Refresh(secret) if DeviceSecret::read(secret).is_some() => Some("device"),
            Self::Password { .. } => Some("app_password"),
            Self::Refresh(_) => Some("refresh_token"),
        }
    }

    /// Who is named, where it is a name: people type their password in its place.
    pub(super) fn account(&self) -> Option<AtIdentifier> {
        match self {
            Self::Password { username, .. } => parse_identifier(username).ok(),
            Self::Anonymous | Self::Refresh(_) => None,
        }
    }
}

/// What is asked of the token service.
pub(super) struct TokenRequest {
    pub(super) grant: Grant,
    pub(super) asked: Vec<RepositoryAccess>,
    /// Whether a refresh token is wanted too.
    pub(super) offline: bool,
    /// What the client calls itself, for the log.
    pub(super) client: Option<String>,
}

impl TokenRequest {
    /// `GET`: credentials in the header, the rest in the query.
    pub(super) fn from_query(headers: &HeaderMap, query: &str) -> Result<Self, Failure> {
        let grant = match Credentials::from_headers(headers) {
            Credentials::None => Grant::Anonymous,
            Credentials::Basic { username, password } if username == IDENTITY_TOKEN_USER => {
                Grant::Refresh(password)
            }
            Credentials::Basic { username, password } => Grant::Password { username, password },
            _ => {
                return Err(Failure::unauthorized(
                    "the Authorization header is not Basic with a name and a password",
                ));
            }
        };
        let fields = Fields::read(query.as_bytes());
        let offline = fields.get("offline_token").is_some_and(|value| value == "true" || value == "1");
        fields.finish(grant, offline)
    }

    /// `POST`: a form as in OAuth 2 (RFC 6749 §4.3 and §6).
    pub(super) fn from_form(body: &[u8]) -> Result<Self, Failure> {
        let mut fields = Fields::read(body);
        let grant = match fields.get("grant_type") {
            Some("password") => {
                Grant::Password { username: fields.take("username")?, password: fields.take("password")? }
            }
            Some("refresh_token") => Grant::Refresh(fields.take("refresh_token")?),
            Some(other) => {
                let other: String = other.chars().take(64).collect();
                return Err(Failure::bad_request(format!(
                    "grant_type {other:?} is not supported; password and refresh_token are"
                )));
            }
            None => {
                return Err(Failure::bad_request(
                    "grant_type is missing; password and refresh_token are supported",
                ));
            }
        };
        let offline = fields.get("access_type") == Some("offline");
        fields.finish(grant, offline)
    }
}

struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn take(&mut self, name: &str) -> Result<String, Failure> {
        let field = self.0.iter_mut().find(|(key, _)| key == name);
        field
            .map(|(_, value)| std::mem::take(value))
            .ok_or_else(|| Failure::bad_request(format!("the form has no {name}")))
    }

    fn finish(self, grant: Grant, offline: bool) -> Result<TokenRequest, Failure> {
        let scopes = self.0.iter().filter(|(key, _)| key == "scope").map(|(_, value)| value.as_str());
        let asked = scope::parse(scopes)
            .map_err(|scope::TooMany| Failure::bad_request("too many repositories for one token"))?;
        let client = self.get("client_id").map(|text| text.chars().take(64).collect());
        Ok(TokenRequest { grant, asked, offline, client })
    }
}
