//! A PLC directory in this process, for development and tests: what plc.directory does, over SQLite.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::crypto::PublicKey;
use atcr_core::syntax::{Datetime, Did};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, Query, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{Row as _, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use super::{LogEntry, Operation, PlcDirectory, PlcError, PlcState, check_next, did_document};
use crate::clock::Clock;

const SCHEMA: &str = "
create table if not exists plc_operations (
    seq integer primary key autoincrement,
    did text not null,
    cid text not null unique,
    operation text not null,
    nullified integer not null default 0,
    created_at text not null
);
create index if not exists plc_operations_did on plc_operations (did, seq);
create index if not exists plc_operations_created_at on plc_operations (created_at, seq);
";

/// Limits of the reference directory's server.
const MAX_OPERATION_BYTES: usize = 4000;
const MAX_ENTRIES: usize = 10;
const MAX_ID_LENGTH: usize = 32;
const MAX_TEXT_LENGTH: usize = 256;
const MAX_ENDPOINT_LENGTH: usize = 512;
const MAX_EXPORT: i64 = 1000;
/// An operation in JSON with room for whitespace; nothing longer is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The directory. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pool: SqlitePool,
    clock: Clock,
    /// Held from reading a log to appending to it, so that two operations cannot both follow the same one.
    appending: Mutex<()>,
}

impl Directory {
    /// Opens the directory in a file, or in memory without one.
    pub async fn open(path: Option<&Path>, clock: Clock) -> Result<Self, PlcError> {
        let pool = crate::sqlite::open(path, SCHEMA).await?;
        Ok(Self(Arc::new(Inner { pool, clock, appending: Mutex::new(()) })))
    }

    /// The HTTP face: `POST /:did`, `GET /:did`, `/:did/data`, `/:did/log`, `/:did/log/audit`, `/:did/log/last`,
    /// `/export`, `/_health`.
    pub fn router(&self) -> Router {
        let not_found = || async { failure(StatusCode::NOT_FOUND, "Not Found") };
        Router::new()
            .route("/_health", get(|| async { Json(json!({"version": env!("CARGO_PKG_VERSION")})) }))
            .route("/export", get(export))
            .route("/{did}", get(document).post(submit))
            .route("/{did}/data", get(data))
            .route("/{did}/log", get(log))
            .route("/{did}/log/audit", get(audit))
            .route("/{did}/log/last", get(last))
            .fallback(not_found)
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .layer(tower_http::cors::CorsLayer::permissive())
            .with_state(self.clone())
    }

    /// The whole log of a DID, nullified operations included, oldest first.
    pub async fn audit_log(&self, did: &Did) -> Result<Vec<LogEntry>, PlcError> {
        let mut connection = self.0.pool.acquire().await?;
        let log = read_log(&mut connection, did).await?;
        if log.is_empty() { Err(PlcError::NotRegistered(did.clone())) } else { Ok(log) }
    }

    async fn state(&self, did: &Did) -> Result<PlcState, PlcError> {
        self.last(did).await?.state().ok_or_else(|| PlcError::Tombstoned(did.clone()))
    }
}

#[async_trait]
impl PlcDirectory for Directory {
    async fn submit(&self, did: &Did, operation: &Operation) -> Result<(), PlcError> {
        check_fields(operation)?;
        let _appending = self.0.appending.lock().await;
        let mut transaction = self.0.pool.begin_with("begin immediate").await?;
        let log = read_log(&mut transaction, did).await?;
        let active: Vec<&LogEntry> = log.iter().filter(|entry| !entry.nullified).collect();
        // The log's own time never runs backwards, so that it can be judged by it later.
        let now = log
            .last()
            .map_or(self.0.clock.now(), |entry| self.0.clock.now().max(entry.created_at.timestamp()));
        let kept = check_next(did, &active, operation, now)?;
        for nullified in &active[kept..] {
            sqlx::query("update plc_operations set nullified = 1 where cid = ?")
                .bind(&nullified.cid)
                .execute(&mut *transaction)
                .await?;
        }
        let json = serde_json::to_string(operation).map_err(|e| PlcError::Improper(e.to_string()))?;
        sqlx::query("insert into plc_operations (did, cid, operation, created_at) values (?, ?, ?, ?)")
            .bind(did.as_str())
            .bind(operation.cid().to_string())
            .bind(json)
            .bind(Datetime::from(now).as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn audit_log(&self, did: &Did) -> Result<Vec<LogEntry>, PlcError> {
        Self::audit_log(self, did).await
    }

    async fn last(&self, did: &Did) -> Result<Operation, PlcError> {
        let log = self.audit_log(did).await?;
        let newest = log.into_iter().rev().find(|entry| !entry.nullified);
        newest.map(|entry| entry.operation).ok_or_else(|| PlcError::NotRegistered(did.clone()))
    }

    async fn document(&self, did: &Did) -> Result<Value, PlcError> {
        Ok(did_document(did, &self.state(did).await?))
    }
}

async fn read_log(connection: &mut SqliteConnection, did: &Did) -> Result<Vec<LogEntry>, PlcError> {
    let rows = sqlx::query("select * from plc_operations where did = ? order by seq")
        .bind(did.as_str())
        .fetch_all(connection)
        .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &sqlx::sqlite::SqliteRow) -> Result<LogEntry, PlcError> {
    let broken = |what: &str| PlcError::Unavailable(format!("a stored operation does not read: {what}"));
    Ok(LogEntry {
        did: row.get::<String, _>("did").parse().map_err(|_| broken("did"))?,
        operation: serde_json::from_str(row.get("operation")).map_err(|_| broken("operation"))?,
        cid: row.get("cid"),
        nullified: row.get("nullified"),
        created_at: row.get::<String, _>("created_at").parse().map_err(|_| broken("createdAt"))?,
    })
}

/// The reference server's rules on the fields of new operations.
fn check_fields(operation: &Operation) -> Result<(), PlcError> {
    let improper = |what: &str| Err(PlcError::Improper(what.to_owned()));
    if operation.to_bytes().len() > MAX_OPERATION_BYTES {
        return improper("Operation too large (4000 bytes maximum in cbor encoding)");
    }
    let update = match operation {
        Operation::Update(update) => update,
        Operation::Tombstone(_) => return Ok(()),
        Operation::Create(_) => return improper("Legacy create operations are not allowed"),
    };
    if update.rotation_keys.len() > MAX_ENTRIES {
        return improper("Too many rotationKey entries (max 10)");
    }
    if update.verification_methods.len() > MAX_ENTRIES {
        return improper("Too many verificationMethod entries (max 10)");
    }
    if update.also_known_as.len() > MAX_ENTRIES {
        return improper("To many alsoKnownAs entries (max 10)");
    }
    if update.services.len() > MAX_ENTRIES {
        return improper("To many service entries (max 10)");
    }
    for key in &update.rotation_keys {
        if PublicKey::from_did_key(key).is_err() {
            return Err(PlcError::Improper(format!("Invalid rotationKey key: {key}")));
        }
    }
    for (name, key) in &update.verification_methods {
        if name.len() > MAX_ID_LENGTH {
            return Err(PlcError::Improper(format!("Verification Method id too long (max 32): {name}")));
        }
        if key.len() > MAX_TEXT_LENGTH || !key.starts_with("did:key:z") {
            return Err(PlcError::Improper(format!("Invalid verificationMethod key: {key}")));
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for name in &update.also_known_as {
        if name.len() > MAX_TEXT_LENGTH {
            return Err(PlcError::Improper(format!("alsoKnownAs entry too long (max 256): {name}")));
        }
        if !seen.insert(name) {
            return Err(PlcError::Improper(format!("duplicate alsoKnownAs entry: {name}")));
        }
    }
    for (name, service) in &update.services {
        if name.len() > MAX_ID_LENGTH {
            return Err(PlcError::Improper(format!("Service id too long (max 32): {name}")));
        }
        if service.kind.len() > MAX_TEXT_LENGTH {
            return Err(PlcError::Improper(format!("Service type too long (max 256): {}", service.kind)));
        }
        if service.endpoint.len() > MAX_ENDPOINT_LENGTH {
            return Err(PlcError::Improper(format!(
                "Service endpoint too long (max 512): {}",
                service.endpoint
            )));
        }
    }
    Ok(())
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

impl IntoResponse for PlcError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NotRegistered(_) | Self::Tombstoned(_) => StatusCode::NOT_FOUND,
            Self::Unavailable(_) | Self::Database(_) => {
                tracing::error!(error = %self, "PLC directory");
                return failure(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
            }
            _ => StatusCode::BAD_REQUEST,
        };
        failure(status, &self.to_string())
    }
}

fn did(text: &str) -> Result<Did, PlcError> {
    text.parse().map_err(|_| PlcError::Improper(format!("Invalid DID: {text}")))
}

async fn submit(
    State(directory): State<Directory>,
    UrlPath(path): UrlPath<String>,
    body: Bytes,
) -> Result<Response, PlcError> {
    let operation = serde_json::from_slice(&body)
        .map_err(|e| PlcError::Improper(format!("Not a valid operation: {e}")))?;
    directory.submit(&did(&path)?, &operation).await?;
    Ok("OK".into_response())
}

async fn document(
    State(directory): State<Directory>,
    UrlPath(path): UrlPath<String>,
) -> Result<Response, PlcError> {
    let document = directory.document(&did(&path)?).await?;
    let kind = [(header::CONTENT_TYPE, "application/did+ld+json; charset=utf-8")];
    Ok((kind, document.to_string()).into_response())
}

async fn data(
    State(directory): State<Directory>,
    UrlPath(path): UrlPath<String>,
) -> Result<Json<Value>, PlcError> {
    let did = did(&path)?;
    let state = directory.state(&did).await?;
    let mut data = serde_json::to_value(state).map_err(|e| PlcError::Unavailable(e.to_string()))?;
    data["did"] = json!(did);
    Ok(Json(data))
}

async fn log(
    State(directory): State<Directory>,
    UrlPath(path): UrlPath<String>,
) -> Result<Json<Vec<Operation>>, PlcError> {
    let log = directory.audit_log(&did(&path)?).await?;
    Ok(Json(log.into_iter().filter(|entry| !entry.nullified).map(|entry| entry.operation).collect()))
}

async fn audit(
    State(directory): State<Directory>,
    UrlPath(path): UrlPath<String>,
) -> Result<Json<Vec<LogEntry>>, PlcError> {
    Ok(Json(directory.audit_log(&did(&path)?).await?))
}

async fn last(
    State(directory): State<Directory>,
    UrlPath(path): UrlPath<String>,
) -> Result<Json<Operation>, PlcError> {
    Ok(Json(directory.last(&did(&path)?).await?))
}

#[derive(Deserialize)]
struct ExportQuery {
    after: Option<Datetime>,
    count: Option<i64>,
}

async fn export(
    State(directory): State<Directory>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, PlcError> {
    let count = query.count.unwrap_or(MAX_EXPORT);
    if count < 1 {
        return Err(PlcError::Improper("Invalid count: it is 1 or more".into()));
    }
    // Stored times are all UTC to the millisecond, so that text order is time order.
    let after = query.after.map(|after| Datetime::from(after.timestamp()));
    let rows =
        sqlx::query("select * from plc_operations where created_at > ? order by created_at, seq limit ?")
            .bind(after.as_ref().map_or("", Datetime::as_str))
            .bind(count.min(MAX_EXPORT))
            .fetch_all(&directory.0.pool)
            .await?;
    let mut lines = String::new();
    for row in &rows {
        let line = serde_json::to_string(&entry(row)?).map_err(|e| PlcError::Unavailable(e.to_string()))?;
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(&line);
    }
    Ok(([(header::CONTENT_TYPE, "application/jsonlines")], lines).into_response())
}
