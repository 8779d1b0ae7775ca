use atcr_core::methods::UploadId;
use atcr_core::oci::{ByteRange, Digest, Hasher};
use atcr_core::syntax::Did;
use futures_util::TryStreamExt as _;

use super::ledger::{Session, State};
use super::{Blob, UploadError, Uploads};
use crate::storage::{Object, ObjectKey, Part, PartNumber, StorageError};

impl Uploads {
    /// Makes the parts of a session the blob `digest`: all that were acknowledged when `parts` is empty, else those,
    /// which must be 1, 2, 3 and so on in any order. It answers when the blob is durable.
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
    ) -> Result<Blob, UploadError> {
        let session = self.session(id, Some(caller)).await?;
        if let State::Completed { digest: completed, size } = session.state {
            return if completed == *digest {
                Ok(Blob { digest: completed, size })
            } else {
                Err(UploadError::OtherCompletion(completed))
            };
        }
        let count = count(parts, &self.ledger.parts(id).await?)?;
        let fixed = self.ledger.begin_completion(id, digest, count, self.clock.unix()).await?;
        // From here on no part can change.
        let session = self.session(id, Some(caller)).await?;
        let (object, size) = match &session.state {
            State::Completed { digest: completed, size } if completed == digest => {
                return Ok(Blob { digest: *digest, size: *size });
            }
            State::Verified { object, size, .. } if fixed => (object.clone(), *size),
            State::Completing { .. } if fixed => match self.verify(&session, digest, count, parts).await? {
                Verified::Object(object) => {
                    if !self.ledger.verified(id, &object.key, object.size).await? {
                        return self.ended(&session, digest).await;
                    }
                    (object.key, object.size)
                }
                Verified::Present(blob) => return self.finish(&session, digest, None, blob.size).await,
            },
            State::Completing { digest }
            | State::Verified { digest, .. }
            | State::Completed { digest, .. } => {
                return Err(UploadError::OtherCompletion(*digest));
            }
            State::Open | State::Ending => return Err(UploadError::UnknownUpload),
        };
        let place = if self.find(digest).await?.is_some() {
            self.storage.abort_upload(&session.storage_upload).await?;
            None
        } else {
            Some(self.storage.relocate(&object, &ObjectKey::of_blob(digest)).await?)
        };
        self.finish(&session, digest, place.as_ref(), size).await
    }

    async fn finish(
        &self,
        session: &Session,
        digest: &Digest,
        object: Option<&ObjectKey>,
        size: u64,
    ) -> Result<Blob, UploadError> {
        if self.ledger.complete(session, digest, object, size, self.clock.unix()).await? {
            return Ok(Blob { digest: *digest, size });
        }
        self.ended(session, digest).await
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

    /// Joins the parts and makes sure that they are `digest`. If not, the session ends and its bytes are gone.
    async fn verify(
        &self,
        session: &Session,
        digest: &Digest,
        count: u32,
        named: &[(PartNumber, String)],
    ) -> Result<Verified, UploadError> {
        let mut parts = self.ledger.parts(&session.id).await?;
        parts.retain(|part| part.number.get() <= count);
        let through_the_hold = parts.len() as u64 == u64::from(count);
        // Parts that did not come through the hold are known to the storage only.
        if !through_the_hold {
            let recorded: std::collections::BTreeSet<PartNumber> =
                parts.iter().map(|part| part.number).collect();
            for (number, etag) in named.iter().filter(|(number, _)| !recorded.contains(number)) {
                if !self.storage.capabilities().presign {
                    self.ledger.reopen(&session.id).await?;
                    return Err(UploadError::MissingPart(*number));
                }
                parts.push(Part { number: *number, size: 0, etag: etag.trim_matches('"').to_owned() });
            }
            parts.sort_by_key(|part| part.number);
        }
        let known = match count {
            0 => Some((0, Hasher::new(digest.algorithm()))),
            _ if through_the_hold => self.ledger.last_hash(&session.id, count).await?,
            _ => None,
        };
        let known = known.filter(|(_, hasher)| hasher.algorithm() == digest.algorithm());
        let whole = known.as_ref().filter(|(number, _)| *number == count);
        let whole = whole.map(|(_, hasher)| hasher.clone().finish());
        if let Some(actual) = whole {
            if actual != *digest {
                return self.discard(session, digest, actual).await;
            }
            if let Some(blob) = self.find(digest).await? {
                self.storage.abort_upload(&session.storage_upload).await?;
                return Ok(Verified::Present(blob));
            }
        }
        let object = match self.storage.complete_upload(&session.storage_upload, &parts).await {
            Ok(object) => object,
            Err(error) => {
                if matches!(error, StorageError::PartUnknown { .. } | StorageError::PartSize { .. }) {
                    self.ledger.reopen(&session.id).await?;
                }
                return Err(error.into());
            }
        };
        let expected: u64 = parts.iter().map(|part| part.size).sum();
        let as_received = through_the_hold && object.size == expected;
        if whole.is_some() && as_received {
            return Ok(Verified::Object(object));
        }
        if let Some(limit) = self.limits.max_blob_size
            && object.size > limit
        {
            self.throw_away(session).await?;
            return Err(UploadError::TooLarge { limit });
        }
        let (start, hasher) = match known.filter(|_| as_received) {
            Some((number, hasher)) => {
                let hashed = parts.iter().take_while(|part| part.number.get() <= number);
                (hashed.map(|part| part.size).sum(), hasher)
            }
            None => (0, Hasher::new(digest.algorithm())),
        };
        let actual = self.read_back(&object, start, hasher).await?;
        if actual == *digest {
            Ok(Verified::Object(object))
        } else {
            self.discard(session, digest, actual).await
        }
    }

    async fn read_back(
        &self,
        object: &Object,
        start: u64,
        mut hasher: Hasher,
    ) -> Result<Digest, UploadError> {
        let range = ByteRange { start, end: object.size };
        let mut body = self.storage.read(&object.key, range).await?;
        let failed = |source| StorageError::Failed { doing: format!("reading {} back", object.key), source };
        while let Some(piece) = body.try_next().await.map_err(failed)? {
            hasher.update(&piece);
        }
        Ok(hasher.finish())
    }

    async fn discard(
        &self,
        session: &Session,
        expected: &Digest,
        actual: Digest,
    ) -> Result<Verified, UploadError> {
        self.throw_away(session).await?;
        Err(UploadError::DigestMismatch { expected: Box::new(*expected), actual: Box::new(actual) })
    }
}

enum Verified {
    /// Of the right digest, not yet in its place.
    Object(Object),
    /// The blob was there already; the new bytes are gone.
    Present(Blob),
}

/// How many parts the blob has: those that are named, or all.
fn count(named: &[(PartNumber, String)], recorded: &[Part]) -> Result<u32, UploadError> {
    let mut numbers: Vec<u32> = if named.is_empty() {
        recorded.iter().map(|part| part.number.get()).collect()
    } else {
        named.iter().map(|(number, _)| number.get()).collect()
    };
    numbers.sort_unstable();
    let mut count = 0;
    for number in numbers {
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
            let parts: Vec<_> =
                numbers.iter().map(|n| (PartNumber::new(*n).unwrap(), String::new())).collect();
            count(&parts, &[])
        };
        assert_eq!(named(&[]).unwrap(), 0);
        assert_eq!(named(&[3, 1, 2]).unwrap(), 3);
        assert!(matches!(named(&[1, 3]), Err(UploadError::MissingPart(n)) if n.get() == 2));
        assert!(matches!(named(&[2]), Err(UploadError::MissingPart(n)) if n.get() == 1));
        assert!(matches!(named(&[1, 2, 2]), Err(UploadError::RepeatedPart)));
    }
}
