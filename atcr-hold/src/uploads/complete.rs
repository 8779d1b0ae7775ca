use atcr_core::methods::UploadId;
use atcr_core::oci::{Digest, Hasher};
use atcr_core::syntax::Did;

use super::ledger::{Place, Session, State};
use super::{Blob, UploadError, Uploads, Verify};
use crate::storage::{Object, ObjectKey, Part, PartNumber, StorageError, bare};

impl Uploads {
    /// Makes the parts of a session the blob `digest`: all that were acknowledged when `parts` is empty, else those,
    /// which must be 1, 2, 3 and so on in any order. It answers when the blob is durable.
    ///
    /// `allowed` is how many bytes the caller may store at the hold.
    ///
    /// Parts are named by number and ETag. For a part that came through the hold the number is enough: what counts
    /// is what was acknowledged last, and the digest decides whether that is right.
    ///
    /// Doing it again after a success succeeds; after a failure other than a wrong digest it goes on.
    pub(crate) async fn complete(
        &self,
        caller: &Did,
        id: &UploadId,
        digest: &Digest,
        parts: &[(PartNumber, String)],
        allowed: Option<u64>,
    ) -> Result<Blob, UploadError> {
        let session = self.session(id, Some(caller)).await?;
        if let State::Completed { digest: completed, size } = session.state {
            if completed == *digest
                && let Some(found) = self.ledger.quarantined_upload(id).await?
            {
                return Err(UploadError::quarantined(&found));
            }
            return if completed == *digest {
                Ok(Blob { digest: completed, size })
            } else {
                Err(UploadError::OtherCompletion(completed))
            };
        }
        let named = self.named(&session, parts).await?;
        let count = count(&named)?;
        let fixed = self.ledger.begin_completion(id, digest, count, self.clock.unix()).await?;
        // From here on no part can change.
        let session = self.session(id, Some(caller)).await?;
        let session = Session { allowed, ..session };
        match &session.state {
            State::Completed { digest: completed, size } if completed == digest => {
                Ok(Blob { digest: *digest, size: *size })
            }
            State::Verified { object, size, .. } if fixed => {
                let object = Object { key: object.clone(), size: *size };
                self.place(&session, digest, object).await
            }
            State::Completing { .. } if fixed => match self.join(&session, digest, count, &named).await {
                // Another completion of this session found the blob there, and threw these bytes away.
                Err(UploadError::UnknownUpload) => match self.find(digest).await? {
                    Some(blob) => self.finish(&session, digest, Place::Present, blob.size).await,
                    None => Err(UploadError::UnknownUpload),
                },
                Err(error) => Err(error),
                Ok(Joined::Right(object)) => match self.ledger.verified(&session, digest, &object).await {
                    Ok(true) => self.place(&session, digest, object).await,
                    Ok(false) => self.ended(&session, digest).await,
                    Err(error) => self.refuse(&session, error).await,
                },
                Ok(Joined::Unread(object)) => {
                    let blob = self.finish(&session, digest, Place::Pending(&object), object.size).await?;
                    self.added.notify_one();
                    Ok(blob)
                }
                Ok(Joined::Present(blob)) => self.finish(&session, digest, Place::Present, blob.size).await,
            },
            State::Completing { digest }
            | State::Verified { digest, .. }
            | State::Completed { digest, .. } => Err(UploadError::OtherCompletion(*digest)),
            State::Open | State::Ending => Err(UploadError::UnknownUpload),
        }
    }

    /// Gives an object of the right digest its place.
    pub(super) async fn place(
        &self,
        session: &Session,
        digest: &Digest,
        object: Object,
    ) -> Result<Blob, UploadError> {
        if self.find(digest).await?.is_some() {
            self.storage.abort_upload(&session.storage_upload).await?;
            return self.finish(session, digest, Place::Present, object.size).await;
        }
        let key = self.storage.relocate(&object.key, &ObjectKey::of_blob(digest)).await?;
        let trusted = session.direct && self.verification.when == Verify::Trust;
        let place = if trusted { Place::Trusted(&key) } else { Place::Verified(&key) };
        self.finish(session, digest, place, object.size).await
    }

    async fn finish(
        &self,
        session: &Session,
        digest: &Digest,
        place: Place<'_>,
        size: u64,
    ) -> Result<Blob, UploadError> {
        let completed = self.ledger.complete(session, digest, place, size, self.clock.unix()).await;
        self.places.forget(digest);
        if let Ok(true) = completed
            && let Err(error) = self.tails.end(&session.id).await
        {
            tracing::warn!(%error, "what was kept of an upload that has ended is left to the sweep");
        }
        match completed {
            Ok(true) => Ok(Blob { digest: *digest, size }),
            Ok(false) => self.ended(session, digest).await,
            Err(error) => self.refuse(session, error).await,
        }
    }

    /// Ends a session that failed for want of room, since there will be none for it.
    async fn refuse<T>(&self, session: &Session, error: UploadError) -> Result<T, UploadError> {
        if matches!(error, UploadError::QuotaExceeded { .. }) {
            self.throw_away(session).await?;
        }
        Err(error)
    }

    /// The session has ended under this request: another one for the same completion was faster, or it was aborted.
    async fn ended(&self, session: &Session, digest: &Digest) -> Result<Blob, UploadError> {
        match self.ledger.session(&session.id).await?.map(|session| session.state) {
            Some(State::Completed { digest: completed, size }) if completed == *digest => {
                Ok(Blob { digest: completed, size })
            }
            _ => Err(UploadError::UnknownUpload),
        }
    }

    /// The parts that are to become the blob, by number: those that the uploader names, else all that there are. Of
    /// each what the hold took in, where it did; else what the uploader says, where that has an ETag by which the
    /// storage knows whether it is true; else what the storage has.
    async fn named(
        &self,
        session: &Session,
        named: &[(PartNumber, String)],
    ) -> Result<Vec<Part>, UploadError> {
        let recorded = self.ledger.parts(&session.id).await?;
        let mut listed = Vec::new();
        if session.direct && (named.is_empty() || named.iter().any(|(_, etag)| bare(etag.trim()).is_empty()))
        {
            listed = match self.storage.list_parts(&session.storage_upload).await {
                // They were joined before, and the answer was lost.
                Err(StorageError::UploadUnknown(_)) if session.state != State::Open => listed,
                listed => listed?,
            };
        }
        if named.is_empty() {
            return Ok(if session.direct && recorded.is_empty() { listed } else { recorded });
        }
        let of = |parts: &[Part], number| {
            parts.binary_search_by_key(&number, |part| part.number).ok().map(|at| parts[at].clone())
        };
        let mut parts = Vec::with_capacity(named.len());
        for (number, etag) in named {
            let (number, etag) = (*number, bare(etag.trim()));
            let claimed = Part { number, size: 0, etag: etag.to_owned() };
            parts.push(match of(&recorded, number) {
                // It was sent again, to the storage.
                Some(part) if session.direct && !etag.is_empty() && part.etag != etag => claimed,
                Some(part) => part,
                None if session.direct && !etag.is_empty() => claimed,
                None => of(&listed, number).ok_or(UploadError::MissingPart(number))?,
            });
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    /// Joins the parts. When they can be known not to be `digest`, the session ends and its bytes are gone.
    async fn join(
        &self,
        session: &Session,
        digest: &Digest,
        count: u32,
        parts: &[Part],
    ) -> Result<Joined, UploadError> {
        let expected: u64 = parts.iter().map(|part| part.size).sum();
        self.check_size(session, digest, expected).await?;
        // Once somebody can send parts past the hold, what it hashed is not what is there: two contents can have one
        // ETag, which is an MD5.
        let known = match count {
            _ if session.direct => None,
            0 => Some((0, Hasher::new(digest.algorithm()))),
            _ => self.ledger.last_hash(&session.id, count).await?,
        };
        let known = known.filter(|(_, hasher)| hasher.algorithm() == digest.algorithm());
        let whole = known.as_ref().filter(|(number, _)| *number == count);
        let whole = whole.map(|(_, hasher)| hasher.clone().finish());
        if let Some(actual) = whole
            && actual != *digest
        {
            return self.discard(session, digest, actual).await;
        }
        // Bytes that the hold did not see are not compared with what it has: they are gone, and what it has is right.
        if (whole.is_some() || session.direct)
            && let Some(blob) = self.find(digest).await?
        {
            self.storage.abort_upload(&session.storage_upload).await?;
            return Ok(Joined::Present(blob));
        }
        let object = match self.storage.complete_upload(&session.storage_upload, parts).await {
            Ok(object) => object,
            Err(error) => {
                if matches!(error, StorageError::PartUnknown { .. } | StorageError::PartSize { .. }) {
                    self.ledger.reopen(&session.id).await?;
                }
                return Err(error.into());
            }
        };
        let as_received = !session.direct && object.size == expected;
        if whole.is_some() && as_received {
            return Ok(Joined::Right(object));
        }
        self.check_size(session, digest, object.size).await?;
        match self.verification.when {
            Verify::Background if session.direct => return Ok(Joined::Unread(object)),
            Verify::Trust if session.direct => return Ok(Joined::Right(object)),
            _ => {}
        }
        let (start, hasher) = match known.filter(|_| as_received) {
            Some((number, hasher)) => {
                let hashed = parts.iter().take_while(|part| part.number.get() <= number);
                (hashed.map(|part| part.size).sum(), hasher)
            }
            None => (0, Hasher::new(digest.algorithm())),
        };
        let actual = self.hash(&object, start, hasher, None).await?;
        if actual == *digest {
            Ok(Joined::Right(object))
        } else {
            self.discard(session, digest, actual).await
        }
    }

    /// Refuses a blob for which there is no room.
    async fn check_size(&self, session: &Session, digest: &Digest, size: u64) -> Result<(), UploadError> {
        if let Some(limit) = self.limits.max_blob_size
            && size > limit
        {
            self.throw_away(session).await?;
            return Err(UploadError::TooLarge { limit });
        }
        match self.check_quota(session, digest, size).await {
            Ok(()) => Ok(()),
            Err(error) => self.refuse(session, error).await,
        }
    }

    async fn discard(
        &self,
        session: &Session,
        expected: &Digest,
        actual: Digest,
    ) -> Result<Joined, UploadError> {
        self.throw_away(session).await?;
        Err(UploadError::DigestMismatch { expected: Box::new(*expected), actual: Box::new(actual) })
    }
}

enum Joined {
    /// Of the right digest, or believed to be, not yet in its place.
    Right(Object),
    /// Of a digest that is to be found out.
    Unread(Object),
    /// The blob was there already; the new bytes are gone.
    Present(Blob),
}

/// How many parts the blob has. They are in order.
fn count(parts: &[Part]) -> Result<u32, UploadError> {
    let mut count = 0;
    for number in parts.iter().map(|part| part.number.get()) {
        match number.checked_sub(count) {
            Some(1) => count = number,
            Some(0) | None => return Err(UploadError::RepeatedPart),
            Some(_) => return Err(UploadError::MissingPart(PartNumber::MIN.saturating_add(count))),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_without_a_gap() {
        let named = |numbers: &[u32]| {
            let part = |n: &u32| Part { number: PartNumber::new(*n).unwrap(), size: 0, etag: String::new() };
            count(&numbers.iter().map(part).collect::<Vec<_>>())
        };
        assert_eq!(named(&[]).unwrap(), 0);
        assert_eq!(named(&[1, 2, 3]).unwrap(), 3);
        assert!(matches!(named(&[1, 3]), Err(UploadError::MissingPart(n)) if n.get() == 2));
        assert!(matches!(named(&[2]), Err(UploadError::MissingPart(n)) if n.get() == 1));
        assert!(matches!(named(&[1, 2, 2]), Err(UploadError::RepeatedPart)));
    }
}
