use std::collections::BTreeMap;

use atcr_core::syntax::{Did, RecordKey, Tid};

use super::apply::{Writing, made_at, number, place};
use super::database::{all, run};
use super::event::{Collection, RecordOp};
use super::{Index, IndexError};

/// Records that are removed in one transaction.
const PIECE: i64 = 500;

/// A repo that is being read whole, to be put in the place of what the index has of it.
///
/// Records that events wrote since the revision that is read are left as they are. Until [`Reading::finish`] the old
/// and the new stand side by side, and the repo counts as not read: a reading that breaks off is done again.
#[derive(Debug)]
pub struct Reading<'a> {
    index: &'a Index,
    did: Did,
    rev: i64,
}

impl Index {
    /// Begins to take over a repo at this revision. `None` when the index knows a newer state of it already: then what
    /// was read comes from a server that is behind, and must be read again later.
    pub async fn begin_reading(&self, did: &Did, rev: Tid) -> Result<Option<Reading<'_>>, IndexError> {
        let mut writing = Writing::begin(self).await?;
        let state = writing.state(did).await?;
        writing.finish().await?;
        let rev = number(rev);
        Ok((state.whole <= rev).then(|| Reading { index: self, did: did.clone(), rev }))
    }
}

impl Reading<'_> {
    /// Takes over some records; a thousand at a time is a good number.
    pub async fn put(&self, ops: &[RecordOp]) -> Result<(), IndexError> {
        let mut writing = Writing::begin(self.index).await?;
        let repo = writing.state(&self.did).await?.id;
        writing.recall(ops.iter().map(|op| place(repo, op)).collect()).await?;
        for op in ops {
            let place = place(repo, op);
            let known = writing.known(&place).await?;
            if known.as_ref().is_none_or(|(known, _)| *known < self.rev) {
                writing.change(place, self.rev, op, known).await?;
            }
        }
        writing.note_moves(made_at(self.rev), self.rev);
        writing.finish().await?;
        self.index.announce([&self.did]);
        Ok(())
    }

    /// Every record has been put: what is in the index beside them and is older is gone. `data` is the root of the
    /// tree.
    pub async fn finish(self, data: String) -> Result<(), IndexError> {
        let codes: BTreeMap<i64, Collection> = Collection::ALL.iter().map(|c| (c.code(), *c)).collect();
        let mut after = (0, String::new());
        loop {
            let mut writing = Writing::begin(self.index).await?;
            let repo = writing.state(&self.did).await?.id;
            let left: Vec<(i64, String, i64, Option<Vec<u8>>)> = all!(
                &mut *writing.tx,
                "SELECT collection, rkey, rev, cid FROM records WHERE repo = $1 AND rev < $2 AND cid IS NOT NULL \
                 AND (collection > $3 OR (collection = $3 AND rkey > $4)) ORDER BY collection, rkey LIMIT $5",
                repo,
                self.rev,
                after.0,
                after.1.as_str(),
                PIECE
            );
            let ended = left.is_empty();
            for (code, rkey, rev, cid) in left {
                let collection =
                    codes.get(&code).ok_or_else(|| IndexError::corrupt("an unknown collection"))?;
                let key: RecordKey = rkey.parse().map_err(IndexError::corrupt)?;
                let op = RecordOp::gone(*collection, key);
                writing.change(place(repo, &op), self.rev, &op, Some((rev, cid))).await?;
                after = (code, rkey);
            }
            writing.note_moves(made_at(self.rev), self.rev);
            if ended {
                run!(
                    writing.tx,
                    "DELETE FROM records WHERE repo = $1 AND rev <= $2 AND cid IS NULL",
                    repo,
                    self.rev
                );
                writing.complete(&self.did, self.rev, Some(data), self.index.now()).await?;
                writing.finish().await?;
                self.index.announce([&self.did]);
                return Ok(());
            }
            writing.finish().await?;
        }
    }
}
