use std::num::NonZeroU32;
use std::time::Duration;

use atcr_core::Source;
use atcr_core::blob_store::ByteStream;
use atcr_core::methods::UploadId;
use atcr_core::oci::{Algorithm, Digest, Hasher, RepositoryName};
use atcr_core::syntax::Did;
use data_encoding::BASE64URL_NOPAD;
use futures_util::StreamExt as _;

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
    /// The digest, where it is known.
    pub(crate) digest: Option<Digest>,
    /// How many bytes the uploader may store at the hold.
    pub(crate) allowed: Option<u64>,
}

/// Parts that an uploader asks addresses for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartRequests {
    /// The first.
    pub(crate) first: PartNumber,
    /// How many, from that on.
    pub(crate) count: NonZeroU32,
    /// The bytes of each, where that is known.
    pub(crate) size: Option<u64>,
    /// They come through the hold, which keeps a piece of them.
    pub(crate) in_pieces: bool,
}

/// A part, or a piece of one, that comes through the hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming {
    pub(crate) number: PartNumber,
    /// How many bytes of the part came before, and are kept.
    pub(crate) offset: u64,
    /// The bytes that come now, where that is known.
    pub(crate) size: Option<u64>,
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
        let allowed = self.check_quota_at_start(uploader, new.digest.as_ref(), new.size, new.allowed).await?;
        let id = random_id().map_err(UploadError::Internal)?;
        let session = Session {
            id,
            uploader: uploader.clone(),
            storage_upload: self.storage.begin_upload().await?,
            algorithm: new.algorithm.unwrap_or(Algorithm::Sha256),
            repository: new.repository,
            direct: false,
            allowed,
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

    /// Where the uploader sends parts directly; `None` when they have to go through the hold.
    pub(crate) async fn part_requests(
        &self,
        caller: &Did,
        id: &UploadId,
        parts: PartRequests,
        life: Duration,
        allowed: Option<u64>,
    ) -> Result<Option<Vec<(PartNumber, SignedRequest)>>, UploadError> {
        let mut session = self.open_session(id, Some(caller)).await?;
        if session.allowed.is_some() != allowed.is_some() || session.allowed < allowed {
            self.ledger.allow(id, allowed).await?;
            session.allowed = allowed;
        }
        let most = self.storage.capabilities().max_parts;
        let last = parts.first.saturating_add(parts.count.get() - 1).get().min(most);
        let sizes: Vec<(PartNumber, Option<u64>)> = (parts.first.get()..=last)
            .filter_map(PartNumber::new)
            .map(|number| (number, parts.size))
            .collect();
        self.check_quota_of_parts(&session, &sizes).await?;
        if parts.in_pieces || !self.storage.capabilities().presign {
            self.ledger.touch(id, self.clock.unix()).await?;
            return Ok(None);
        }
        // Before an address exists: from then on only reading back tells what the parts are.
        if !self.ledger.promise(id, &sizes, self.clock.unix()).await? {
            return Err(UploadError::UnknownUpload);
        }
        let mut requests = Vec::with_capacity(sizes.len());
        for (number, _) in sizes {
            match self.storage.presign_part(&session.storage_upload, number, life).await? {
                Some(request) => requests.push((number, request)),
                None => return Ok(None),
            }
        }
        Ok(Some(requests))
    }

    /// Keeps a piece of a part until the part is whole; gives the size that it has now. When this fails nothing of it
    /// counts, and what was there before still does.
    pub(crate) async fn keep_piece(
        &self,
        caller: Option<&Did>,
        id: &UploadId,
        piece: Incoming,
        body: ByteStream,
    ) -> Result<u64, UploadError> {
        let session = self.open_session(id, caller).await?;
        let Incoming { number, offset, .. } = piece;
        let able = self.storage.capabilities();
        let limit = able.part_size.max(able.min_part);
        let rooms = self.rooms(&session, number, offset).await?;
        let room =
            Room::least(rooms.into_iter().chain([Room::Part { left: limit.saturating_sub(offset), limit }]));
        let mut intake = PartIntake::new(body, None, room, self.limits.silence);
        let size = self.tails.keep(id, number, offset, &mut intake).await?;
        if self.ledger.note_piece(id, number, size, self.clock.unix()).await? {
            Ok(size)
        } else {
            self.tails.end(id).await?;
            Err(UploadError::UnknownUpload)
        }
    }

    /// How many bytes may come behind the first `offset` of a part.
    async fn rooms(
        &self,
        session: &Session,
        number: PartNumber,
        offset: u64,
    ) -> Result<Vec<Room>, UploadError> {
        let mut rooms = Vec::with_capacity(2);
        if let Some(limit) = self.limits.max_blob_size {
            let others = self.ledger.size_without(&session.id, number).await?;
            rooms.push(Room::Blob { left: limit.saturating_sub(others).saturating_sub(offset), limit });
        }
        let quota = self.quota_left(session, number, number).await?;
        rooms.extend(quota.map(|(used, allowed)| Room::Quota { used: used.saturating_add(offset), allowed }));
        Ok(rooms)
    }

    /// Takes in a part, of any size, which may be known beforehand. When this fails nothing of it counts, and what was
    /// there before still does.
    pub(crate) async fn put_part(
        &self,
        caller: Option<&Did>,
        id: &UploadId,
        incoming: Incoming,
        body: ByteStream,
    ) -> Result<Part, UploadError> {
        let session = self.open_session(id, caller).await?;
        let Incoming { number, offset, size } = incoming;
        let (size, body) = if offset == 0 {
            (size, body)
        } else {
            let kept = self.tails.read(id, number, offset).await?;
            (size.map(|size| size.saturating_add(offset)), kept.chain(body).boxed())
        };
        let (before, hasher) = match PartNumber::new(number.get() - 1) {
            None => (None, Some(Hasher::new(session.algorithm))),
            Some(before) => match self.ledger.hash_after(id, before).await? {
                Some((etag, hasher)) => (Some(etag), hasher),
                None => (None, None),
            },
        };
        let room = Room::least(self.rooms(&session, number, 0).await?);
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
