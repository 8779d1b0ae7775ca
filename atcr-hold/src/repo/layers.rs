use std::collections::BTreeSet;

use atcr_core::methods::Operation;
use atcr_core::oci::{Digest, RepositoryName};
use atcr_core::records::{LayerRecord, ManifestRecord, Record, manifest_rkey};
use atcr_core::syntax::{AtUri, Did, RecordKey};
use atcr_pds::repo::MAX_WRITES;
use sqlx::{Sqlite, Transaction};

use super::{Changes, HoldRepo};
use crate::{HoldError, database};

/// The place in the event stream up to which the index goes.
const INDEXED: &str = "layers_indexed";

/// A blob that a pushed manifest names and the hold has.
#[derive(Debug, Clone)]
pub(crate) struct NewLayer {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

impl HoldRepo {
    /// Notes a push: a layer record for each blob that has none under this manifest, and the counters, in one commit
    /// (one for each 199 layers). Gives the number of new layer records.
    pub(crate) async fn pushed(
        &self,
        owner: &Did,
        repository: &RepositoryName,
        manifest: &Digest,
        layers: &[NewLayer],
    ) -> Result<u64, HoldError> {
        let _alone = self.alone().await?;
        self.index_layers().await?;
        let uri = ManifestRecord::uri(owner, &manifest_rkey(manifest));
        let now = self.now();
        let mut writes = Vec::new();
        let mut seen = BTreeSet::new();
        for layer in layers {
            if !seen.insert(layer.digest) || self.indexed(&uri, &layer.digest).await? {
                continue;
            }
            let NewLayer { digest, size, media_type } = layer.clone();
            let record = LayerRecord::new(digest, size, media_type, uri.clone(), owner.clone(), now.clone());
            let rkey =
                self.rkeys.now().to_string().parse::<RecordKey>().map_err(atcr_pds::RepoError::from)?;
            writes.push(Self::put(rkey, &record)?);
        }
        let created = writes.len() as u64;
        writes.extend(self.count(owner, repository, &Operation::Push).await?);
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(MAX_WRITES));
            self.commit(std::mem::replace(&mut writes, rest)).await?;
        }
        self.index_layers().await?;
        Ok(created)
    }

    /// The layer records of a manifest.
    pub(crate) async fn layers_of(&self, manifest: &AtUri) -> Result<Vec<LayerRecord>, HoldError> {
        self.refresh_index().await?;
        let keys =
            sqlx::query_scalar::<_, String>("select rkey from layers where manifest = ? order by rkey");
        let mut layers = Vec::new();
        for rkey in keys.bind(manifest.as_str()).fetch_all(&self.pool).await? {
            let Ok(rkey) = rkey.parse() else { continue };
            layers.extend(self.get(&rkey).await?);
        }
        Ok(layers)
    }

    async fn indexed(&self, manifest: &AtUri, digest: &Digest) -> Result<bool, HoldError> {
        let known = sqlx::query_scalar::<_, i64>("select 1 from layers where manifest = ? and digest = ?");
        let known = known.bind(manifest.as_str()).bind(digest.to_string());
        Ok(known.fetch_optional(&self.pool).await?.is_some())
    }

    /// Brings the index up to date.
    pub(crate) async fn refresh_index(&self) -> Result<(), HoldError> {
        let _alone = self.alone().await?;
        self.index_layers().await
    }

    /// Brings the index up to date with the repo, whoever wrote to that. The caller is alone.
    async fn index_layers(&self) -> Result<(), HoldError> {
        let newest = *self.repos.subscribe().borrow();
        let indexed = database::meta(&self.pool, INDEXED).await?;
        let changes = match indexed.and_then(|seq| seq.parse().ok()) {
            Some(seq) if seq == newest => return Ok(()),
            Some(seq) => Changes::after(&self.repos, seq, newest).await?,
            None => (Changes::Everything, newest),
        };
        let (changes, seq) = changes;
        let mut tx = database::write(&self.pool).await?;
        if let Some(keys) = changes.of(&LayerRecord::collection()) {
            for rkey in keys {
                let record = self.get(&rkey).await?;
                index(&mut tx, &rkey, record.as_ref()).await?;
            }
        } else {
            sqlx::query("delete from layers").execute(&mut *tx).await?;
            let mut cursor = None;
            loop {
                let (page, next) = self.page::<LayerRecord>(cursor).await?;
                for (rkey, record) in &page {
                    index(&mut tx, rkey, Some(record)).await?;
                }
                cursor = next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        let indexed = "insert into meta (key, value) values (?, ?)
            on conflict (key) do update set value = excluded.value";
        sqlx::query(indexed).bind(INDEXED).bind(seq.to_string()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Notes what a layer record says now; `None` when it is gone.
async fn index(
    tx: &mut Transaction<'static, Sqlite>,
    rkey: &RecordKey,
    record: Option<&LayerRecord>,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from layers where rkey = ?").bind(rkey.as_str()).execute(&mut **tx).await?;
    // Records before 2026 name no manifest; each stands for itself.
    if let Some(record) = record {
        let manifest = record.manifest.as_ref().map_or_else(|| format!("#{rkey}"), ToString::to_string);
        sqlx::query(
            "insert or replace into layers (manifest, digest, rkey, user_did, size) values (?, ?, ?, ?, ?)",
        )
        .bind(manifest)
        .bind(record.digest.to_string())
        .bind(rkey.as_str())
        .bind(record.user_did.as_str())
        .bind(i64::try_from(record.size).unwrap_or(i64::MAX))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}
