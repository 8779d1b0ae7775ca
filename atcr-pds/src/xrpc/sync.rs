use atcr_core::syntax::{Did, Nsid, RecordKey, Tid};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use ipld_core::cid::Cid;
use serde_json::{Value, json};

use super::{Params, Server, XrpcError};
use crate::repo::RecordPath;
use crate::store::{RepoId, RepoInfo, RepoStatus};

/// The most blocks that one getBlocks may name. A query string holds fewer anyway.
const MAX_BLOCKS: usize = 500;

impl Server {
    async fn known(&self, did: &Did) -> Result<RepoInfo, XrpcError> {
        let missing = || XrpcError::bad("RepoNotFound", format!("Could not find repo for DID: {did}"));
        self.0.repos.info(did).await?.ok_or_else(missing)
    }

    /// The repo of `did`, if its status lets the sync methods serve it.
    pub(super) async fn served(&self, did: &Did) -> Result<RepoInfo, XrpcError> {
        let info = self.known(did).await?;
        let (error, what) = match info.status {
            RepoStatus::Active => return Ok(info),
            RepoStatus::Deactivated => ("RepoDeactivated", "deactivated"),
            RepoStatus::Suspended => ("RepoSuspended", "suspended"),
            RepoStatus::Takendown => ("RepoTakendown", "takendown"),
            RepoStatus::Deleted => {
                return Err(XrpcError::bad("RepoNotFound", format!("Could not find repo for DID: {did}")));
            }
        };
        Err(XrpcError::bad(error, format!("Repo has been {what}: {did}")))
    }
}

fn car(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/vnd.ipld.car")], body).into_response()
}

pub(super) async fn get_repo(State(server): State<Server>, params: Params) -> Result<Response, XrpcError> {
    let did: Did = params.required("did")?;
    let since: Option<Tid> = params.optional("since")?;
    server.served(&did).await?;
    Ok(car(Body::from_stream(server.0.repos.export(&did, since).await?)))
}

pub(super) async fn get_record(State(server): State<Server>, params: Params) -> Result<Response, XrpcError> {
    let did: Did = params.required("did")?;
    let collection: Nsid = params.required("collection")?;
    let rkey: RecordKey = params.required("rkey")?;
    server.served(&did).await?;
    let path =
        RecordPath::new(&collection, &rkey).map_err(|error| XrpcError::invalid_request(error.to_string()))?;
    Ok(car(server.0.repos.record_proof(&did, &path).await?.into()))
}

pub(super) async fn get_blocks(State(server): State<Server>, params: Params) -> Result<Response, XrpcError> {
    let did: Did = params.required("did")?;
    let cids: Vec<Cid> = params.many("cids", MAX_BLOCKS)?;
    server.served(&did).await?;
    Ok(car(server.0.repos.get_blocks(&did, &cids).await?.into()))
}

pub(super) async fn get_latest_commit(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let info = server.served(&params.required("did")?).await?;
    Ok(Json(json!({"cid": info.head.cid.to_string(), "rev": info.head.rev})))
}

/// Deprecated, and still asked for: the newest commit by itself.
pub(super) async fn get_head(State(server): State<Server>, params: Params) -> Result<Json<Value>, XrpcError> {
    let info = server.served(&params.required("did")?).await?;
    Ok(Json(json!({"root": info.head.cid.to_string()})))
}

/// Deprecated, and still asked for: the whole repo.
pub(super) async fn get_checkout(
    State(server): State<Server>,
    params: Params,
) -> Result<Response, XrpcError> {
    let did: Did = params.required("did")?;
    server.served(&did).await?;
    Ok(car(Body::from_stream(server.0.repos.export(&did, None).await?)))
}

pub(super) async fn get_repo_status(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let info = server.known(&params.required("did")?).await?;
    Ok(Json(match info.status {
        RepoStatus::Active => json!({"did": info.did, "active": true, "rev": info.head.rev}),
        status => json!({"did": info.did, "active": false, "status": status.as_str()}),
    }))
}

fn repo_cursor(params: &Params) -> Result<Option<RepoId>, XrpcError> {
    Ok(params.number("cursor")?.map(RepoId))
}

pub(super) async fn list_repos(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let limit = params.integer("limit", 1..=1000, 500)?;
    let repos = server.0.repos.list_repos(repo_cursor(&params)?, limit).await?;
    let listed: Vec<Value> = repos
        .iter()
        .map(|info| {
            let active = info.status == RepoStatus::Active;
            let mut repo = json!({
                "did": info.did,
                "head": info.head.cid.to_string(),
                "rev": info.head.rev,
                "active": active,
            });
            if !active {
                repo["status"] = json!(info.status.as_str());
            }
            repo
        })
        .collect();
    Ok(Json(page(listed, &repos)))
}

pub(super) async fn list_repos_by_collection(
    State(server): State<Server>,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let collection: Nsid = params.required("collection")?;
    let limit = params.integer("limit", 1..=2000, 500)?;
    let repos = server.0.repos.list_repos_by_collection(&collection, repo_cursor(&params)?, limit).await?;
    let active = repos.iter().filter(|info| info.status == RepoStatus::Active);
    let listed = active.map(|info| json!({"did": info.did})).collect();
    Ok(Json(page(listed, &repos)))
}

/// A page of repos, with the cursor behind the last one that was looked at.
fn page(listed: Vec<Value>, repos: &[RepoInfo]) -> Value {
    let mut answer = json!({"repos": listed});
    if let Some(last) = repos.last() {
        answer["cursor"] = json!(last.id.0.to_string());
    }
    answer
}
