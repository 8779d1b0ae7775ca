use atcr_core::syntax::Did;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};

use super::OAuthError;
use super::client::ClientAuth;
use super::jwt::hash;
use super::scope::Scopes;
use crate::accounts::AccountError;
use crate::accounts::password::random;

const URI_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";
/// How long a request waits to be looked at, and then for the next step, in seconds.
pub(super) const LIFETIME: i64 = 5 * 60;
/// How long it waits in all.
const MAX_LIFETIME: i64 = 60 * 60;
/// Requests that are open at once.
const MAX_OPEN: i64 = 10_000;

/// How the answer is brought to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResponseMode {
    #[default]
    Query,
    Fragment,
    FormPost,
}

/// What the client wants its user to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Prompt {
    None,
    Login,
    Consent,
    SelectAccount,
    Create,
}

/// What a client pushed, checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Parameters {
    pub(super) redirect_uri: String,
    pub(super) response_mode: ResponseMode,
    pub(super) state: Option<String>,
    /// What was asked for, as far as it is understood.
    pub(super) scope: Scopes,
    pub(super) code_challenge: String,
    /// The key that the tokens will be bound to, if the client has shown it already.
    pub(super) dpop_jkt: Option<String>,
    pub(super) login_hint: Option<String>,
    pub(super) prompt: Option<Prompt>,
}

/// A request that waits for the owner of an account, or for its code to be used.
#[derive(Debug)]
pub(super) struct AuthorizationRequest {
    pub(super) id: String,
    pub(super) client: String,
    pub(super) client_auth: ClientAuth,
    pub(super) parameters: Parameters,
    created: i64,
    pub(super) expires: i64,
    pub(super) device: Option<String>,
    /// Who logged in for it.
    pub(super) did: Option<Did>,
    pub(super) authorized: bool,
}

impl AuthorizationRequest {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, OAuthError> {
        let broken =
            |what: String| AccountError::Internal(format!("an authorization request is damaged: {what}"));
        let json = |name: &str| row.get::<String, _>(name);
        let did = row.get::<Option<String>, _>("did").map(|did| did.parse::<Did>()).transpose();
        Ok(Self {
            id: row.get("id"),
            client: row.get("client"),
            client_auth: serde_json::from_str(&json("client_auth"))
                .map_err(|error| broken(error.to_string()))?,
            parameters: serde_json::from_str(&json("parameters"))
                .map_err(|error| broken(error.to_string()))?,
            created: row.get("created"),
            expires: row.get("expires"),
            device: row.get("device"),
            did: did.map_err(|error| broken(error.to_string()))?,
            authorized: row.get::<Option<String>, _>("code").is_some(),
        })
    }

    /// Keeps a new request; gives the URI under which it is found, once.
    pub(super) async fn push(
        pool: &SqlitePool,
        client: &str,
        auth: &ClientAuth,
        parameters: &Parameters,
        now: i64,
    ) -> Result<String, OAuthError> {
        let open: i64 = sqlx::query("select count(*) from oauth_requests").fetch_one(pool).await?.get(0);
        if open >= MAX_OPEN {
            return Err(OAuthError::busy());
        }
        let to_json = |error: serde_json::Error| AccountError::Internal(error.to_string());
        let uri = format!("{URI_PREFIX}req-{}", HEXLOWER.encode(&random::<16>()?));
        sqlx::query(
            "insert into oauth_requests (id, client, client_auth, parameters, created, expires) \
             values (?, ?, ?, ?, ?, ?)",
        )
        .bind(hash(&uri))
        .bind(client)
        .bind(serde_json::to_string(auth).map_err(to_json)?)
        .bind(serde_json::to_string(parameters).map_err(to_json)?)
        .bind(now)
        .bind(now + LIFETIME)
        .execute(pool)
        .await?;
        Ok(uri)
    }

    pub(super) async fn find(pool: &SqlitePool, uri: &str) -> Result<Option<Self>, OAuthError> {
        let row = sqlx::query("select * from oauth_requests where id = ?").bind(hash(uri));
        row.fetch_optional(pool).await?.as_ref().map(Self::read).transpose()
    }

    /// Gives the request to a browser if no other has it, and waits for its next step. False when another has it, or
    /// the request is gone.
    pub(super) async fn claim(
        &mut self,
        pool: &SqlitePool,
        device: &str,
        now: i64,
    ) -> Result<bool, OAuthError> {
        let expires = (now + LIFETIME).min(self.created + MAX_LIFETIME);
        let updated = sqlx::query(
            "update oauth_requests set device = ?, expires = ? \
             where id = ? and code is null and (device is null or device = ?)",
        )
        .bind(device)
        .bind(expires)
        .bind(&self.id)
        .bind(device)
        .execute(pool)
        .await?;
        self.device = Some(device.to_owned());
        Ok(updated.rows_affected() == 1)
    }

    /// Says who logged in, and under which name the browser goes on.
    pub(super) async fn signed_in(
        &self,
        pool: &SqlitePool,
        device: &str,
        did: &Did,
    ) -> Result<(), OAuthError> {
        sqlx::query("update oauth_requests set device = ?, did = ? where id = ? and code is null")
            .bind(device)
            .bind(did.as_str())
            .bind(&self.id)
            .execute(pool)
            .await?;
        Ok(())
    }

    /// Binds the request to the account for good; gives the code, or `None` when that was done already.
    pub(super) async fn authorize(
        &self,
        pool: &SqlitePool,
        did: &Did,
        now: i64,
    ) -> Result<Option<String>, OAuthError> {
        let code = format!("cod-{}", HEXLOWER.encode(&random::<32>()?));
        let updated = sqlx::query(
            "update oauth_requests set did = ?, code = ?, expires = ? where id = ? and code is null and expires > ?",
        )
        .bind(did.as_str())
        .bind(hash(&code))
        .bind(now + LIFETIME)
        .bind(&self.id)
        .bind(now)
        .execute(pool)
        .await?;
        Ok((updated.rows_affected() == 1).then_some(code))
    }

    pub(super) async fn delete(&self, pool: &SqlitePool) -> Result<(), OAuthError> {
        sqlx::query("delete from oauth_requests where id = ?").bind(&self.id).execute(pool).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::oauth::browser::sweep;
    use crate::accounts::store::AccountStore;

    #[tokio::test]
    async fn no_more_requests_are_kept_than_fit_and_those_that_expired_make_room() {
        let store = AccountStore::open(None).await.unwrap();
        sqlx::query(
            "with recursive n (i) as (select 1 union all select i + 1 from n where i < ?) \
             insert into oauth_requests (id, client, client_auth, parameters, created, expires) \
             select i, '', '', '', 0, 1000 from n",
        )
        .bind(MAX_OPEN)
        .execute(&store.pool)
        .await
        .unwrap();
        let parameters = Parameters {
            redirect_uri: "http://127.0.0.1/".into(),
            response_mode: ResponseMode::Query,
            state: None,
            scope: Scopes::understood("atproto"),
            code_challenge: "x".repeat(43),
            dpop_jkt: None,
            login_hint: None,
            prompt: None,
        };
        let push = async |now| {
            sweep(&store.pool, now).await.unwrap();
            AuthorizationRequest::push(&store.pool, "http://localhost", &ClientAuth::None, &parameters, now)
                .await
        };
        assert_eq!(push(999).await.unwrap_err().status(), 503);
        push(1000).await.unwrap();
    }
}
