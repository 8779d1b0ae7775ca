use std::os::unix::fs::PermissionsExt as _;

use super::registry::{PATIENT, Verdict};
use super::{HelperError, Registry, ServerName, Store, docker_config, login};

/// More than this, and tokens are refused for being too old or too new.
const SKEW: i64 = 10;

/// Looks at everything that a push needs and says what is wrong, and what to do.
pub(super) fn diagnose(only: Option<&ServerName>) -> Result<(), HelperError> {
    let mut report = Report::default();
    let store = Store::of_user()?;
    report.say(private(&store));
    report.say(on_path());
    let kept = match store.load() {
        Ok(kept) => kept,
        Err(error) => {
            report.say(Err(error.to_string()));
            return report.end();
        }
    };
    let servers: Vec<_> = match only {
        Some(server) => vec![server.clone()],
        None => kept.registries.keys().filter_map(|name| ServerName::parse(name).ok()).collect(),
    };
    if servers.is_empty() {
        report.say(Err("nobody is signed in; run: docker-credential-atcr login REGISTRY".to_owned()));
    }
    for server in &servers {
        if docker_config::uses_helper(server) {
            report.say(Ok(format!("{server}: docker asks this helper")));
        } else {
            report.say(Err(format!(
                "{server}: docker does not ask this helper; run: docker-credential-atcr configure-docker {server}"
            )));
        }
        match Registry::new(server, PATIENT).and_then(|registry| Ok(registry.ping()?)) {
            Ok((status, ahead)) => {
                report.say(Ok(format!("{server}: answers ({status})")));
                if let Some(ahead) = ahead.filter(|ahead| ahead.abs() > SKEW) {
                    report.say(Err(format!(
                        "{server}: its clock is {ahead} s ahead of this machine's; set the one that is wrong"
                    )));
                }
            }
            Err(error) => report.say(Err(error.to_string())),
        }
        let Some(account) = kept.at(server).and_then(|accounts| accounts.active()) else {
            report.say(Err(format!(
                "{server}: nobody is signed in; run: docker-credential-atcr login {server}"
            )));
            continue;
        };
        let name = &account.name;
        report.say(match login::state(server, account) {
            Verdict::Taken => Ok(format!("{server}: takes the credentials of {name}")),
            Verdict::Refused(message) => Err(format!(
                "{server}: does not take the credentials of {name} ({message}); run: docker-credential-atcr login {server}"
            )),
            Verdict::Unknown(reason) => Err(format!("{server}: does not say whether it takes {name} ({reason})")),
        });
    }
    report.end()
}

#[derive(Default)]
struct Report {
    problems: usize,
}

impl Report {
    fn say(&mut self, finding: Result<String, String>) {
        match finding {
            Ok(text) => println!("ok       {text}"),
            Err(text) => {
                self.problems += 1;
                println!("problem  {text}");
            }
        }
    }

    fn end(self) -> Result<(), HelperError> {
        match self.problems {
            0 => Ok(()),
            1 => Err(HelperError::Refused("there is 1 problem".to_owned())),
            n => Err(HelperError::Refused(format!("there are {n} problems"))),
        }
    }
}

fn private(store: &Store) -> Result<String, String> {
    let path = store.path();
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => Err(format!(
            "others can read {}; run: chmod 600 {0} && chmod 700 {}",
            path.display(),
            store.folder().display()
        )),
        Ok(_) => Ok(format!("{} is yours alone", path.display())),
        Err(_) => Ok(format!("{} is not there yet", path.display())),
    }
}

fn on_path() -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("docker-credential-atcr"))
        .find(|file| file.is_file());
    match found {
        Some(file) => Ok(format!("{} is on the PATH", file.display())),
        None => Err("docker-credential-atcr is not on the PATH, where docker looks for it".to_owned()),
    }
}
