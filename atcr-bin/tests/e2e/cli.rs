use std::process::{Command, Output};

use crate::support::Dev;

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).env_clear().output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SERVERS: [&str; 2] = [env!("CARGO_BIN_EXE_atcr-appview"), env!("CARGO_BIN_EXE_atcr-hold")];

#[test]
fn config_init_writes_a_file_once_and_the_server_reads_it() {
    for program in SERVERS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let file = path.to_str().unwrap();
        assert!(run(program, &["config", "init", file]).status.success());
        let again = run(program, &["config", "init", file]);
        assert!(!again.status.success(), "an existing file is not overwritten");
        // It is read, and what is missing is what has no default.
        let served = run(program, &["serve", "--config", file]);
        assert!(stderr(&served).contains("is required"), "{}", stderr(&served));
        let printed = run(program, &["config", "init"]);
        assert_eq!(printed.stdout, std::fs::read(&path).unwrap());
    }
}

#[test]
fn a_misspelt_setting_is_named_with_the_right_one() {
    for program in SERVERS {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, "server:\n  adr: ':1'\n").unwrap();
        let served = run(program, &["serve", "--config", path.to_str().unwrap()]);
        assert!(!served.status.success());
        assert!(stderr(&served).contains("did you mean server.addr?"), "{}", stderr(&served));
    }
}

#[test]
fn a_data_folder_is_used_by_one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let _dev = Dev::start(dir.path());
    let second =
        run(env!("CARGO_BIN_EXE_atcr"), &["dev", "--port", "0", "--data-dir", dir.path().to_str().unwrap()]);
    assert!(!second.status.success());
    assert!(stderr(&second).contains("in use by another process"), "{}", stderr(&second));
}

#[test]
fn every_command_explains_itself() {
    for program in [env!("CARGO_BIN_EXE_atcr"), SERVERS[0], SERVERS[1]] {
        let help = run(program, &["--help"]);
        assert!(help.status.success() && !help.stdout.is_empty());
        assert!(run(program, &["--version"]).status.success());
    }
    let help = run(env!("CARGO_BIN_EXE_docker-credential-atcr"), &["--help"]);
    for command in
        ["login", "logout", "status", "switch", "configure-docker", "diagnose", "kubelet", "get", "store"]
    {
        assert!(String::from_utf8_lossy(&help.stdout).contains(command), "{command}");
    }
}
