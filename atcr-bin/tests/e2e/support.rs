//! The binaries as child processes on loopback.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use oci_distribution::Reference;
use oci_distribution::client::{Client, ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_distribution::secrets::RegistryAuth;
use serde_json::Value;

/// A child process that is stopped, and waited for, when this is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts a program.
    pub(crate) fn spawn(mut command: Command) -> Self {
        Self { child: command.spawn().unwrap() }
    }

    /// Sends a signal by its number and waits for the end; gives the exit code.
    pub(crate) fn stop(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
        assert!(killed.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `atcr dev`, and what it said about itself.
pub(crate) struct Dev {
    pub(crate) process: Running,
    pub(crate) ready: Value,
}

impl Dev {
    pub(crate) fn start(data_dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atcr"));
        command.args(["dev", "--json", "--port", "0", "--data-dir"]).arg(data_dir);
        let (process, line) = start(command);
        Self { process, ready: serde_json::from_str(&line).unwrap() }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    pub(crate) fn account(&self, n: usize) -> Account {
        let field = |name: &str| self.ready["accounts"][n][name].as_str().unwrap().to_owned();
        Account { handle: field("handle"), did: field("did"), password: field("password") }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) handle: String,
    pub(crate) did: String,
    pub(crate) password: String,
}

impl Account {
    pub(crate) fn auth(&self) -> RegistryAuth {
        RegistryAuth::Basic(self.handle.clone(), self.password.clone())
    }
}

/// Starts a program and waits for its first line on standard output.
pub(crate) fn start(mut command: Command) -> (Running, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Running { child }, line)
}

pub(crate) fn client() -> Client {
    Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })
}

pub(crate) fn reference(registry: &str, name: &str) -> Reference {
    format!("{registry}/{name}").parse().unwrap()
}

/// An image with one layer of these bytes.
pub(crate) fn image(content: &[u8]) -> (Vec<ImageLayer>, Config) {
    let layer = ImageLayer::oci_v1(content.to_vec(), None);
    (vec![layer], Config::oci_v1(b"{}".to_vec(), None))
}

/// Pushes an image and pulls it again; gives the layer's bytes.
pub(crate) async fn push_and_pull(registry: &str, name: &str, account: &Account, content: &[u8]) -> Vec<u8> {
    let (client, reference) = (client(), reference(registry, name));
    let (layers, config) = image(content);
    client.push(&reference, &layers, config, &account.auth(), None).await.unwrap();
    pull(registry, name).await
}

/// Pulls an image as nobody; gives the first layer's bytes.
pub(crate) async fn pull(registry: &str, name: &str) -> Vec<u8> {
    let accepted = vec!["application/vnd.oci.image.layer.v1.tar"];
    let pulled = client().pull(&reference(registry, name), &RegistryAuth::Anonymous, accepted).await.unwrap();
    pulled.layers[0].data.to_vec()
}

/// A client for requests that no OCI client sends.
pub(crate) fn http() -> reqwest::Client {
    #[expect(clippy::disallowed_methods, reason = "a test speaks to its own server on loopback")]
    reqwest::Client::new()
}

/// A token for these scopes, or the answer of the token endpoint when it gives none.
pub(crate) async fn token(
    registry: &str,
    account: Option<&Account>,
    scope: &str,
) -> Result<String, (u16, Value)> {
    let mut request =
        http().get(format!("http://{registry}/auth/token")).query(&[("service", registry), ("scope", scope)]);
    if let Some(account) = account {
        request = request.basic_auth(&account.handle, Some(&account.password));
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    match body["token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => Err((status, body)),
    }
}
