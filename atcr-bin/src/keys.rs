//! Secret keys in files.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::Error;

/// Reads a key of `N` bytes, or makes it on the first start: a file that only its owner can read, in hex.
pub fn load_or_create<const N: usize>(path: &Path) -> Result<[u8; N], Error> {
    match File::open(path) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(Error::file(path, "read"))?;
            decode(&text).ok_or_else(|| {
                let message = format!("it does not hold {N} bytes in hex; restore it from a backup, or remove it to make a new key");
                Error::file(path, "read")(std::io::Error::new(std::io::ErrorKind::InvalidData, message))
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path),
        Err(error) => Err(Error::file(path, "read")(error)),
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    data_encoding::HEXLOWER.decode(text.trim().as_bytes()).ok()?.try_into().ok()
}

fn create<const N: usize>(path: &Path) -> Result<[u8; N], Error> {
    let mut key = [0; N];
    getrandom::fill(&mut key)
        .map_err(|e| Error::Start { what: "the random number generator", source: e.to_string().into() })?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::file(folder, "created"))?;
    }
    // Written beside and renamed, so that a crash leaves no half key.
    let beside = path.with_extension("new");
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(data_encoding::HEXLOWER.encode(&key).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    written.map_err(Error::file(path, "written"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/session.key");
        let key: [u8; 32] = load_or_create(&path).unwrap();
        assert_eq!(load_or_create::<32>(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_reported_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session.key");
        std::fs::write(&path, "nonsense").unwrap();
        assert!(load_or_create::<32>(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
    }
}
