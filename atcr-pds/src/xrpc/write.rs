use atcr_core::syntax::{AtIdentifier, Did, Nsid, RecordKey};
use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use ipld_core::cid::Cid;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::server::authenticated;
use super::{Caller, Input, Server, Validity, XrpcError};
use crate::cbor::{json, parse_cid};
use crate::repo::{Head, MAX_WRITES};
use crate::{Expect, RepoError, Swap, Write, WriteAction};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateInput {
    repo: AtIdentifier,
    collection: Nsid,
    rkey: Option<RecordKey>,
    validate: Option<bool>,
    record: Map<String, Value>,
    #[serde(default, deserialize_with = "cid")]
    swap_commit: Option<Cid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PutInput {
    repo: AtIdentifier,
    collection: Nsid,
    rkey: RecordKey,
    validate: Option<bool>,
    record: Map<String, Value>,
    #[serde(default, deserialize_with = "nullable_cid")]
    swap_record: Expect,
    #[serde(default, deserialize_with = "cid")]
    swap_commit: Option<Cid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteInput {
    repo: AtIdentifier,
    collection: Nsid,
    rkey: RecordKey,
    #[serde(default, deserialize_with = "cid")]
    swap_record: Option<Cid>,
    #[serde(default, deserialize_with = "cid")]
    swap_commit: Option<Cid>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApplyInput {
    repo: AtIdentifier,
    validate: Option<bool>,
    writes: Vec<WriteInput>,
    #[serde(default, deserialize_with = "cid")]
    swap_commit: Option<Cid>,
}

#[derive(Deserialize)]
#[serde(tag = "$type")]
enum WriteInput {
    #[serde(rename = "com.atproto.repo.applyWrites#create")]
    Create { collection: Nsid, rkey: Option<RecordKey>, value: Map<String, Value> },
    #[serde(rename = "com.atproto.repo.applyWrites#update")]
    Update { collection: Nsid, rkey: RecordKey, value: Map<String, Value> },
    #[serde(rename = "com.atproto.repo.applyWrites#delete")]
    Delete { collection: Nsid, rkey: RecordKey },
}

fn cid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cid>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| parse_cid(&text).map_err(serde::de::Error::custom)).transpose()
}

/// `swapRecord` of a put: left out is anything, null is nothing there yet.
fn nullable_cid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Expect, D::Error> {
    Ok(cid(deserializer)?.map_or(Expect::Absent, Expect::Cid))
}

fn swap(commit: Option<Cid>) -> Swap {
    commit.map_or(Swap::Anything, Swap::Commit)
}

fn head(head: Head) -> Value {
    json!({"cid": head.cid.to_string(), "rev": head.rev})
}

/// A record that was checked: its value, and what is said of its lexicon in the answer.
struct Checked {
    value: ipld_core::ipld::Ipld,
    status: Option<&'static str>,
}

impl Server {
    /// The repo that `repo` names, if the caller may make commits in it.
    async fn writable(&self, caller: &dyn Caller, repo: &AtIdentifier) -> Result<Did, XrpcError> {
        let missing = || XrpcError::invalid_request(format!("Could not find repo: {repo}"));
        let did = self.did(repo).await?.ok_or_else(missing)?;
        caller.may_commit(&did)?;
        Ok(did)
    }

    fn check(
        &self,
        collection: &Nsid,
        mut record: Map<String, Value>,
        validate: Option<bool>,
    ) -> Result<Checked, XrpcError> {
        match record.get("$type").and_then(Value::as_str) {
            Some(kind) if kind == collection.as_str() => {}
            Some(other) => {
                return Err(XrpcError::invalid_request(format!(
                    "Invalid $type: expected {collection}, got {other}"
                )));
            }
            None => drop(record.insert("$type".into(), json!(collection))),
        }
        let record = Value::Object(record);
        let value = json::record_from_json(&record)
            .map_err(|error| XrpcError::invalid_request(format!("Invalid record: {error}")))?;
        let status = match validate {
            Some(false) => None,
            asked => match (self.0.schemas.check(collection, &record), asked) {
                (Validity::Valid, _) => Some("valid"),
                (Validity::Unknown, None) => Some("unknown"),
                (Validity::Unknown, Some(_)) => {
                    return Err(XrpcError::invalid_request(format!("Unknown lexicon type: {collection}")));
                }
                (Validity::Invalid(reason), _) => {
                    return Err(XrpcError::invalid_request(format!("Invalid {collection} record: {reason}")));
                }
            },
        };
        Ok(Checked { value, status })
    }

    /// Writes one record that is there afterwards, and describes it.
    async fn write_one(
        &self,
        did: &Did,
        write: Write,
        swap: Swap,
        status: Option<&str>,
    ) -> Result<Json<Value>, XrpcError> {
        let applied = self.0.repos.apply_writes(did, vec![write], swap).await?;
        let result = applied.results.first().ok_or_else(|| XrpcError::internal("a write without result"))?;
        let mut answer = json!({"uri": result.uri, "cid": result.cid.map(|cid| cid.to_string())});
        if let Some(commit) = applied.commit {
            answer["commit"] = head(commit);
        }
        if let Some(status) = status {
            answer["validationStatus"] = json!(status);
        }
        Ok(Json(answer))
    }

    fn new_rkey(&self) -> RecordKey {
        self.0.rkeys.now().into()
    }
}

pub(super) async fn create_record(
    State(server): State<Server>,
    request: Request,
) -> Result<Json<Value>, XrpcError> {
    let (caller, request) = authenticated(&server, request).await?;
    let Input(input) = Input::<CreateInput>::from_request(request, &()).await?;
    let did = server.writable(&*caller, &input.repo).await?;
    caller.may_write(&did, &input.collection, WriteAction::Create)?;
    let Checked { value, status } = server.check(&input.collection, input.record, input.validate)?;
    let rkey = input.rkey.unwrap_or_else(|| server.new_rkey());
    let write = Write::Create { collection: input.collection, rkey, value };
    server.write_one(&did, write, swap(input.swap_commit), status).await
}

pub(super) async fn put_record(
    State(server): State<Server>,
    request: Request,
) -> Result<Json<Value>, XrpcError> {
    let (caller, request) = authenticated(&server, request).await?;
    let Input(input) = Input::<PutInput>::from_request(request, &()).await?;
    let did = server.writable(&*caller, &input.repo).await?;
    caller.may_put(&did, &input.collection)?;
    let Checked { value, status } = server.check(&input.collection, input.record, input.validate)?;
    let PutInput { collection, rkey, swap_record: expect, .. } = input;
    let write = Write::Put { collection, rkey, value, expect };
    server.write_one(&did, write, swap(input.swap_commit), status).await
}

pub(super) async fn delete_record(
    State(server): State<Server>,
    request: Request,
) -> Result<Json<Value>, XrpcError> {
    let (caller, request) = authenticated(&server, request).await?;
    let Input(input) = Input::<DeleteInput>::from_request(request, &()).await?;
    let did = server.writable(&*caller, &input.repo).await?;
    caller.may_write(&did, &input.collection, WriteAction::Delete)?;
    let expect = input.swap_record.map_or(Expect::Anything, Expect::Cid);
    let write = Write::Delete { collection: input.collection, rkey: input.rkey, expect };
    match server.0.repos.apply_writes(&did, vec![write], swap(input.swap_commit)).await {
        Ok(applied) => Ok(Json(match applied.commit {
            Some(commit) => json!({"commit": head(commit)}),
            None => json!({}),
        })),
        // A record that is not there is as deleted as it can be.
        Err(RepoError::RecordNotFound(_) | RepoError::RecordSwap { actual: None, .. }) => Ok(Json(json!({}))),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn apply_writes(
    State(server): State<Server>,
    request: Request,
) -> Result<Json<Value>, XrpcError> {
    let (caller, request) = authenticated(&server, request).await?;
    let Input(input) = Input::<ApplyInput>::from_request(request, &()).await?;
    let did = server.writable(&*caller, &input.repo).await?;
    if input.writes.len() > MAX_WRITES {
        return Err(RepoError::TooManyWrites(input.writes.len()).into());
    }
    let mut writes = Vec::with_capacity(input.writes.len());
    let mut statuses = Vec::with_capacity(input.writes.len());
    for write in input.writes {
        let (write, status) = server.prepare(&did, &*caller, write, input.validate)?;
        writes.push(write);
        statuses.push(status);
    }
    let applied = server.0.repos.apply_writes(&did, writes, swap(input.swap_commit)).await?;
    let results: Vec<Value> = applied
        .results
        .iter()
        .zip(statuses)
        .map(|(result, (kind, status))| {
            let mut answer = json!({"$type": format!("com.atproto.repo.applyWrites#{kind}Result")});
            if let Some(cid) = result.cid {
                answer["uri"] = json!(result.uri);
                answer["cid"] = json!(cid.to_string());
            }
            if let Some(status) = status {
                answer["validationStatus"] = json!(status);
            }
            answer
        })
        .collect();
    let mut answer = json!({"results": results});
    if let Some(commit) = applied.commit {
        answer["commit"] = head(commit);
    }
    Ok(Json(answer))
}

impl Server {
    /// One write of applyWrites, with the word for its result and its validation status.
    #[allow(clippy::type_complexity)]
    fn prepare(
        &self,
        did: &Did,
        caller: &dyn Caller,
        write: WriteInput,
        validate: Option<bool>,
    ) -> Result<(Write, (&'static str, Option<&'static str>)), XrpcError> {
        Ok(match write {
            WriteInput::Create { collection, rkey, value } => {
                caller.may_write(did, &collection, WriteAction::Create)?;
                let Checked { value, status } = self.check(&collection, value, validate)?;
                let rkey = rkey.unwrap_or_else(|| self.new_rkey());
                (Write::Create { collection, rkey, value }, ("create", status))
            }
            WriteInput::Update { collection, rkey, value } => {
                caller.may_write(did, &collection, WriteAction::Update)?;
                let Checked { value, status } = self.check(&collection, value, validate)?;
                (Write::Update { collection, rkey, value, expect: Expect::Anything }, ("update", status))
            }
            WriteInput::Delete { collection, rkey } => {
                caller.may_write(did, &collection, WriteAction::Delete)?;
                (Write::Delete { collection, rkey, expect: Expect::Anything }, ("delete", None))
            }
        })
    }
}
