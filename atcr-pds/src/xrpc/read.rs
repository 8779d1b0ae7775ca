use atcr_core::syntax::{AtIdentifier, AtUri, Did, Nsid, RecordKey};
use axum::Json;
use axum::extract::State;
use ipld_core::cid::Cid;
use serde_json::{Value, json};

use super::{Params, Server, XrpcError};
use crate::repo::{Page, RecordPath};
use crate::store::RepoStatus;

impl Server {
    /// The repo that `repo` names, if it is active.
    async fn active(&self, repo: &AtIdentifier) -> Result<Option<Did>, XrpcError> {
        let Some(did) = self.did(repo).await? else { return Ok(None) };
        let info = self.0.repos.info(&did).await?;
        Ok(info.filter(|info| info.status == RepoStatus::Active).map(|info| info.did))
    }
}

fn not_found(repo: &AtIdentifier) -> XrpcError {
    XrpcError::invalid_request(format!("Could not find repo: {repo}"))
}

pub(super) async fn describe_repo(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let repo: AtIdentifier = params.required("repo")?;
    let did = server.active(&repo).await?.ok_or_else(|| not_found(&repo))?;
    let identity = server.0.host.identity(&did).await?;
    let collections = server.0.repos.collections(&did).await?;
    Ok(Json(json!({
        "handle": identity.handle,
        "did": did,
        "didDoc": identity.document,
        "collections": collections,
        "handleIsCorrect": identity.handle_is_correct,
    })))
}

pub(super) async fn get_record(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let repo: AtIdentifier = params.required("repo")?;
    let collection: Nsid = params.required("collection")?;
    let rkey: RecordKey = params.required("rkey")?;
    let cid: Option<Cid> = params.optional("cid")?;
    let unknown = || XrpcError::invalid_request("Could not locate record");
    let did = server.active(&repo).await?.ok_or_else(unknown)?;
    let missing = |uri: &AtUri| XrpcError::bad("RecordNotFound", format!("Could not locate record: {uri}"));
    let uri = AtUri::record(did.clone(), &collection, &rkey);
    // A collection that cannot be a path has no records.
    let path = RecordPath::new(&collection, &rkey).map_err(|_| missing(&uri))?;
    let record = server.0.repos.get_record(&did, &path).await?.ok_or_else(|| missing(&uri))?;
    if cid.is_some_and(|cid| cid != record.cid) {
        return Err(missing(&uri));
    }
    Ok(Json(json!({"uri": uri, "cid": record.cid.to_string(), "value": record.to_json()?})))
}

pub(super) async fn list_records(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let repo: AtIdentifier = params.required("repo")?;
    let collection: Nsid = params.required("collection")?;
    let page = Page {
        limit: params.integer("limit", 1..=100, 50)?,
        cursor: params.optional("cursor")?,
        reverse: params.boolean("reverse")?,
    };
    let did = server.active(&repo).await?.ok_or_else(|| not_found(&repo))?;
    let records = server.0.repos.list_records(&did, &collection, page).await?;
    let mut listed = Vec::with_capacity(records.len());
    for record in &records {
        listed.push(json!({
            "uri": record.path.to_uri(&did),
            "cid": record.cid.to_string(),
            "value": record.to_json()?,
        }));
    }
    let mut answer = json!({"records": listed});
    if let Some(last) = records.last() {
        answer["cursor"] = json!(last.path.rkey());
    }
    Ok(Json(answer))
}
