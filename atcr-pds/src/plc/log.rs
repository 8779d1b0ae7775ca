use atcr_core::syntax::{Datetime, Did};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Operation, PlcError, PlcState};

/// How long a mightier rotation key may undo what a weaker one signed: 72 hours, inclusive.
pub const RECOVERY_WINDOW: SignedDuration = SignedDuration::from_hours(72);

/// One line of an audit log: an operation as the directory recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// Whose log.
    pub did: Did,
    /// The operation.
    pub operation: Operation,
    /// Its CID.
    pub cid: String,
    /// Undone by a later fork.
    pub nullified: bool,
    /// When the directory took it.
    pub created_at: Datetime,
}

/// Whether `proposed` may follow at time `now`. `active` are the log's entries that are not nullified, oldest first.
///
/// Returns how many of them stay in effect; the rest are nullified by this operation.
pub fn check_next(
    did: &Did,
    active: &[&LogEntry],
    proposed: &Operation,
    now: Timestamp,
) -> Result<usize, PlcError> {
    if active.is_empty() {
        return check_genesis(did, proposed).map(|()| 0);
    }
    let prev = proposed.prev().ok_or(PlcError::Misordered)?;
    let at = active.iter().position(|entry| entry.cid == prev).ok_or(PlcError::Misordered)?;
    let keys = active[at].operation.state().ok_or(PlcError::Misordered)?.rotation_keys;
    let kept = at + 1;
    match active.get(kept) {
        None => {
            proposed.signer(&keys)?;
        }
        Some(disputed) => {
            let weaker = disputed.operation.signer(&keys)?;
            proposed.signer(&keys[..weaker])?;
            if now.duration_since(disputed.created_at.timestamp()) > RECOVERY_WINDOW {
                return Err(PlcError::LateRecovery);
            }
        }
    }
    Ok(kept)
}

fn check_genesis(did: &Did, proposed: &Operation) -> Result<(), PlcError> {
    let state = proposed.state().ok_or(PlcError::Misordered)?;
    if proposed.prev().is_some() {
        return Err(PlcError::Misordered);
    }
    proposed.signer(&state.rotation_keys)?;
    let expected = proposed.did();
    if expected == *did { Ok(()) } else { Err(PlcError::GenesisHash { expected }) }
}

/// Checks a whole audit log (`/log/audit`) from scratch: order, hashes, signatures, recovery windows, and that the
/// `nullified` flags are what the operations make them. Returns the state in effect, `None` after a tombstone.
pub fn validate_log(did: &Did, log: &[LogEntry]) -> Result<Option<PlcState>, PlcError> {
    let contradiction = |entry: &LogEntry, what| PlcError::Contradiction { cid: entry.cid.clone(), what };
    let mut active: Vec<&LogEntry> = Vec::new();
    let mut last_time = None;
    for entry in log {
        if entry.did != *did {
            return Err(contradiction(entry, "it belongs to another DID"));
        }
        if entry.cid != entry.operation.cid().to_string() {
            return Err(contradiction(entry, "the CID is not the operation's"));
        }
        let now = entry.created_at.timestamp();
        if last_time.is_some_and(|last| now < last) {
            return Err(contradiction(entry, "it was recorded before the entry in front of it"));
        }
        last_time = Some(now);
        let kept = check_next(did, &active, &entry.operation, now)?;
        active.truncate(kept);
        active.push(entry);
    }
    for entry in log {
        if entry.nullified == active.iter().any(|kept| std::ptr::eq(*kept, entry)) {
            return Err(contradiction(entry, "the nullified flag is wrong"));
        }
    }
    Ok(active.last().ok_or(PlcError::Misordered)?.operation.state())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atcr_core::crypto::{Curve, SigningKey};
    use std::path::PathBuf;

    fn vectors(folder: &str) -> Vec<(String, Vec<u8>)> {
        let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/did-plc").join(folder);
        let files: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|file| file.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(path).unwrap()))
            .collect();
        assert_eq!(files.len(), 10, "{folder}");
        files
    }

    #[test]
    fn takes_every_valid_published_log() {
        for (name, json) in vectors("valid") {
            let log: Vec<LogEntry> = serde_json::from_slice(&json).unwrap();
            let state = validate_log(&log[0].did, &log).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(state.is_none(), name == "log_tombstone.json", "{name}");
        }
    }

    #[test]
    fn refuses_every_invalid_published_log_for_its_reason() {
        for (name, json) in vectors("invalid") {
            let log: Vec<LogEntry> = serde_json::from_slice(&json).unwrap();
            let error = validate_log(&log[0].did, &log).expect_err(&name);
            let fits = match name.as_str() {
                "log_invalid_update_nullified.json" | "log_invalid_update_tombstoned.json" => {
                    matches!(error, PlcError::Misordered)
                }
                "log_invalid_nullification_too_slow.json" => matches!(error, PlcError::LateRecovery),
                _ => matches!(error, PlcError::InvalidSignature),
            };
            assert!(fits, "{name}: {error}");
        }
    }

    #[test]
    fn the_reference_servers_log_is_valid_and_gives_its_did() {
        let json = include_bytes!("../../tests/vectors/reference-pds-0.5.35/plc-audit-log.json");
        let log: Vec<LogEntry> = serde_json::from_slice(json).unwrap();
        assert_eq!(log[0].operation.did(), log[0].did);
        validate_log(&log[0].did, &log).unwrap().unwrap();
    }

    #[test]
    fn a_flag_or_cid_that_does_not_follow_is_noticed() {
        let key = SigningKey::generate(Curve::K256).unwrap();
        let state = PlcState { rotation_keys: vec![key.public_key().to_did_key()], ..PlcState::default() };
        let (did, operation) = state.genesis(&key);
        let cid = operation.cid().to_string();
        let created_at = "2026-01-01T00:00:00.000Z".parse().unwrap();
        let entry = LogEntry { did: did.clone(), operation, cid, nullified: false, created_at };
        validate_log(&did, std::slice::from_ref(&entry)).unwrap();
        let other = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        let lies = [
            LogEntry { nullified: true, ..entry.clone() },
            LogEntry { cid: entry.cid.replace("bafy", "bafz"), ..entry.clone() },
            LogEntry { did: other, ..entry.clone() },
        ];
        for lie in lies {
            assert!(matches!(validate_log(&did, &[lie]), Err(PlcError::Contradiction { .. })));
        }
        assert!(matches!(validate_log(&did, &[]), Err(PlcError::Misordered)));
    }

    #[test]
    fn an_operation_with_an_unsigned_extra_field_is_not_read() {
        let json = r#"{"type":"plc_tombstone","prev":"bafy","sig":"x","extra":1}"#;
        assert!(serde_json::from_str::<Operation>(json).is_err());
    }
}
