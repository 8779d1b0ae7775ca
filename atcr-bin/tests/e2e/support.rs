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
        Self::start_with(data_dir, &[])
    }

    pub(crate) fn start_with(data_dir: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atcr"));
        command.args(["dev", "--json", "--data-dir"]).arg(data_dir).args(options);
        if !options.contains(&"--port") {
            command.args(["--port", "0"]);
        }
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

/// A hold of its own, with its settings.
pub(crate) struct HoldProcess {
    settings: Vec<(String, String)>,
}

impl HoldProcess {
    /// One on a free port that keeps its data in this folder, owned by nobody in particular.
    pub(crate) fn new(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let own = [
            ("HOLD_SERVER_ADDR", format!("127.0.0.1:{port}")),
            ("HOLD_SERVER_PUBLIC_URL", format!("http://localhost:{port}")),
            ("HOLD_SERVER_TEST_MODE", "true".to_owned()),
            ("HOLD_REGISTRATION_OWNER_DID", "did:plc:ewvi7nxzyoun6zhxrhs64oiz".to_owned()),
            ("HOLD_DATABASE_PATH", data_dir.to_str().unwrap().to_owned()),
            ("HOLD_DATABASE_PLC_DIRECTORY_URL", "http://localhost:1".to_owned()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        Self { settings: own.into_iter().chain(given).collect() }
    }

    /// Another process of the same hold.
    pub(crate) fn replica(&self) -> Self {
        let address = Self::new(Path::new(""), &[]).settings.remove(0);
        let settings = [vec![address], self.settings[1..].to_vec()].concat();
        Self { settings }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.settings[0].1)
    }

    /// `atcr-hold` with these arguments and the settings; the last one of a name counts.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atcr-hold"));
        command.args(args).env_clear().envs(self.settings.iter().cloned());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> std::process::Output {
        self.command(args).output().unwrap()
    }

    /// Serves; comes back when it answers. Gives the DID too.
    pub(crate) async fn serve(&self) -> (Running, String) {
        let process = Running::spawn(self.command(&["serve"]));
        let url = format!("{}/.well-known/atproto-did", self.url());
        let answered = tokio::time::timeout(std::time::Duration::from_secs(60), async {
            loop {
                if let Ok(answer) = http().get(&url).send().await {
                    return answer.text().await.unwrap();
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        (process, answered.await.expect("the hold starts"))
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
