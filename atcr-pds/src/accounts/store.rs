use std::path::Path;

use atcr_core::crypto::{Curve, SigningKey};
use atcr_core::syntax::{AtIdentifier, Datetime, Did, Handle};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::AccountError;
use super::password::random;

const SCHEMA: &str = "
create table if not exists accounts (
    did text primary key,
    handle text not null unique,
    email text not null unique,
    password text not null,
    signing_key blob not null,
    created_at text not null
);
create table if not exists app_passwords (
    did text not null references accounts (did) on delete cascade,
    name text not null,
    password text not null,
    privileged integer not null,
    created_at text not null,
    primary key (did, name)
);
create table if not exists refresh_tokens (
    id text primary key,
    session text not null,
    did text not null references accounts (did) on delete cascade,
    app_password text,
    expires integer not null,
    next text,
    grace_until integer
);
create index if not exists refresh_tokens_session on refresh_tokens (session);
create index if not exists refresh_tokens_did on refresh_tokens (did, app_password);
create table if not exists secrets (name text primary key, value blob not null);
create table if not exists settings (name text primary key, value text not null);
";

/// The accounts database.
#[derive(Debug, Clone)]
pub(super) struct AccountStore {
    pub(super) pool: SqlitePool,
}

/// An account as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) did: Did,
    pub(super) handle: Handle,
    pub(super) email: String,
    pub(super) password: String,
    pub(super) signing_key: SigningKey,
}

/// An app password as it is kept.
#[derive(Debug, Clone)]
pub(super) struct AppPassword {
    pub(super) name: String,
    pub(super) privileged: bool,
    pub(super) created_at: Datetime,
}

fn broken(what: impl std::fmt::Display) -> AccountError {
    AccountError::Internal(format!("the accounts database is damaged: {what}"))
}

/// Keys are of the curve that the reference server uses.
fn read_key(bytes: &[u8]) -> Result<SigningKey, AccountError> {
    Ok(SigningKey::from_bytes(Curve::K256, bytes)?)
}

fn account(row: &SqliteRow) -> Result<Account, AccountError> {
    Ok(Account {
        did: row.get::<String, _>("did").parse().map_err(broken)?,
        handle: row.get::<String, _>("handle").parse().map_err(broken)?,
        email: row.get("email"),
        password: row.get("password"),
        signing_key: read_key(row.get("signing_key"))?,
    })
}

fn app_password(row: &SqliteRow) -> Result<AppPassword, AccountError> {
    Ok(AppPassword {
        name: row.get("name"),
        privileged: row.get("privileged"),
        created_at: row.get::<String, _>("created_at").parse().map_err(broken)?,
    })
}

impl AccountStore {
    pub(super) async fn open(path: Option<&Path>) -> Result<Self, AccountError> {
        let pool = crate::sqlite::open(path, SCHEMA).await?;
        sqlx::raw_sql(super::oauth::SCHEMA).execute(&pool).await?;
        Ok(Self { pool })
    }

    /// A secret of 32 bytes under a name, made at the first call.
    pub(super) async fn secret(&self, name: &str) -> Result<[u8; 32], AccountError> {
        sqlx::query("insert into secrets (name, value) values (?, ?) on conflict do nothing")
            .bind(name)
            .bind(random::<32>()?.as_slice())
            .execute(&self.pool)
            .await?;
        let row = sqlx::query("select value from secrets where name = ?").bind(name);
        let value: Vec<u8> = row.fetch_one(&self.pool).await?.get(0);
        value.try_into().map_err(|_| broken("a secret does not have 32 bytes"))
    }

    pub(super) async fn setting(&self, name: &str) -> Result<Option<String>, AccountError> {
        let row = sqlx::query("select value from settings where name = ?").bind(name);
        Ok(row.fetch_optional(&self.pool).await?.map(|row| row.get(0)))
    }

    pub(super) async fn set(&self, name: &str, value: &str) -> Result<(), AccountError> {
        sqlx::query("insert or replace into settings (name, value) values (?, ?)")
            .bind(name)
            .bind(value)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(super) async fn insert(&self, account: &Account, at: &Datetime) -> Result<(), AccountError> {
        let inserted = sqlx::query(
            "insert into accounts (did, handle, email, password, signing_key, created_at) values (?, ?, ?, ?, ?, ?)",
        )
        .bind(account.did.as_str())
        .bind(account.handle.as_str())
        .bind(&account.email)
        .bind(&account.password)
        .bind(account.signing_key.to_bytes().as_slice())
        .bind(at.as_str())
        .execute(&self.pool)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(if error.message().contains("accounts.email") {
                    AccountError::EmailNotAvailable(account.email.clone())
                } else {
                    AccountError::HandleNotAvailable(account.handle.clone())
                })
            }
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) async fn delete(&self, did: &Did) -> Result<(), AccountError> {
        sqlx::query("delete from accounts where did = ?").bind(did.as_str()).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn by_did(&self, did: &Did) -> Result<Option<Account>, AccountError> {
        let row = sqlx::query("select * from accounts where did = ?").bind(did.as_str());
        row.fetch_optional(&self.pool).await?.as_ref().map(account).transpose()
    }

    pub(super) async fn by_handle(&self, handle: &Handle) -> Result<Option<Account>, AccountError> {
        let row = sqlx::query("select * from accounts where handle = ?").bind(handle.as_str());
        row.fetch_optional(&self.pool).await?.as_ref().map(account).transpose()
    }

    pub(super) async fn by_email(&self, email: &str) -> Result<Option<Account>, AccountError> {
        let row = sqlx::query("select * from accounts where email = ?").bind(email.to_lowercase());
        row.fetch_optional(&self.pool).await?.as_ref().map(account).transpose()
    }

    /// The account that somebody means who logs in: by handle, DID or e-mail address.
    pub(super) async fn by_login(&self, identifier: &str) -> Result<Option<Account>, AccountError> {
        if identifier.contains('@') && !identifier.starts_with('@') {
            return self.by_email(identifier).await;
        }
        match identifier.trim_start_matches('@').parse() {
            Ok(AtIdentifier::Did(did)) => self.by_did(&did).await,
            Ok(AtIdentifier::Handle(handle)) => self.by_handle(&handle).await,
            Err(_) => Ok(None),
        }
    }

    /// At most `limit` accounts behind `after`, in the order of their DIDs.
    pub(super) async fn page(&self, after: Option<&Did>, limit: i64) -> Result<Vec<Account>, AccountError> {
        let rows = sqlx::query("select * from accounts where did > ? order by did limit ?")
            .bind(after.map_or("", Did::as_str))
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(account).collect()
    }

    pub(super) async fn set_handle(&self, did: &Did, handle: &Handle) -> Result<(), AccountError> {
        let updated = sqlx::query("update accounts set handle = ? where did = ?")
            .bind(handle.as_str())
            .bind(did.as_str())
            .execute(&self.pool)
            .await;
        match updated {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(AccountError::HandleNotAvailable(handle.clone()))
            }
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) async fn add_app_password(
        &self,
        did: &Did,
        password: &AppPassword,
        hash: &str,
    ) -> Result<(), AccountError> {
        let inserted = sqlx::query(
            "insert into app_passwords (did, name, password, privileged, created_at) values (?, ?, ?, ?, ?)",
        )
        .bind(did.as_str())
        .bind(&password.name)
        .bind(hash)
        .bind(password.privileged)
        .bind(password.created_at.as_str())
        .execute(&self.pool)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(AccountError::AppPasswordExists)
            }
            other => Ok(other.map(drop)?),
        }
    }

    pub(super) async fn app_passwords(&self, did: &Did) -> Result<Vec<AppPassword>, AccountError> {
        let rows = sqlx::query("select * from app_passwords where did = ? order by created_at, name")
            .bind(did.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(app_password).collect()
    }

    pub(super) async fn app_password_by_hash(
        &self,
        did: &Did,
        hash: &str,
    ) -> Result<Option<AppPassword>, AccountError> {
        let row = sqlx::query("select * from app_passwords where did = ? and password = ?")
            .bind(did.as_str())
            .bind(hash)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(app_password).transpose()
    }

    pub(super) async fn app_password(
        connection: &mut SqliteConnection,
        did: &Did,
        name: &str,
    ) -> Result<Option<AppPassword>, AccountError> {
        let row = sqlx::query("select * from app_passwords where did = ? and name = ?")
            .bind(did.as_str())
            .bind(name)
            .fetch_optional(connection)
            .await?;
        row.as_ref().map(app_password).transpose()
    }

    /// Removes an app password and ends the sessions that were opened with it.
    pub(super) async fn revoke_app_password(&self, did: &Did, name: &str) -> Result<(), AccountError> {
        let mut transaction = self.pool.begin_with("begin immediate").await?;
        for statement in [
            "delete from app_passwords where did = ? and name = ?",
            "delete from refresh_tokens where did = ? and app_password = ?",
        ] {
            sqlx::query(statement).bind(did.as_str()).bind(name).execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }
}
