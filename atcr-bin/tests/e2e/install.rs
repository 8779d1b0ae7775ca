//! The installation script, as a registry serves it and a shell runs it.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Dev, http};

/// Runs a script as `curl … | sh` does, with the commands of one folder and nobody else's settings.
fn shell(script: &str, home: &Path, commands: &Path) -> Output {
    let mut command = Command::new("/bin/sh");
    command.env_clear().env("HOME", home).env("PATH", commands);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_sets_docker_up_for_the_registry_that_serves_it() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(&dir.path().join("dev"));
    let answer = http().get(format!("{}/install.sh", dev.text("appview"))).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    let script = answer.text().await.unwrap();
    let (home, commands) = (dir.path().join("home"), dir.path().join("commands"));
    std::fs::create_dir(&home).unwrap();
    std::fs::create_dir(&commands).unwrap();

    let without = shell(&script, &home, &commands);
    assert_eq!(without.status.code(), Some(1), "{without:?}");
    assert!(String::from_utf8_lossy(&without.stderr).contains("rustup.rs"), "{without:?}");

    let helper = env!("CARGO_BIN_EXE_docker-credential-atcr");
    symlink(helper, commands.join("docker-credential-atcr")).unwrap();
    let cut_off = &script[..script.len() - "main\n".len()];
    assert!(shell(cut_off, &home, &commands).status.success());
    assert!(!home.join(".docker").exists(), "half a script has done something");

    let done = shell(&script, &home, &commands);
    assert!(done.status.success(), "{done:?}");
    let registry = dev.text("registry");
    assert!(String::from_utf8_lossy(&done.stdout).contains(&format!("login {registry}")), "{done:?}");
    let config = std::fs::read(home.join(".docker/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config, json!({ "credHelpers": { registry: "atcr" } }));
}
