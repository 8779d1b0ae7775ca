use atcr_core::syntax::Did;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqliteExecutor};

use super::OAuthError;
use super::client::ClientAuth;
use super::jwt::hash;
use super::scope::Scopes;
use crate::accounts::AccountError;
use crate::accounts::password::random;

const DAY: i64 = 24 * 60 * 60;
/// How long an access token works, in seconds.
pub(super) const TOKEN_LIFETIME: i64 = 60 * 60;
/// How long a public client stays signed in, however often it refreshes.
const PUBLIC_LIFETIME: i64 = 14 * DAY;
/// The same for a client that proves who it is, and how long its refresh token waits to be used.
const CONFIDENTIAL_LIFETIME: i64 = 2 * 365 * DAY;
const CONFIDENTIAL_REFRESH: i64 = 91 * DAY;

const REFRESH_PREFIX: &str = "ref-";

/// What the owner of an account has given to a client: a session, seen from the account.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) id: String,
    pub(super) did: Did,
    pub(super) client: String,
    pub(super) client_auth: ClientAuth,
    pub(super) device: Option<String>,
    /// The thumbprint of the key that the tokens are bound to.
    pub(super) jkt: String,
    /// What was asked for, permission sets included.
    pub(super) requested: Scopes,
    /// What the tokens are good for.
    pub(super) scope: Scopes,
    pub(super) token_expires: i64,
    refresh: Option<String>,
    created: i64,
    pub(super) expires: i64,
}

/// The tokens of a session at one time.
#[derive(Debug)]
pub(super) struct Tokens {
    /// The identifier in the access token.
    pub(super) token: String,
    pub(super) refresh: Option<String>,
}

/// A refresh token that was read: the family it claims to be of, and the hash of the whole. A family cannot be
/// guessed, so a token that names one without being its current token was its token once.
#[derive(Debug)]
pub(super) struct RefreshToken {
    family: [u8; 16],
    hash: String,
}

impl RefreshToken {
    pub(super) fn read(token: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(token.strip_prefix(REFRESH_PREFIX)?.as_bytes()).ok()?;
        let family = *bytes.first_chunk()?;
        (bytes.len() == 48).then(|| Self { family, hash: hash(token) })
    }

    /// The session that it claims to belong to.
    pub(super) fn grant(&self) -> String {
        grant_id(&self.family)
    }

    /// Whether it is the one that was given out last.
    pub(super) fn is_current(&self, grant: &Grant) -> bool {
        grant.refresh.as_ref() == Some(&self.hash)
    }
}

/// The family of refresh tokens is a secret as well: whoever knows it can end the session.
fn grant_id(family: &[u8; 16]) -> String {
    hash(&HEXLOWER.encode(family))
}

/// The family, whose identifier `grant_id` makes, and the secret of one token.
fn refresh_token(family: &[u8; 16]) -> Result<String, AccountError> {
    let mut bytes = family.to_vec();
    bytes.extend(random::<32>()?);
    Ok(format!("{REFRESH_PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)))
}

fn token_id() -> Result<String, AccountError> {
    Ok(format!("tok-{}", HEXLOWER.encode(&random::<16>()?)))
}

/// When a session ends if nobody refreshes it.
fn expiry(auth: &ClientAuth, refreshes: bool, created: i64, now: i64) -> i64 {
    match auth {
        _ if !refreshes => now + TOKEN_LIFETIME,
        ClientAuth::None => created + PUBLIC_LIFETIME,
        ClientAuth::PrivateKeyJwt { .. } => (created + CONFIDENTIAL_LIFETIME).min(now + CONFIDENTIAL_REFRESH),
    }
}

/// What a new session is made from.
#[derive(Debug)]
pub(super) struct NewGrant<'a> {
    pub(super) did: &'a Did,
    pub(super) client: &'a str,
    pub(super) client_auth: &'a ClientAuth,
    pub(super) device: Option<&'a str>,
    pub(super) jkt: &'a str,
    pub(super) requested: &'a Scopes,
    pub(super) scope: &'a Scopes,
    pub(super) code: &'a str,
    pub(super) refreshes: bool,
}

impl NewGrant<'_> {
    pub(super) async fn insert(
        &self,
        connection: &mut SqliteConnection,
        now: i64,
    ) -> Result<Tokens, OAuthError> {
        let family = random::<16>()?;
        let refresh = if self.refreshes { Some(refresh_token(&family)?) } else { None };
        let token = token_id()?;
        sqlx::query(
            "insert into oauth_grants (id, did, client, client_auth, device, jkt, requested, scope, code, token, \
             token_expires, refresh, created, expires) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(grant_id(&family))
        .bind(self.did.as_str())
        .bind(self.client)
        .bind(auth_json(self.client_auth)?)
        .bind(self.device)
        .bind(self.jkt)
        .bind(self.requested.as_str())
        .bind(self.scope.as_str())
        .bind(hash(self.code))
        .bind(&token)
        .bind(now + TOKEN_LIFETIME)
        .bind(refresh.as_deref().map(hash))
        .bind(now)
        .bind(expiry(self.client_auth, self.refreshes, now, now))
        .execute(connection)
        .await?;
        Ok(Tokens { token, refresh })
    }
}

fn auth_json(auth: &ClientAuth) -> Result<String, AccountError> {
    serde_json::to_string(auth).map_err(|error| AccountError::Internal(error.to_string()))
}

impl Grant {
    fn read(row: &SqliteRow) -> Result<Self, OAuthError> {
        let broken = |what: String| AccountError::Internal(format!("an OAuth session is damaged: {what}"));
        let text = |name: &str| row.get::<String, _>(name);
        Ok(Self {
            id: text("id"),
            did: text("did").parse().map_err(|error| broken(format!("{error}")))?,
            client: text("client"),
            client_auth: serde_json::from_str(&text("client_auth"))
                .map_err(|error| broken(error.to_string()))?,
            device: row.get("device"),
            jkt: text("jkt"),
            requested: text("requested").into(),
            scope: text("scope").into(),
            token_expires: row.get("token_expires"),
            refresh: row.get("refresh"),
            created: row.get("created"),
            expires: row.get("expires"),
        })
    }

    pub(super) async fn by_id(
        executor: impl SqliteExecutor<'_>,
        id: &str,
    ) -> Result<Option<Self>, OAuthError> {
        let row = sqlx::query("select * from oauth_grants where id = ?").bind(id);
        row.fetch_optional(executor).await?.as_ref().map(Self::read).transpose()
    }

    pub(super) async fn by_token(
        executor: impl SqliteExecutor<'_>,
        token: &str,
    ) -> Result<Option<Self>, OAuthError> {
        let row = sqlx::query("select * from oauth_grants where token = ?").bind(token);
        row.fetch_optional(executor).await?.as_ref().map(Self::read).transpose()
    }

    pub(super) async fn by_code(
        connection: &mut SqliteConnection,
        code: &str,
    ) -> Result<Option<Self>, OAuthError> {
        let row = sqlx::query("select * from oauth_grants where code = ?").bind(hash(code));
        row.fetch_optional(connection).await?.as_ref().map(Self::read).transpose()
    }

    /// Gives the session its next tokens for the refresh token that was shown; those of before work no more.
    pub(super) async fn rotate(
        &self,
        connection: &mut SqliteConnection,
        shown: &RefreshToken,
        auth: &ClientAuth,
        scope: &Scopes,
        now: i64,
    ) -> Result<Tokens, OAuthError> {
        let refresh = refresh_token(&shown.family)?;
        let token = token_id()?;
        sqlx::query(
            "update oauth_grants set token = ?, token_expires = ?, refresh = ?, client_auth = ?, scope = ?, \
             expires = ? where id = ?",
        )
        .bind(&token)
        .bind(now + TOKEN_LIFETIME)
        .bind(hash(&refresh))
        .bind(auth_json(auth)?)
        .bind(scope.as_str())
        .bind(expiry(auth, true, self.created, now))
        .bind(&self.id)
        .execute(connection)
        .await?;
        Ok(Tokens { token, refresh: Some(refresh) })
    }

    /// Ends the session.
    pub(super) async fn delete(&self, executor: impl SqliteExecutor<'_>) -> Result<(), OAuthError> {
        sqlx::query("delete from oauth_grants where id = ?").bind(&self.id).execute(executor).await?;
        Ok(())
    }
}
