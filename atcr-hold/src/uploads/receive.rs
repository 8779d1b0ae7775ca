use std::time::Duration;

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::methods::UploadId;
use atcr_core::oci::{Algorithm, Hasher, RepositoryName};
use atcr_core::syntax::Did;
use data_encoding::BASE64URL_NOPAD;

use super::body::{PartIntake, Room};
use super::ledger::{Session, State};
use super::{UploadError, Uploads};
use crate::storage::{Part, PartNumber, SignedRequest};

/// What is known when an upload begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewUpload {
    /// The algorithm of the final digest.
    pub(crate) algorithm: Option<Algorithm>,
    /// The size of the blob in bytes.
    pub(crate) size: Option<u64>,
    /// The uploader's repository that it is for.
    pub(crate) repository: Option<RepositoryName>,
}

/// 192 random bits, so that it cannot be guessed.
fn random_id() -> Result<UploadId, Source> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(BASE64URL_NOPAD.encode(&bytes).parse()?)
}

impl Uploads {
    /// Begins a session.
    pub(crate) async fn initiate(&self, uploader: &Did, new: NewUpload) -> Result<UploadId, UploadError> {
        if let Some(limit) = self.limits.max_blob_size
            && new.size.is_some_and(|size| size > limit)
        {
            return Err(UploadError::TooLarge { limit });
        }
        let id = random_id().map_err(UploadError::Internal)?;
        let session = Session {
            id,
            uploader: uploader.clone(),
            storage_upload: self.storage.begin_upload().await?,
            algorithm: new.algorithm.unwrap_or(Algorithm::Sha256),
            repository: new.repository,
            state: State::Open,
        };
        self.ledger.insert(&session, self.clock.unix()).await?;
        Ok(session.id)
    }

    /// The session, if it is `caller`'s. `None`: whoever shows an address that was signed for the uploader.
    pub(super) async fn session(&self, id: &UploadId, caller: Option<&Did>) -> Result<Session, UploadError> {
        let session = self.ledger.session(id).await?.ok_or(UploadError::UnknownUpload)?;
        if caller.is_some_and(|caller| *caller != session.uploader) || session.state == State::Ending {
            return Err(UploadError::UnknownUpload);
        }
        Ok(session)
    }

    async fn open_session(&self, id: &UploadId, caller: Option<&Did>) -> Result<Session, UploadError> {
        let session = self.session(id, caller).await?;
        match session.state {
            State::Open => Ok(session),
            State::Completing { digest } | State::Verified { digest, .. } => {
                Err(UploadError::OtherCompletion(digest))
            }
            State::Completed { .. } | State::Ending => Err(UploadError::UnknownUpload),
        }
    }

    /// Refuses a part number that the storage does not take.
    pub(crate) fn check_number(&self, number: u64) -> Result<PartNumber, UploadError> {
        let most = self.storage.capabilities().max_parts;
        let known = u32::try_from(number).ok().filter(|number| *number <= most).and_then(PartNumber::new);
        known.ok_or(UploadError::PartNumber { number, most })
    }

    /// Where the uploader sends a part directly; `None` when it has to go through the hold.
    pub(crate) async fn part_request(
        &self,
        caller: &Did,
        id: &UploadId,
        number: PartNumber,
        life: Duration,
    ) -> Result<Option<SignedRequest>, UploadError> {
        let session = self.open_session(id, Some(caller)).await?;
        self.ledger.touch(id, self.clock.unix()).await?;
        Ok(self.storage.presign_part(&session.storage_upload, number, life).await?)
    }

    /// Takes in a part, of any size, which may be known beforehand. When this fails nothing of it counts, and what was there before still does.
    pub(crate) async fn put_part(
        &self,
        caller: Option<&Did>,
        id: &UploadId,
        number: PartNumber,
        size: Option<u64>,
        body: ByteStream,
    ) -> Result<Part, UploadError> {
        let session = self.open_session(id, caller).await?;
        let (before, hasher) = match PartNumber::new(number.get() - 1) {
            None => (None, Some(Hasher::new(session.algorithm))),
            Some(before) => match self.ledger.hash_after(id, before).await? {
                Some((etag, hasher)) => (Some(etag), hasher),
                None => (None, None),
            },
        };
        let room = match self.limits.max_blob_size {
            Some(limit) => {
                let others = self.ledger.size_without(id, number).await?;
                Some(Room { left: limit.saturating_sub(others), limit })
            }
            None => None,
        };
        let mut intake = PartIntake::new(body, hasher, room, self.limits.silence);
        let part = {
            let mut putting = self.storage.put_part(&session.storage_upload, number, size, &mut intake);
            loop {
                tokio::select! {
                    part = &mut putting => break part?,
                    // A part may take longer than a session may lie idle.
                    () = tokio::time::sleep(self.limits.idle / 4) => {
                        self.ledger.touch(id, self.clock.unix()).await?;
                    }
                }
            }
        };
        let hasher = intake.into_hasher();
        let now = self.clock.unix();
        if self.ledger.record_part(id, &part, before.as_deref(), hasher.as_ref(), now).await? {
            Ok(part)
        } else {
            Err(UploadError::UnknownUpload)
        }
    }
}
