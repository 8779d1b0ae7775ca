use std::path::Path;

use super::registry::PATIENT;
use super::{HelperError, Registry, ServerName, Store};

/// This program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Says whether a registry knows a newer version of this program, and how to get it. It is not installed by itself: there is no
/// signature by which it would know what it installs.
pub(super) fn update(only: Option<&ServerName>) -> Result<(), HelperError> {
    let servers = if let Some(server) = only {
        vec![server.clone()]
    } else {
        let kept = Store::of_user()?.load()?;
        let atcr = kept.registries.iter().filter(|(_, accounts)| accounts.is_atcr());
        atcr.map(|(name, _)| ServerName::parse(name)).collect::<Result<_, _>>()?
    };
    println!("This is docker-credential-atcr {VERSION}.");
    if servers.is_empty() {
        println!("Nobody is signed in. To ask a registry, run: docker-credential-atcr update REGISTRY");
    }
    let mut newer = false;
    for server in &servers {
        let known = Registry::new(server, PATIENT)?.helper_version()?;
        newer |= match (&known, known.as_deref().and_then(numbers), numbers(VERSION)) {
            (None, ..) => {
                println!("{server} does not say which version it knows.");
                false
            }
            (Some(known), Some(theirs), Some(ours)) if theirs > ours => {
                println!("{server} knows version {known}, which is newer.");
                true
            }
            (Some(known), Some(_), _) => {
                println!("{server} knows version {known}: there is nothing to do.");
                false
            }
            (Some(_), None, _) => {
                println!("{server} names a version that is none.");
                false
            }
        };
    }
    if newer {
        let program = std::env::current_exe().unwrap_or_default();
        println!("To update, {}. This program does not replace itself.", advice(&program));
    }
    Ok(())
}

/// The numbers of a version, without what follows them (`1.2.3-rc.1`).
fn numbers(version: &str) -> Option<[u64; 3]> {
    let numbers = version.split(['-', '+']).next()?.split('.').map(|number| number.parse().ok());
    numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// What to do where a program lies.
fn advice(program: &Path) -> String {
    let path = program.to_string_lossy();
    if path.contains("/.cargo/bin/") {
        "build it anew in the way that it was built: cargo install --locked --path atcr-bin".to_owned()
    } else if path.starts_with("/nix/store/") || path.contains("/Cellar/") || path.starts_with("/usr/bin/") {
        format!("use the package manager that has installed {path}")
    } else {
        format!("put the new version in the place of {path}, from where you got this one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("0.10.0") > numbers("0.9.9") && numbers("1.0.0-rc.1") == numbers("1.0.0"));
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "\u{1b}[2J"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
        assert!(numbers(VERSION).is_some());
        assert!(advice(Path::new("/home/a/.cargo/bin/docker-credential-atcr")).contains("cargo install"));
        assert!(advice(Path::new("/usr/bin/docker-credential-atcr")).contains("package manager"));
        assert!(advice(Path::new("/opt/docker-credential-atcr")).contains("/opt/docker-credential-atcr"));
    }
}
