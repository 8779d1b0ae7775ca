use std::io::Write as _;
use std::path::Path;

use atcr_core::syntax::Handle;
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use crate::Error;

/// What must be the same the next time: ports, which identities are made of, and passwords.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DevState {
    pub(super) plc_port: Option<u16>,
    pub(super) pds_port: Option<u16>,
    pub(super) hold_port: Option<u16>,
    pub(super) passwords: Vec<(Handle, String)>,
}

const FILE: &str = "dev.json";

impl DevState {
    /// What was saved, or a new state with accounts that have passwords but do not exist yet.
    pub(super) fn load(data_dir: &Path) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::file(path, "read")(e.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::fresh(),
            Err(error) => Err(Error::file(path, "read")(error)),
        }
    }

    fn fresh() -> Result<Self, Error> {
        let account = |name: &str| -> Result<(Handle, String), Error> {
            Ok((name.parse().map_err(Error::start("the accounts"))?, password()?))
        };
        let passwords = vec![account("alice.test")?, account("bob.test")?];
        Ok(Self { plc_port: None, pds_port: None, hold_port: None, passwords })
    }

    /// Saves, all or nothing, for the owner's eyes only.
    pub(super) fn save(&self, data_dir: &Path) -> Result<(), Error> {
        let path = data_dir.join(FILE);
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|e| e.error)?;
            Ok(())
        })();
        written.map_err(Error::file(path, "written"))
    }
}

/// A password in the form of an app password: four groups of four.
fn password() -> Result<String, Error> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|e| Error::start("the random number generator")(e.to_string()))?;
    let text = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
    let groups: Vec<&str> = (0..4).map(|n| &text[n * 4..n * 4 + 4]).collect();
    Ok(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = DevState::load(dir.path()).unwrap();
        state.hold_port = Some(5003);
        state.save(dir.path()).unwrap();
        let again = DevState::load(dir.path()).unwrap();
        assert_eq!((again.hold_port, again.passwords), (Some(5003), state.passwords));
    }

    #[test]
    fn a_damaged_state_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(DevState::load(dir.path()).is_err());
    }
}
