//! What the tests stand on: requests, answers, and an authorizer with a few callers.

use std::sync::Arc;

use async_trait::async_trait;
use atcr_core::authorizer::{Action, Authorizer, Credentials, OpenAuthorizer, Rejection, Resource};
use atcr_core::blob_store::{FilesystemBlobStore, MemoryBlobStore};
use atcr_core::manifest_store::{FilesystemManifestStore, MemoryManifestStore};
use atcr_core::oci::{Digest, MediaType, RepositoryName};
use atcr_core::{Account, BlobStore, Principal, Proof};
use atcr_registry::{Registry, RegistryBuilder};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;

/// A registry, and who is calling.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) registry: Registry,
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn location(&self) -> String {
        self.header("location").to_owned()
    }

    /// The answer is this status.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// The answer is this error, in the form that the specification asks for.
    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json");
        let json = self.json();
        let error = &json["errors"][0];
        assert_eq!(error["code"], code, "{json}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
        assert_eq!(error["detail"]["requestId"], self.header("x-request-id"));
        assert_eq!(status == 401, self.headers.contains_key("www-authenticate"), "{self:?}");
        self
    }
}

pub(crate) struct Call<'a> {
    peer: &'a Peer,
    request: http::request::Builder,
}

impl Call<'_> {
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    pub(crate) async fn send(self, body: impl Into<Body>) -> Answer {
        let request = self.request.body(body.into()).unwrap();
        let (parts, body) = self.peer.registry.handle(request).await.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

impl Peer {
    pub(crate) fn new(registry: Registry) -> Self {
        Self { registry, token: None }
    }

    /// The same registry, called with this bearer token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), registry: self.registry.clone() }
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Call { peer: self, request }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path).send(()).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.call(Method::HEAD, path).send(()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.call(Method::POST, path).send(body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.call(Method::PATCH, path).send(body).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.call(Method::PUT, path).send(body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path).send(()).await
    }

    /// Begins an upload and gives its location.
    pub(crate) async fn begin(&self, repository: &str) -> String {
        self.post(&format!("/v2/{repository}/blobs/uploads/"), ()).await.is(202).location()
    }

    pub(crate) async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = Digest::sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.post(&path, content.to_vec()).await.is(201);
        digest
    }

    pub(crate) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        json: &str,
    ) -> Answer {
        let path = format!("/v2/{repository}/manifests/{reference}");
        self.call(Method::PUT, &path).header("content-type", media_type).send(json.to_owned()).await
    }

    /// Pushes an image with its blobs and gives its digest.
    pub(crate) async fn push_image(&self, repository: &str, tag: &str, name: &str) -> Digest {
        let config = self.push_blob(repository, b"{}").await;
        let layer = self.push_blob(repository, name.as_bytes()).await;
        let json = image(&config, &layer);
        self.put_manifest(repository, tag, MediaType::OCI_MANIFEST, &json).await.is(201);
        Digest::sha256(json.as_bytes())
    }
}

pub(crate) fn image(config: &Digest, layer: &Digest) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":1}}]}}"#
    )
}

pub(crate) fn index(children: &[Digest]) -> String {
    let children: Vec<_> = children
        .iter()
        .map(|digest| {
            format!(r#"{{"mediaType":"{}","digest":"{digest}","size":1}}"#, MediaType::OCI_MANIFEST)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        MediaType::OCI_INDEX,
        children.join(",")
    )
}

/// A registry in which everybody may do everything.
pub(crate) fn open() -> Peer {
    Peer::new(Registry::memory())
}

/// A registry in a directory in which everybody may do everything.
pub(crate) async fn on_filesystem() -> (Peer, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::builder()
        .manifests(Arc::new(FilesystemManifestStore::open(directory.path()).await.unwrap()))
        .blobs(Arc::new(FilesystemBlobStore::open(directory.path()).await.unwrap().with_discovery()))
        .authorizer(Arc::new(OpenAuthorizer::default()));
    (Peer::new(registry.build().unwrap()), directory)
}

/// Everything a registry needs, in memory, for callers with tokens.
pub(crate) fn guarded_builder() -> RegistryBuilder {
    with_blobs(Arc::new(MemoryBlobStore::new()))
}

pub(crate) fn with_blobs(blobs: Arc<dyn BlobStore>) -> RegistryBuilder {
    Registry::builder()
        .manifests(Arc::new(MemoryManifestStore::new()))
        .blobs(blobs)
        .authorizer(Arc::new(ByToken))
}

pub(crate) fn guarded() -> Peer {
    Peer::new(guarded_builder().build().unwrap())
}

/// The caller of the bearer token `name` may do everything below `name/`, and everybody may pull what is called
/// `…/public`; below `shared/` everybody with a token may do everything. With `name:push` only that action is granted.
/// What is below `open/` is public, though each pull from there needs a token that names it. Who may do what below
/// `down/` cannot be found out.
#[derive(Debug)]
pub(crate) struct ByToken;

#[async_trait]
impl Authorizer for ByToken {
    async fn authorize(
        &self,
        credentials: &Credentials,
        resource: &Resource<'_>,
    ) -> Result<Principal, Rejection> {
        let challenge = |scope: String| Rejection::Challenge {
            www_authenticate: format!(r#"Bearer realm="http://127.0.0.1/token",service="test"{scope}"#),
            message: "sign in first".to_owned(),
        };
        let (principal, name, granted) = match credentials {
            Credentials::None => (Principal::Anonymous, "", "pull"),
            Credentials::Bearer(token) if token.starts_with("invalid") => {
                return Err(challenge(String::new()));
            }
            Credentials::Bearer(token) => {
                let (name, granted) = token.split_once(':').unwrap_or((token, "pull push delete"));
                let did = format!("did:plc:{name}").parse().unwrap();
                (Principal::Account(Account { did, handle: None, proof: Proof::Trusted }), name, granted)
            }
            _ => return Err(challenge(String::new())),
        };
        match resource {
            Resource::Api | Resource::Catalog if name.is_empty() => Err(challenge(String::new())),
            Resource::Api | Resource::Catalog => Ok(principal),
            Resource::Repository(repository, action) => {
                let (owner, last) = repository.as_str().split_once('/').unwrap_or_default();
                if owner == "down" {
                    let source = "no route to host".into();
                    return Err(Rejection::Unavailable { what: "the directory".to_owned(), source });
                }
                let public = last == "public" && *action == Action::Pull;
                let own = owner == name
                    || owner == "open" && name == "publisher"
                    || (owner == "shared" && !name.is_empty());
                if public || (own && granted.contains(action.as_str())) {
                    Ok(principal)
                } else if name.is_empty() {
                    Err(challenge(format!(r#",scope="repository:{repository}:{action}""#)))
                } else {
                    Err(Rejection::Denied(format!("{name} may not {action} here")))
                }
            }
        }
    }

    async fn is_public(&self, repository: &RepositoryName) -> bool {
        repository.as_str().starts_with("open/")
    }
}
