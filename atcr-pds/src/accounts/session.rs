use atcr_core::syntax::{Did, Handle};
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection};

use super::password::random;
use super::store::{Account, AccountStore, AppPassword};
use super::token::{REFRESH_LIFETIME, RefreshToken, Scope};
use super::{AccountError, Pds};
use crate::store::RepoStatus;

/// A session: what createSession, refreshSession and createAccount answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Shown as `Authorization: Bearer …`; works for 2 hours.
    pub access_jwt: String,
    /// Gets the next pair, once, within 90 days.
    pub refresh_jwt: String,
    /// The account.
    pub did: Did,
    /// Its handle.
    pub handle: Handle,
    /// Its e-mail address; not for sessions of an app password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the address was confirmed; on this server none is.
    pub email_confirmed: bool,
    /// Whether the account is active.
    pub active: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
}

impl Scope {
    fn of(app_password: Option<&AppPassword>) -> Self {
        match app_password {
            None => Self::Access,
            Some(password) if password.privileged => Self::AppPasswordPrivileged,
            Some(_) => Self::AppPassword,
        }
    }
}

impl Pds {
    /// Opens a session with a handle, DID or e-mail address and the account's password or one of its app passwords.
    ///
    /// # Errors
    /// [`AccountError::WrongPassword`], without saying which of the two was wrong and after the same time.
    pub async fn create_session(&self, identifier: &str, password: &str) -> Result<Session, AccountError> {
        let account = self.accounts().by_login(identifier.trim()).await?;
        let hash = account.as_ref().map(|account| account.password.clone());
        let fits = self.passwords().verify(password, hash).await?;
        if let Some(account) = account.as_ref().filter(|_| fits) {
            return self.open_session(account.clone(), None).await;
        }
        // Hashed for a stranger too: how long the answer takes does not tell whether there is an account.
        let did = account.as_ref().map_or(self.did(), |account| &account.did);
        let hash = self.passwords().hash_app_password(did, password).await?;
        let account = account.ok_or(AccountError::WrongPassword)?;
        let app_password = self.accounts().app_password_by_hash(&account.did, &hash).await?;
        self.open_session(account, Some(app_password.ok_or(AccountError::WrongPassword)?)).await
    }

    /// Opens a session for somebody whose password was checked.
    pub(super) async fn open_session(
        &self,
        account: Account,
        app_password: Option<AppPassword>,
    ) -> Result<Session, AccountError> {
        let token = self.new_refresh_token(&account.did)?;
        let mut connection = self.accounts().pool.acquire().await?;
        insert(&mut connection, &token, &token.id, app_password.as_ref()).await?;
        drop(connection);
        self.session(account, &token, Scope::of(app_password.as_ref())).await
    }

    fn new_refresh_token(&self, did: &Did) -> Result<RefreshToken, AccountError> {
        let id = BASE64URL_NOPAD.encode(&random::<32>()?);
        Ok(RefreshToken { did: did.clone(), id, expires: self.clock().now() + REFRESH_LIFETIME })
    }

    async fn session(
        &self,
        account: Account,
        token: &RefreshToken,
        scope: Scope,
    ) -> Result<Session, AccountError> {
        let status = self.status(&account.did).await?;
        Ok(Session {
            access_jwt: self.tokens().access(&account.did, scope)?,
            refresh_jwt: self.tokens().refresh(token)?,
            did: account.did,
            handle: account.handle,
            email: (scope == Scope::Access).then_some(account.email),
            email_confirmed: false,
            active: status == RepoStatus::Active,
            status: (status != RepoStatus::Active).then(|| status.as_str()),
        })
    }

    /// Trades a refresh token for the next pair. The token is used up by it.
    ///
    /// # Errors
    /// [`AccountError::ExpiredToken`] for one that was used up, revoked or is too old. A token that is used a second
    /// time, outside the configured grace, was stolen from somebody: the whole session ends.
    pub async fn refresh_session(&self, token: &str) -> Result<Session, AccountError> {
        const REVOKED: AccountError = AccountError::ExpiredToken("Token has been revoked");
        let read = self.tokens().read_refresh(token)?;
        let now = self.clock().now().as_second();
        let mut transaction = self.accounts().pool.begin_with("begin immediate").await?;
        sqlx::query("delete from refresh_tokens where expires <= ? and did = ?")
            .bind(now)
            .bind(read.did.as_str())
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query("select * from refresh_tokens where id = ? and did = ?")
            .bind(&read.id)
            .bind(read.did.as_str())
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or(REVOKED)?;
        let session: String = row.get("session");
        let app_password = match row.get::<Option<String>, _>("app_password") {
            None => None,
            Some(name) => {
                Some(AccountStore::app_password(&mut transaction, &read.did, &name).await?.ok_or(REVOKED)?)
            }
        };
        let mut next = self.new_refresh_token(&read.did)?;
        match row.get::<Option<String>, _>("next") {
            None => {
                let grace = i64::try_from(self.config().refresh_grace.as_secs()).unwrap_or(i64::MAX);
                sqlx::query("update refresh_tokens set next = ?, grace_until = ? where id = ?")
                    .bind(&next.id)
                    .bind(now.saturating_add(grace))
                    .bind(&read.id)
                    .execute(&mut *transaction)
                    .await?;
                insert(&mut transaction, &next, &session, app_password.as_ref()).await?;
            }
            Some(given) if row.get::<i64, _>("grace_until") > now => next.id = given,
            Some(_) => {
                sqlx::query("delete from refresh_tokens where session = ?")
                    .bind(&session)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                tracing::warn!(did = %read.did, "a refresh token was used twice; its session is ended");
                return Err(REVOKED);
            }
        }
        transaction.commit().await?;
        let account = self
            .accounts()
            .by_did(&read.did)
            .await?
            .ok_or_else(|| AccountError::NotFound(read.did.clone()))?;
        self.session(account, &next, Scope::of(app_password.as_ref())).await
    }

    /// Ends the session of a refresh token. It may have ended already.
    pub async fn delete_session(&self, token: &str) -> Result<(), AccountError> {
        let read = self.tokens().read_refresh(token)?;
        sqlx::query(
            "delete from refresh_tokens where session = (select session from refresh_tokens where id = ? and did = ?)",
        )
        .bind(&read.id)
        .bind(read.did.as_str())
        .execute(&self.accounts().pool)
        .await?;
        Ok(())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    token: &RefreshToken,
    session: &str,
    app_password: Option<&AppPassword>,
) -> Result<(), AccountError> {
    sqlx::query(
        "insert into refresh_tokens (id, session, did, app_password, expires) values (?, ?, ?, ?, ?)",
    )
    .bind(&token.id)
    .bind(session)
    .bind(token.did.as_str())
    .bind(app_password.map(|password| &password.name))
    .bind(token.expires.as_second())
    .execute(connection)
    .await?;
    Ok(())
}
