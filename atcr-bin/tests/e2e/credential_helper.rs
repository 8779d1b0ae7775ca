//! The helper as clients call it: a process, its standard input and output, and registries of every mood.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const NOT_FOUND: &str = "credentials not found in native keychain\n";
/// Ten times what the helper allows itself: whoever takes longer hangs.
const HANGS: Duration = Duration::from_secs(20);

/// A user's home with its files.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command.env("HOME", self.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str], input: &str) -> Output {
        finish(self.command(args), Some(input))
    }

    fn kept(&self) -> PathBuf {
        self.path().join(".atcr/credentials.json")
    }

    /// Keeps these accounts; the first one is in use.
    fn keep(&self, server: &str, names: &[&str], checked_at: i64) {
        let accounts: Vec<_> = names
            .iter()
            .map(|name| {
                json!({ "name": name, "username": name, "secret": format!("secret of {name}"), "kind": "device", "checked_at": checked_at })
            })
            .collect();
        let kept =
            json!({ "version": 1, "registries": { server: { "active": names[0], "accounts": accounts } } });
        std::fs::create_dir_all(self.path().join(".atcr")).unwrap();
        std::fs::write(self.kept(), kept.to_string()).unwrap();
    }
}

fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_docker-credential-atcr"));
    command.args(args).env_clear();
    command
}

/// Runs to the end. Without `input`, standard input stays open.
fn finish(mut command: Command, input: Option<&str>) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        // One that needs no input may have ended already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let open = input.is_none().then_some(stdin);
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > HANGS {
            child.kill().unwrap();
            panic!("the helper hangs: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(open);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What makes every client go on without credentials.
fn assert_not_found(output: &Output) {
    assert_eq!((text(&output.stdout), output.status.code()), (NOT_FOUND, Some(1)), "{output:?}");
    assert!(!output.stderr.is_empty(), "somebody is told why");
}

/// A registry that gives every request the same answer; none at all when `None`.
struct FakeRegistry {
    name: String,
    calls: Arc<AtomicUsize>,
}

impl FakeRegistry {
    fn start(answer: Option<(u16, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let calls: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || respond(stream.unwrap(), answer, &counted));
            }
        });
        Self { name, calls }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

fn respond(mut stream: TcpStream, answer: Option<(u16, &str)>, calls: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    calls.fetch_add(1, Ordering::SeqCst);
    let Some((status, text)) = answer else {
        // Until the client gives up.
        let _ = reader.read(&mut [0]);
        return;
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    let _ = stream.write_all((head + text).as_bytes());
}

#[test]
fn speaks_the_protocol_to_the_letter() {
    let home = Home::new();
    let server = "https://registry.example";
    assert_eq!(text(&home.run(&["list"], "").stdout), "{}\n");
    assert_not_found(&home.run(&["get"], server));
    let stored = home.run(
        &["store"],
        &json!({ "ServerURL": server, "Username": "alice", "Secret": "s \"é\n" }).to_string(),
    );
    assert_eq!((stored.status.code(), text(&stored.stdout)), (Some(0), ""));
    for asked in [server, "https://registry.example\n", "registry.example"] {
        let got = json_of(&home.run(&["get"], asked));
        assert_eq!(got, json!({ "ServerURL": asked.trim(), "Username": "alice", "Secret": "s \"é\n" }));
    }
    assert_eq!(json_of(&home.run(&["list"], "")), json!({ server: "alice" }));
    for _ in 0..2 {
        let erased = home.run(&["erase"], server);
        assert_eq!((erased.status.code(), text(&erased.stdout)), (Some(0), ""));
    }
    assert_not_found(&home.run(&["get"], server));
    assert_eq!(json_of(&home.run(&["list"], "")), json!({}));

    for (command, input, said) in [
        ("get", "", "no credentials server URL\n"),
        ("get", " \n", "no credentials server URL\n"),
        ("erase", "\n", "no credentials server URL\n"),
        ("store", r#"{"Username":"a","Secret":"b"}"#, "no credentials server URL\n"),
        ("store", r#"{"ServerURL":"registry.example","Secret":"b"}"#, "no credentials username\n"),
    ] {
        let output = home.run(&[command], input);
        assert_eq!((text(&output.stdout), output.status.code()), (said, Some(1)), "{command} {input:?}");
    }
    for input in ["", "{", "[]", &"x".repeat(100_000)] {
        assert_eq!(home.run(&["store"], input).status.code(), Some(1));
    }
    let version = home.run(&["version"], "");
    assert!(text(&version.stdout).starts_with("docker-credential-atcr (") && version.status.success());
}

#[test]
fn without_a_place_for_credentials_public_pulls_go_on() {
    // No home at all, one that cannot be written (nobody can make a folder in /proc), and one that is a file.
    let file = tempfile::NamedTempFile::new().unwrap();
    for home in [None, Some(Path::new("/proc")), Some(file.path()), Some(Path::new("/nowhere"))] {
        let command = |args: &[&str]| {
            let mut command = bare(args);
            command.envs(home.map(|home| ("HOME", home)));
            command
        };
        assert_not_found(&finish(command(&["get"]), Some("registry.example")));
        let stored = json!({ "ServerURL": "registry.example", "Username": "a", "Secret": "b" }).to_string();
        if home != Some(Path::new("/nowhere")) {
            let output = finish(command(&["store"]), Some(&stored));
            assert_eq!(output.status.code(), Some(1), "what is not kept is not said to be: {output:?}");
            assert!(!output.stdout.is_empty());
        }
    }
}

#[test]
fn damaged_and_endless_files_do_not_stop_a_public_pull() {
    let home = Home::new();
    home.keep("registry.example", &["alice.test"], 0);
    for damage in ["", "{", "[1]", r#"{"version":9,"registries":{}}"#] {
        std::fs::write(home.kept(), damage).unwrap();
        assert_not_found(&home.run(&["get"], "registry.example"));
    }
    std::fs::remove_file(home.kept()).unwrap();
    assert!(Command::new("mkfifo").arg(home.kept()).status().unwrap().success());
    assert_not_found(&home.run(&["get"], "registry.example"));
}

#[test]
fn a_client_that_never_ends_its_input_gets_an_answer() {
    let home = Home::new();
    home.keep("registry.example", &["alice.test"], 0);
    assert_not_found(&finish(home.command(&["get"]), None));
    let output = finish(home.command(&["kubelet"]), None);
    assert_eq!(json_of(&output)["auth"], json!({}));
}

#[test]
fn whatever_the_registry_does_get_answers_and_a_dead_secret_is_not_given_out() {
    let offline = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let name = |answer| FakeRegistry::start(answer).name;
    for (what, server, given) in [
        ("takes it", name(Some((200, "{}"))), true),
        ("has ended the session", name(Some((401, r#"{"errors":[{"message":"ended"}]}"#))), false),
        ("has revoked the device", name(Some((403, ""))), false),
        ("is broken", name(Some((500, "oh"))), true),
        ("is too busy", name(Some((429, ""))), true),
        ("redirects", name(Some((302, ""))), true),
        ("is another one", name(Some((404, "<html>"))), true),
        ("hangs", name(None), true),
        ("is offline", offline, true),
    ] {
        let home = Home::new();
        home.keep(&server, &["alice.test"], 0);
        let output = home.run(&["get"], &server);
        if given {
            assert_eq!(json_of(&output)["Secret"], "secret of alice.test", "a registry that {what}");
        } else {
            assert_not_found(&output);
            let hint = format!("docker-credential-atcr login {server}");
            assert!(text(&output.stderr).contains(&hint), "{output:?}");
        }
        // Not a word of it is lost: the session may be opened again.
        assert!(std::fs::read_to_string(home.kept()).unwrap().contains("secret of alice.test"), "{what}");
    }
}

#[test]
fn a_registry_is_asked_once_in_ten_minutes_also_where_nothing_can_be_written() {
    let registry = FakeRegistry::start(Some((200, "{}")));
    let home = Home::new();
    home.keep(&registry.name, &["alice.test"], 0);
    for _ in 0..3 {
        json_of(&home.run(&["get"], &registry.name));
    }
    assert_eq!(registry.calls(), 1, "its word is believed for a while");

    let other = Home::new();
    other.keep(&registry.name, &["alice.test"], 0);
    // A lock that cannot be had stands for a disk that cannot be written; the administrator may write everywhere.
    std::fs::create_dir(other.path().join(".atcr/lock")).unwrap();
    for _ in 0..2 {
        json_of(&other.run(&["get"], &registry.name));
    }
    assert_eq!(registry.calls(), 3);
}

#[test]
fn twenty_pulls_at_once_all_get_their_answer() {
    for (answer, given) in [(Some((200, "{}")), true), (Some((401, "")), false), (None, true)] {
        let registry = FakeRegistry::start(answer);
        let home = Home::new();
        home.keep(&registry.name, &["alice.test"], 0);
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..20).map(|_| scope.spawn(|| home.run(&["get"], &registry.name))).collect();
            for run in runs {
                let output = run.join().unwrap();
                // With many at once on a slow machine the time may run out before the registry's does.
                if !given || (answer.is_none() && !output.status.success()) {
                    assert_not_found(&output);
                } else {
                    assert_eq!(json_of(&output)["Secret"], "secret of alice.test");
                }
            }
        });
        let kept: Value = serde_json::from_slice(&std::fs::read(home.kept()).unwrap()).unwrap();
        assert_eq!(kept["registries"][&registry.name]["accounts"][0]["secret"], "secret of alice.test");
    }
}

#[test]
fn several_accounts_are_switched_and_named() {
    let registry = FakeRegistry::start(Some((200, "{}")));
    let home = Home::new();
    let server = registry.name.as_str();
    home.keep(server, &["alice.test", "bob.test"], 0);
    let used = || json_of(&home.run(&["get"], server))["Username"].clone();
    assert_eq!(used(), "alice.test");
    assert!(home.run(&["switch", server], "").status.success());
    assert_eq!(used(), "bob.test");
    let mut named = home.command(&["get"]);
    named.env("ATCR_ACCOUNT", "alice.test");
    assert_eq!(json_of(&finish(named, Some(server)))["Username"], "alice.test");
    assert!(!home.run(&["switch", server, "carol.test"], "").status.success());
    let status = home.run(&["status"], "");
    assert!(text(&status.stdout).contains("* bob.test (device): signed in"), "{status:?}");
    assert!(home.run(&["logout", server, "bob.test"], "").status.success());
    assert_not_found(&home.run(&["get"], server));
    assert!(home.run(&["switch", server, "alice.test"], "").status.success());
    assert_eq!(used(), "alice.test");
    assert!(home.run(&["logout", server, "--all"], "").status.success());
    assert!(!home.run(&["logout", server], "").status.success(), "nobody is left");
}

#[test]
fn an_app_password_is_exchanged_and_not_kept() {
    let home = Home::new();
    let registry = FakeRegistry::start(Some((200, r#"{"token":"t","refresh_token":"refresh-1"}"#)));
    let args = ["login", &registry.name, "--app-password", "--username", "alice.test"];
    let output = home.run(&args, "abcd-efgh-ijkl-mnop\n");
    assert!(output.status.success(), "{output:?}");
    let got = json_of(&home.run(&["get"], &registry.name));
    assert_eq!((&got["Username"], &got["Secret"]), (&json!("<token>"), &json!("refresh-1")));
    assert!(!std::fs::read_to_string(home.kept()).unwrap().contains("abcd-efgh"));

    let registry = FakeRegistry::start(Some((401, r#"{"errors":[{"message":"wrong \u001b[2Jpassword"}]}"#)));
    let args = ["login", &registry.name, "--app-password", "--username", "alice.test"];
    let refused = home.run(&args, "nonsense\n");
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("wrong [2Jpassword"), "no control characters: {refused:?}");
    assert_not_found(&home.run(&["get"], &registry.name));
    assert!(!home.run(&args, "\n").status.success(), "an empty password");
}

#[test]
fn ci_takes_a_token_from_the_environment_for_its_registry_only() {
    let registry = FakeRegistry::start(Some((200, "{}")));
    let get = |server: &str| {
        let mut command = bare(&["get"]);
        command.envs([("ATCR_REGISTRY", registry.name.as_str()), ("ATCR_TOKEN", "t0ken")]);
        finish(command, Some(server))
    };
    let got = json_of(&get(&registry.name));
    assert_eq!((&got["Username"], &got["Secret"]), (&json!("<token>"), &json!("t0ken")));
    assert_not_found(&get("https://index.docker.io/v1/"));
}

#[test]
fn a_kubelet_gets_credentials_or_none_and_no_failure() {
    let registry = FakeRegistry::start(Some((200, "{}")));
    let home = Home::new();
    home.keep(&registry.name, &["alice.test"], 0);
    let ask = |server: &str| {
        let request = json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "kind": "CredentialProviderRequest",
            "image": format!("{server}/alice.test/app:1"),
        });
        json_of(&home.run(&["kubelet"], &request.to_string()))
    };
    let expected =
        json!({ &registry.name: { "username": "alice.test", "password": "secret of alice.test" } });
    assert_eq!(ask(&registry.name)["auth"], expected);
    assert_eq!(ask("other.example")["auth"], json!({}));
}

#[test]
fn configuring_docker_keeps_everything_else_in_the_file() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = Home::new();
    let docker = home.path().join(".docker");
    let path = docker.join("config.json");
    let configure = |args: &[&str]| home.run(&[&["configure-docker"], args].concat(), "");
    let read = || -> Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    assert!(configure(&["registry.example"]).status.success());
    assert_eq!(read(), json!({ "credHelpers": { "registry.example": "atcr" } }));

    let elsewhere = home.path().join("dotfiles.json");
    let other = json!({
        "auths": { "x.example": { "auth": "YTpi" } }, "credsStore": "pass", "unknown": [1, { "a": null }],
        "credHelpers": { "gcr.io": "gcloud" },
    });
    std::fs::write(&elsewhere, other.to_string()).unwrap();
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::remove_file(&path).unwrap();
    symlink(&elsewhere, &path).unwrap();
    assert!(configure(&["https://Registry.example/", "127.0.0.1:5000"]).status.success());
    let mut expected = other.clone();
    expected["credHelpers"]["registry.example"] = json!("atcr");
    expected["credHelpers"]["127.0.0.1:5000"] = json!("atcr");
    assert_eq!(read(), expected);
    assert!(path.is_symlink(), "the link stays");
    assert_eq!(std::fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(configure(&["--remove", "registry.example", "127.0.0.1:5000", "gcr.io"]).status.success());
    assert_eq!(read(), other, "another helper's registry is not touched");

    for damage in ["{", "[]", r#"{"credHelpers": 1}"#] {
        std::fs::write(&path, damage).unwrap();
        assert!(!configure(&["registry.example"]).status.success());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damage, "not made worse");
    }
}

#[test]
fn diagnosis_names_what_is_wrong() {
    let registry = FakeRegistry::start(Some((401, r#"{"errors":[{"message":"no such device"}]}"#)));
    let home = Home::new();
    home.keep(&registry.name, &["alice.test"], 0);
    let output = home.run(&["diagnose"], "");
    assert!(!output.status.success());
    let said = text(&output.stdout);
    for finding in ["not on the PATH", "configure-docker", "no such device", "answers (401"] {
        assert!(said.contains(finding), "{finding}: {said}");
    }
}

#[test]
fn a_keyring_that_is_away_or_never_answers_does_not_stop_a_pull_and_the_file_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let silent = dir.path().join("bus");
    // Takes connections, and says nothing.
    let _listening = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let buses = [Path::new("/nowhere/bus"), &silent, Path::new("/dev/null")]
        .map(|path| format!("unix:path={}", path.display()));
    for bus in buses.iter().map(String::as_str).chain(["nonsense", "unix:", "tcp:host=127.0.0.1,port=1"]) {
        let registry = FakeRegistry::start(Some((200, r#"{"token":"t","refresh_token":"refresh-1"}"#)));
        let home = Home::new();
        let with_bus = |args: &[&str], input: &str| {
            let mut command = home.command(args);
            command.env("DBUS_SESSION_BUS_ADDRESS", bus);
            finish(command, Some(input))
        };
        let args = ["login", &registry.name, "--app-password", "--username", "alice.test"];
        let output = with_bus(&args, "abcd-efgh\n");
        assert!(output.status.success(), "{bus}: {output:?}");
        assert!(text(&output.stderr).contains("the secret is in"), "{bus}: {output:?}");
        assert_eq!(json_of(&with_bus(&["get"], &registry.name))["Secret"], "refresh-1", "{bus}");
        // A secret that went to a keyring, which is away now.
        let kept = std::fs::read_to_string(home.kept()).unwrap();
        let mut kept: Value = serde_json::from_str(&kept).unwrap();
        let account = &mut kept["registries"][&registry.name]["accounts"][0];
        account["secret"] = json!("");
        account["in_keyring"] = json!(true);
        std::fs::write(home.kept(), kept.to_string()).unwrap();
        let output = with_bus(&["get"], &registry.name);
        assert_not_found(&output);
        assert!(text(&output.stderr).contains("ATCR_KEYRING=off"), "{bus}: {output:?}");
        let status = with_bus(&["status"], "");
        assert!(text(&status.stdout).contains("the keyring"), "{bus}: {status:?}");
        assert!(with_bus(&["logout", &registry.name], "").status.success(), "{bus}");
    }
}

#[test]
fn an_update_is_named_and_not_installed() {
    for (answer, said) in [
        ((200, r#"{"version":"99.0.0"}"#), "knows version 99.0.0, which is newer"),
        ((200, r#"{"version":"0.0.1"}"#), "there is nothing to do"),
        ((200, r#"{"version":"\u001b[2Jx"}"#), "names a version that is none"),
        ((404, "<html>"), "does not say which version"),
    ] {
        let registry = FakeRegistry::start(Some(answer));
        let output = Home::new().run(&["update", &registry.name], "");
        assert!(output.status.success() && text(&output.stdout).contains(said), "{said}: {output:?}");
        assert!(!text(&output.stdout).contains('\u{1b}'));
        assert_eq!(
            text(&output.stdout).contains("does not replace itself"),
            answer.1.contains("99"),
            "{output:?}"
        );
    }
    assert!(Home::new().run(&["update"], "").status.success());
}
