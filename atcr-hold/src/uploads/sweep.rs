use atcr_core::methods::UploadId;
use atcr_core::syntax::Did;

use super::ledger::{Session, State};
use super::{UploadError, Uploads};
use crate::storage::Object;

/// How long quarantined bytes are kept for the operator to look at, in seconds.
const QUARANTINE: i64 = 7 * 24 * 3600;

/// Sessions removed between two looks at the list.
const STEP: u32 = 100;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Upload sessions.
    pub sessions: u64,
    /// Uploads in the storage that belonged to no session.
    pub orphans: u64,
    /// Blobs that nobody has any more.
    pub blobs: u64,
    /// Bytes that were a week in quarantine.
    pub quarantined: u64,
}

impl Uploads {
    /// Throws a session of `caller`'s away. One that has been completed is not; its blob stays.
    pub(crate) async fn abort(&self, caller: &Did, id: &UploadId) -> Result<(), UploadError> {
        let session = self.session(id, Some(caller)).await?;
        if matches!(session.state, State::Completed { .. }) {
            return Err(UploadError::UnknownUpload);
        }
        self.throw_away(&session).await
    }

    /// Removes a session with its bytes, unless it has been completed meanwhile.
    pub(super) async fn throw_away(&self, session: &Session) -> Result<(), UploadError> {
        if self.ledger.end(&session.id).await? {
            self.storage.abort_upload(&session.storage_upload).await?;
            self.tails.end(&session.id).await?;
            self.ledger.remove(&session.id).await?;
        }
        Ok(())
    }

    /// Ends all sessions, whenever they were used.
    pub(crate) async fn end_sessions(&self) -> Result<(), UploadError> {
        self.sweep_sessions(i64::MAX).await.map(drop)
    }

    /// Ends the sessions that were not used since `before`, and gives their number.
    async fn sweep_sessions(&self, before: i64) -> Result<u64, UploadError> {
        let mut swept = 0;
        loop {
            let sessions = self.ledger.idle(before, STEP).await?;
            let step = sessions.len();
            for session in sessions {
                match &session.state {
                    State::Completed { .. } => self.ledger.remove(&session.id).await?,
                    // The object is right, and may be in its place already, where nothing finds it but this row.
                    State::Verified { digest, object, size } => {
                        let object = Object { key: object.clone(), size: *size };
                        self.place(&session, digest, object).await?;
                        self.ledger.remove(&session.id).await?;
                    }
                    _ => self.throw_away(&session).await?,
                }
                swept += 1;
            }
            if step < STEP as usize {
                return Ok(swept);
            }
        }
    }

    async fn sweep_quarantine(&self) -> Result<u64, UploadError> {
        let now = self.clock.unix();
        let mut removed = 0;
        for (id, upload, key) in self.ledger.stale_quarantine(now.saturating_sub(QUARANTINE)).await? {
            if upload.0.is_empty() {
                self.storage.delete(&key).await?;
            } else {
                self.storage.abort_upload(&upload).await?;
            }
            self.ledger.emptied(id, now).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes what was not used for as long as a session may lie idle, uploads of the storage that a process that
    /// ended at the wrong moment left without a session, and blobs that nobody has. The index of the layer records
    /// must be up to date.
    pub(crate) async fn sweep(&self) -> Result<Swept, UploadError> {
        let idle = i64::try_from(self.limits.idle.as_secs()).unwrap_or(i64::MAX);
        let before = self.clock.unix().saturating_sub(idle);
        let mut swept = Swept { sessions: self.sweep_sessions(before).await?, ..Swept::default() };
        for open in self.storage.list_uploads().await? {
            if open.started.as_second() < before && !self.ledger.knows(&open.upload).await? {
                self.storage.abort_upload(&open.upload).await?;
                swept.orphans += 1;
            }
        }
        for id in self.tails.older_than(self.limits.idle).await? {
            // Of an upload that a process ended without coming so far.
            if self.ledger.session(&id).await?.is_none() {
                self.tails.end(&id).await?;
            }
        }
        for key in self.ledger.superseded().await? {
            self.storage.delete(&key).await?;
            self.ledger.forget_superseded(&key).await?;
        }
        swept.blobs = self.sweep_blobs().await?;
        swept.quarantined = self.sweep_quarantine().await?;
        Ok(swept)
    }
}
