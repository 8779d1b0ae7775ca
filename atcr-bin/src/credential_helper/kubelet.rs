//! The kubelet's credential providers: a request on standard input, a response on standard output
//! (`credentialprovider.kubelet.k8s.io/v1`).

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Value, json};

use super::watchdog::Watchdog;
use super::{Account, HelperError, ServerName, protocol};

const API: &str = "credentialprovider.kubelet.k8s.io/v1";
/// How long the kubelet may use an answer. Short, so that a revoked secret does not stand in the way of public images.
const CACHED: &str = "5m0s";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    api_version: String,
    kind: String,
    image: String,
}

/// Answers one request within 2 seconds: with no credentials at all where there are none to give.
pub(super) fn run() -> ExitCode {
    let late = response(None, None).to_string();
    let watchdog = Watchdog::start(late, "something here took too long: no credentials are given", 0);
    match protocol::input().and_then(|text| answer(&text, protocol::usable)) {
        Ok(response) => {
            watchdog.answer(Some(&response.to_string()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("docker-credential-atcr: {error}");
            watchdog.answer(None);
            ExitCode::FAILURE
        }
    }
}

/// The registry of the image that a request is about.
pub(super) fn server(text: &str) -> Result<ServerName, HelperError> {
    let request: Request = serde_json::from_str(text).map_err(|e| HelperError::Input(e.to_string()))?;
    if request.api_version != API || request.kind != "CredentialProviderRequest" {
        return Err(HelperError::Input(format!(
            "apiVersion {API} and kind CredentialProviderRequest are supported"
        )));
    }
    ServerName::parse(&request.image)
}

fn answer(text: &str, usable: impl FnOnce(&ServerName) -> Option<Account>) -> Result<Value, HelperError> {
    let server = server(text)?;
    Ok(response(Some(&server), usable(&server).as_ref()))
}

fn response(server: Option<&ServerName>, account: Option<&Account>) -> Value {
    let auth = match (server, account) {
        (Some(server), Some(account)) => {
            json!({ server.as_str(): { "username": account.username, "password": account.secret } })
        }
        _ => json!({}),
    };
    json!({
        "apiVersion": API,
        "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry",
        "cacheDuration": if account.is_some() { CACHED } else { "0s" },
        "auth": auth,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential_helper::Kind;

    #[test]
    fn a_kubelet_gets_the_credentials_of_its_images_registry() {
        let account = || Account {
            name: "alice.test".to_owned(),
            did: None,
            username: "alice.test".to_owned(),
            secret: "s3cret".to_owned(),
            in_keyring: false,
            kind: Kind::Device,
            checked_at: 0,
        };
        let request = |version: &str| {
            json!({
                "apiVersion": version, "kind": "CredentialProviderRequest",
                "image": "registry.example:5000/alice.test/app@sha256:00",
                "serviceAccountToken": "not looked at",
            })
            .to_string()
        };
        let given = answer(&request(API), |server| {
            assert_eq!(server.as_str(), "registry.example:5000");
            Some(account())
        });
        assert_eq!(
            given.unwrap(),
            json!({
                "apiVersion": API, "kind": "CredentialProviderResponse", "cacheKeyType": "Registry",
                "cacheDuration": "5m0s",
                "auth": { "registry.example:5000": { "username": "alice.test", "password": "s3cret" } },
            })
        );
        let nobody = answer(&request(API), |_| None).unwrap();
        assert_eq!(nobody["auth"], json!({}));
        assert_eq!(nobody["cacheDuration"], "0s", "who signs in next is not kept waiting");
        assert!(answer(&request("credentialprovider.kubelet.k8s.io/v1alpha1"), |_| None).is_err());
        assert!(answer("", |_| None).is_err());
    }
}
