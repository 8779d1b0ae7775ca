//! The upload session as a value: the last segment of an upload's `Location`.
//!
//! Everything that is known of an upload travels with the client, so that any replica can serve its next step. The
//! token is opaque and authenticated; principal and repository go into the authentication but not into the token, so
//! that it is refused anywhere else, and short.
//!
//! Layout: the UUID as text, which the specification wants to see there, a dot, and in base64url: version (1 byte),
//! expiry (5 bytes, seconds since 1970), offset (LEB128), the store's state (the rest), HMAC-SHA256 cut to 16 bytes.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::time::Duration;

use atcr_core::blob_store::UploadState;
use atcr_core::{Access, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

const VERSION: u8 = 1;
const EXPIRY_LEN: usize = 5;
const TAG_LEN: usize = 16;
/// A store's state has at most 4 KiB (contract of `UploadState`), so no token of ours is longer.
const MAX_TOKEN_LEN: usize = 6 << 10;

/// The key that upload sessions are authenticated with. Whoever has it can forge sessions, but only for a principal
/// and a repository that they may push as anyway.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key with these bytes, which must come from a good source of randomness.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new key from the operating system's randomness.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// The key in this file, which is made with a random key, readable by its owner alone, when it is not there. So
    /// uploads survive a restart; the replicas of a registry need the same file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let read = || {
            let bytes = fs::read(path)?;
            let wrong =
                || io::Error::new(ErrorKind::InvalidData, format!("{} is not 32 bytes", path.display()));
            bytes.try_into().map(Self).map_err(|_| wrong())
        };
        match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            read => return read,
        }
        let key = Self::random();
        // Whole or not at all: another replica may be doing the same.
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", Uuid::new_v4()));
        let mut options = fs::File::options();
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.create_new(true).write(true).open(&new)?;
        file.write_all(&key.0)?;
        file.sync_all()?;
        let placed = fs::hard_link(&new, path);
        fs::remove_file(&new)?;
        match placed {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => read(),
            Err(error) => Err(error),
        }
    }

    fn mac(&self, access: &Access, id: Uuid, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"atcr upload session\0");
        // A DID is never empty, so the empty text is nobody; neither text can contain the zero byte.
        mac.update(access.principal.did().map_or("", |did| did.as_str()).as_bytes());
        mac.update(b"\0");
        mac.update(access.repository.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(id.as_bytes());
        mac.update(payload);
        mac
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

/// An upload between two requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// What the client sees as `Docker-Upload-UUID`; the same through the whole upload.
    pub(crate) id: Uuid,
    /// Where the store stands.
    pub(crate) upload: UploadState,
}

/// Turns sessions into tokens and back.
pub(crate) struct SessionCodec {
    key: SessionKey,
    previous: Option<SessionKey>,
    idle: Duration,
}

impl SessionCodec {
    pub(crate) fn new(key: SessionKey, previous: Option<SessionKey>, idle: Duration) -> Self {
        Self { key, previous, idle }
    }

    /// The token of a session, good for this caller at this repository until the idle time is over.
    pub(crate) fn seal(&self, session: &Session, access: &Access, now: u64) -> String {
        let state = &session.upload.state;
        let mut token = Vec::with_capacity(1 + EXPIRY_LEN + 10 + state.len() + TAG_LEN);
        token.push(VERSION);
        let expiry = now.saturating_add(self.idle.as_secs()).to_be_bytes();
        token.extend_from_slice(&expiry[expiry.len() - EXPIRY_LEN..]);
        write_varint(&mut token, session.upload.offset);
        token.extend_from_slice(state);
        let tag = self.key.mac(access, session.id, &token).finalize().into_bytes();
        token.extend_from_slice(&tag[..TAG_LEN]);
        format!("{}.{}", session.id, URL_SAFE_NO_PAD.encode(token))
    }

    /// The session of a token. Everything that is wrong with it is the same error: to the client there is no such
    /// upload.
    pub(crate) fn open(&self, token: &str, access: &Access, now: u64) -> Result<Session, StoreError> {
        self.read(token, access, now).ok_or(StoreError::UploadUnknown)
    }

    fn read(&self, token: &str, access: &Access, now: u64) -> Option<Session> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let (id, token) = token.split_once('.')?;
        let id: Uuid = id.parse().ok()?;
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (payload, tag) = token.split_last_chunk::<TAG_LEN>()?;
        let genuine = |key: &SessionKey| key.mac(access, id, payload).verify_truncated_left(tag).is_ok();
        if !genuine(&self.key) && !self.previous.as_ref().is_some_and(genuine) {
            return None;
        }
        let (&version, rest) = payload.split_first()?;
        let (expiry, mut rest) = rest.split_first_chunk::<EXPIRY_LEN>()?;
        let expiry = expiry.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if version != VERSION || expiry <= now {
            return None;
        }
        let offset = read_varint(&mut rest)?;
        let upload = UploadState { offset, state: Bytes::copy_from_slice(rest) };
        Some(Session { id, upload })
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits.checked_shl(shift)? >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use atcr_core::{Account, Principal, Proof};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const IDLE: u64 = 3600;

    fn codec(key: u8, previous: Option<u8>) -> SessionCodec {
        let key_of = |byte| SessionKey::from_bytes([byte; 32]);
        SessionCodec::new(key_of(key), previous.map(key_of), Duration::from_secs(IDLE))
    }

    fn access(did: &str, repository: &str) -> Access {
        let principal = if did.is_empty() {
            Principal::Anonymous
        } else {
            let did = did.parse().unwrap();
            Principal::Account(Account { did, handle: None, proof: Proof::Trusted })
        };
        Access::new(principal, repository.parse().unwrap())
    }

    fn session(offset: u64, state: &[u8]) -> Session {
        Session { id: Uuid::new_v4(), upload: UploadState { offset, state: Bytes::copy_from_slice(state) } }
    }

    #[test]
    fn is_refused_for_anybody_and_anywhere_else() {
        let codec = codec(1, None);
        let alice = access("did:plc:alice", "alice.test/app");
        let token = codec.seal(&session(7, b"state"), &alice, NOW);
        assert!(codec.open(&token, &alice, NOW).is_ok());
        for other in [
            access("did:plc:bob", "alice.test/app"),
            access("", "alice.test/app"),
            access("did:plc:alice", "alice.test/app2"),
            access("did:plc:alice", "alice.test/ap"),
        ] {
            assert!(codec.open(&token, &other, NOW).is_err(), "{other:?}");
        }
    }

    #[test]
    fn ends_when_it_was_idle_too_long() {
        let (codec, alice) = (codec(1, None), access("did:plc:alice", "a/b"));
        let token = codec.seal(&session(0, b""), &alice, NOW);
        assert!(codec.open(&token, &alice, NOW + IDLE - 1).is_ok());
        assert!(codec.open(&token, &alice, NOW + IDLE).is_err());
    }

    #[test]
    fn lives_through_one_rotation_of_the_key_and_not_through_two() {
        let alice = access("did:plc:alice", "a/b");
        let token = codec(1, None).seal(&session(0, b""), &alice, NOW);
        assert!(codec(2, Some(1)).open(&token, &alice, NOW).is_ok());
        assert!(codec(3, Some(2)).open(&token, &alice, NOW).is_err());
    }

    #[test]
    fn is_short() {
        let alice = access("did:plc:alice", "a/b");
        assert!(codec(1, None).seal(&session(1 << 30, &[0; 200]), &alice, NOW).len() < 350);
    }

    #[test]
    fn a_key_in_a_file_is_made_once_and_read_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let open = || SessionKey::open(&path).unwrap().0;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "one key for all");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert_eq!(SessionKey::open(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    }

    #[test]
    fn the_key_is_not_printed() {
        assert_eq!(format!("{:?}", SessionKey::from_bytes([7; 32])), "SessionKey(…)");
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened(offset: u64, state in prop::collection::vec(any::<u8>(), 0..4096)) {
            let (codec, alice) = (codec(1, None), access("did:plc:alice", "a/b"));
            let session = session(offset, &state);
            let token = codec.seal(&session, &alice, NOW);
            prop_assert_eq!(codec.open(&token, &alice, NOW).unwrap(), session);
        }

        #[test]
        fn an_altered_token_is_refused(state in prop::collection::vec(any::<u8>(), 0..40), at: usize, bit in 0..8) {
            let (codec, alice) = (codec(1, None), access("", "a/b"));
            let token = codec.seal(&session(300, &state), &alice, NOW);
            let (id, rest) = token.split_once('.').unwrap();
            let mut bytes = id.parse::<Uuid>().unwrap().into_bytes().to_vec();
            bytes.extend(URL_SAFE_NO_PAD.decode(rest).unwrap());
            let at = at % bytes.len();
            bytes[at] ^= 1_u8 << bit;
            let (id, rest) = bytes.split_first_chunk::<16>().unwrap();
            let altered = format!("{}.{}", Uuid::from_bytes(*id), URL_SAFE_NO_PAD.encode(rest));
            prop_assert!(codec.open(&altered, &alice, NOW).is_err());
        }

        #[test]
        fn any_text_is_refused_without_harm(text in ".{0,200}") {
            prop_assert!(codec(1, None).open(&text, &access("", "a/b"), NOW).is_err());
        }
    }
}
