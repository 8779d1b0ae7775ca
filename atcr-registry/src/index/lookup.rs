//! The questions that every pull asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use atcr_core::oci::{Algorithm, Digest, Manifest, MediaType, Reference, RepositoryName};
use atcr_core::syntax::{Did, Handle};
use bytes::Bytes;

use super::apply::Writing;
use super::database::{all, first, run};
use super::write::{MAX_BODY, artifact_type, clean};
use super::{Index, IndexError};

/// An account that the index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Its DID.
    pub did: Did,
    /// Its handle, when it pointed back to the DID.
    pub handle: Option<Handle>,
    /// The URL of its PDS, where it is known.
    pub pds: Option<String>,
    /// Its DID document as JSON, as it was when the identity was last looked at.
    pub document: Option<String>,
    /// When that was, in milliseconds since 1970; 0 for never.
    pub identity_at: i64,
    /// Whether it is active: others are in no answer.
    pub active: bool,
    /// Whether the index has all of its records, as far as is known.
    pub complete: bool,
    /// When its repo was last read whole, in milliseconds since 1970; 0 for never.
    pub read_at: i64,
}

/// What the index says about a name of a manifest.
#[derive(Debug, Clone)]
pub enum Lookup {
    /// It is this one.
    Found(Arc<StoredManifest>),
    /// The index knows of none.
    Missing,
}

/// A manifest as a pull needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredManifest {
    /// Its digest.
    pub digest: Digest,
    /// What it was pushed as.
    pub media_type: MediaType,
    /// Its length in bytes, where it is known.
    pub size: Option<u64>,
    /// Its bytes, when the index has them: they have the digest.
    pub bytes: Option<Bytes>,
    /// The CID of the blob at the owner's PDS that has the bytes.
    pub pds_blob: Option<String>,
}

/// The digest in a column.
pub(super) fn digest_of(bytes: &[u8]) -> Result<Digest, IndexError> {
    let algorithm = if bytes.len() == 64 { Algorithm::Sha512 } else { Algorithm::Sha256 };
    Digest::from_bytes(algorithm, bytes).ok_or_else(|| IndexError::corrupt("bytes that are no digest"))
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

type AccountRow = (Option<String>, Option<String>, Option<String>, i64, String, Option<i64>, i64);
type ManifestRow = (i64, Vec<u8>, String, Option<i64>, Option<Vec<u8>>, Option<String>);

impl Index {
    /// What is known of an account; `None` for one that the index never heard of.
    pub async fn account(&self, did: &Did) -> Result<Option<Arc<Account>>, IndexError> {
        let count = self.caches().count(did);
        if let Some((then, account)) = self.caches().accounts.get(did).await
            && then == count
        {
            return Ok(account);
        }
        let row: Option<AccountRow> = first!(
            &self.database().read,
            "SELECT handle, pds, document, identity_at, status, need, read_at FROM repos WHERE did = $1",
            did.as_str()
        );
        let account = row.map(|(handle, pds, document, identity_at, status, need, read_at)| {
            Arc::new(Account {
                did: did.clone(),
                handle: handle.and_then(|handle| handle.parse().ok()),
                pds,
                document,
                identity_at,
                active: status == "active",
                complete: need.is_none(),
                read_at,
            })
        });
        if self.caches().is_enabled() {
            self.caches().accounts.insert(did.clone(), (count, account.clone())).await;
        }
        Ok(account)
    }

    /// The account that has this handle, as far as the index knows.
    pub async fn account_by_handle(&self, handle: &Handle) -> Result<Option<Arc<Account>>, IndexError> {
        let count = self.caches().identities.load(Ordering::Acquire);
        let cached = self.caches().handles.get(handle).await.filter(|(then, _)| *then == count);
        let did = if let Some((_, did)) = cached {
            did
        } else {
            let lower = handle.as_str().to_ascii_lowercase();
            let row: Option<(String,)> =
                first!(&self.database().read, "SELECT did FROM repos WHERE handle = $1", lower);
            let did: Option<Did> = row.map(|(did,)| did.parse().map_err(IndexError::corrupt)).transpose()?;
            if self.caches().is_enabled() {
                self.caches().handles.insert(handle.clone(), (count, did.clone())).await;
            }
            did
        };
        match did {
            Some(did) => self.account(&did).await,
            None => Ok(None),
        }
    }

    /// The manifest behind a tag or a digest of a repository.
    ///
    /// A digest counts when the manifest's record names the repository, or a tag of the repository points at it.
    pub async fn lookup(
        &self,
        owner: &Did,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Lookup, IndexError> {
        let key = (owner.clone(), name.clone(), reference.clone());
        let count = self.caches().count(owner);
        if let Some((then, lookup)) = self.caches().manifests.get(&key).await
            && then == count
        {
            return Ok(lookup);
        }
        let lookup = self.read_manifest(owner, name, reference).await?;
        if self.caches().is_enabled() {
            self.caches().manifests.insert(key, (count, lookup.clone())).await;
        }
        Ok(lookup)
    }

    async fn read_manifest(
        &self,
        owner: &Did,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Lookup, IndexError> {
        let read = &self.database().read;
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => {
                let row: Option<(Option<Vec<u8>>,)> = first!(
                    read,
                    "SELECT t.digest FROM repos o JOIN repositories r ON r.repo = o.id JOIN tags t ON t.repository = r.id \
                     WHERE o.did = $1 AND o.status = 'active' AND r.name = $2 AND t.tag = $3 \
                     ORDER BY t.usual DESC, t.updated_at DESC, t.rkey LIMIT 1",
                    owner.as_str(),
                    name.as_str(),
                    tag.as_str()
                );
                match row.and_then(|(digest,)| digest) {
                    Some(digest) => digest_of(&digest)?,
                    None => return Ok(Lookup::Missing),
                }
            }
        };
        let row: Option<ManifestRow> = first!(
            read,
            "SELECT m.id, m.digest, m.media_type, m.size, b.bytes, m.pds_blob FROM repos o \
             JOIN manifests m ON m.repo = o.id LEFT JOIN bodies b ON b.digest = m.digest \
             WHERE o.did = $1 AND o.status = 'active' AND m.digest = $2 ORDER BY m.rkey LIMIT 1",
            owner.as_str(),
            digest.as_bytes()
        );
        let Some((id, digest, media_type, size, bytes, pds_blob)) = row else { return Ok(Lookup::Missing) };
        if matches!(reference, Reference::Digest(_)) {
            let belongs: Option<(i64,)> = first!(
                read,
                "SELECT r.id FROM repos o JOIN repositories r ON r.repo = o.id WHERE o.did = $1 AND r.name = $2 AND \
                 (EXISTS (SELECT 1 FROM manifest_repositories mr WHERE mr.manifest = $3 AND mr.repository = r.id) OR \
                 EXISTS (SELECT 1 FROM tags t WHERE t.repo = o.id AND t.digest = $4 AND t.repository = r.id))",
                owner.as_str(),
                name.as_str(),
                id,
                digest.clone()
            );
            if belongs.is_none() {
                return Ok(Lookup::Missing);
            }
        }
        Ok(Lookup::Found(Arc::new(StoredManifest {
            digest: digest_of(&digest)?,
            media_type: media_type.parse().map_err(IndexError::corrupt)?,
            size: size.map(unsigned),
            bytes: bytes.map(Bytes::from),
            pds_blob,
        })))
    }

    /// The bytes of a manifest, when the index has them.
    pub async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>, IndexError> {
        let row: Option<(Vec<u8>,)> =
            first!(&self.database().read, "SELECT bytes FROM bodies WHERE digest = $1", digest.as_bytes());
        Ok(row.map(|(bytes,)| bytes.into()))
    }

    /// Keeps the bytes of a manifest that the index knows, unless they are more than 1 MiB or do not have its digest.
    pub async fn keep_manifest(&self, owner: &Did, manifest: &Manifest) -> Result<(), IndexError> {
        let right = Digest::of(manifest.digest.algorithm(), &manifest.bytes) == manifest.digest;
        if !right || manifest.bytes.len() > MAX_BODY {
            return Ok(());
        }
        let mut writing = Writing::begin(self).await?;
        let kind = artifact_type(manifest).map(|kind| clean(&kind, 255));
        let known = run!(
            writing.tx,
            "UPDATE manifests SET size = $2, artifact_type = coalesce($3, artifact_type) WHERE digest = $1",
            manifest.digest.as_bytes(),
            i64::try_from(manifest.bytes.len()).unwrap_or(i64::MAX),
            kind
        );
        if known > 0 {
            writing.pending.body(manifest.digest, manifest.bytes.clone());
        }
        writing.finish().await?;
        self.announce([owner]);
        Ok(())
    }

    /// The holds that may have a blob, the likeliest first: those that the owner's manifests with it name, the holds
    /// that those have moved to, and those of the owner's other holds that say they have it.
    ///
    /// Who says that is never asked beyond the holds that the owner has used: anybody can claim to have a blob.
    pub async fn holds_of_blob(&self, owner: &Did, digest: &Digest) -> Result<Vec<Did>, IndexError> {
        let read = &self.database().read;
        let named: Vec<(String,)> = all!(
            read,
            "SELECT m.hold FROM layers l JOIN manifests m ON m.id = l.manifest JOIN repos o ON o.id = m.repo \
             WHERE l.digest = $1 AND o.did = $2 AND m.hold IS NOT NULL \
             GROUP BY m.hold ORDER BY max(m.created_at) DESC, m.hold LIMIT 16",
            digest.as_bytes(),
            owner.as_str()
        );
        let said: Vec<(String,)> = all!(
            read,
            "SELECT h.did FROM hold_layers l JOIN repos h ON h.id = l.repo \
             WHERE l.digest = $1 AND l.owner = $2 AND h.status = 'active' AND (EXISTS \
             (SELECT 1 FROM manifests m JOIN repos o ON o.id = m.repo WHERE o.did = $2 AND m.hold = h.did) OR EXISTS \
             (SELECT 1 FROM profiles p JOIN repos o ON o.id = p.repo WHERE o.did = $2 AND p.default_hold = h.did)) \
             GROUP BY h.did ORDER BY h.did LIMIT 16",
            digest.as_bytes(),
            owner.as_str()
        );
        let mut holds: Vec<Did> = Vec::new();
        for (hold,) in named.into_iter().chain(said) {
            let mut hold: Did = hold.parse().map_err(IndexError::corrupt)?;
            // A hold that has moved, perhaps more than once; a circle ends where it began.
            let mut chain = Vec::new();
            while !holds.contains(&hold) && !chain.contains(&hold) && chain.len() < 8 {
                let successor = self.captain(&hold).await?.and_then(|captain| captain.successor);
                chain.push(hold.clone());
                let Some(next) = successor else { break };
                hold = next;
            }
            // The newest has it, if anybody still does.
            holds.extend(chain.into_iter().rev());
        }
        Ok(holds)
    }

    /// Whether a hold says that it keeps this blob for this owner.
    pub async fn hold_has(&self, hold: &Did, owner: &Did, digest: &Digest) -> Result<bool, IndexError> {
        let row: Option<(i64,)> = first!(
            &self.database().read,
            "SELECT l.size FROM hold_layers l JOIN repos h ON h.id = l.repo \
             WHERE l.digest = $1 AND l.owner = $2 AND h.did = $3 AND h.status = 'active' LIMIT 1",
            digest.as_bytes(),
            owner.as_str(),
            hold.as_str()
        );
        Ok(row.is_some())
    }
}
