//! What depends on several records at once: the figures of a repository, its words, and where its tags were.

use std::collections::BTreeSet;

use super::IndexError;
use super::apply::Writing;
use super::database::{all, first, run};
use super::search::words;

/// So much of a description is searched.
const SEARCHED: usize = 16 * 1024;

impl Writing {
    /// Notes where each tag that was written points now, if that is elsewhere than before.
    pub(super) async fn tag_history(&mut self, at: i64, rev: i64) -> Result<(), IndexError> {
        for (repository, tag) in std::mem::take(&mut self.moved) {
            let Some((repo, name)) = self.names.get(&repository).cloned() else { continue };
            let now: Option<(Option<Vec<u8>>, i64)> = first!(
                &mut *self.tx,
                "SELECT digest, updated_at FROM tags WHERE repository = $1 AND tag = $2 \
                 ORDER BY usual DESC, updated_at DESC, rkey LIMIT 1",
                repository,
                tag.as_str()
            );
            let (now, written_at) = now.unwrap_or_default();
            let last: Option<(Option<Vec<u8>>,)> = first!(
                &mut *self.tx,
                "SELECT digest FROM tag_history WHERE repo = $1 AND repository = $2 AND tag = $3 \
                 ORDER BY id DESC LIMIT 1",
                repo,
                name.as_str(),
                tag.as_str()
            );
            if last.and_then(|(digest,)| digest) == now {
                continue;
            }
            run!(
                self.tx,
                "INSERT INTO tag_history (repo, repository, tag, digest, rev, at, written_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
                repo,
                name.as_str(),
                tag.as_str(),
                now,
                rev,
                at,
                written_at
            );
        }
        Ok(())
    }

    pub(super) async fn refresh(&mut self) -> Result<(), IndexError> {
        for (repository, new_words) in std::mem::take(&mut self.touched) {
            self.refresh_repository(repository, new_words).await?;
        }
        for (owner, name) in std::mem::take(&mut self.starred) {
            run!(
                self.tx,
                "UPDATE repositories SET stars = \
                 (SELECT count(DISTINCT repo) FROM stars WHERE owner = $1 AND repository = $2) \
                 WHERE repo = (SELECT id FROM repos WHERE did = $1) AND name = $2",
                owner.as_str(),
                name.as_str()
            );
        }
        for (owner, name) in std::mem::take(&mut self.counted) {
            run!(
                self.tx,
                "UPDATE repositories SET \
                 pulls = (SELECT CAST(coalesce(sum(pulls), 0) AS BIGINT) FROM stats WHERE owner = $1 AND repository = $2), \
                 pushes = (SELECT CAST(coalesce(sum(pushes), 0) AS BIGINT) FROM stats WHERE owner = $1 AND repository = $2) \
                 WHERE repo = (SELECT id FROM repos WHERE did = $1) AND name = $2",
                owner.as_str(),
                name.as_str()
            );
        }
        Ok(())
    }

    async fn refresh_repository(&mut self, repository: i64, new_words: bool) -> Result<(), IndexError> {
        let newest: Option<(Option<i64>, Option<i64>, i64)> = first!(
            &mut *self.tx,
            "SELECT (SELECT max(created_at) FROM manifest_repositories WHERE repository = $1), \
             (SELECT max(updated_at) FROM tags WHERE repository = $1), \
             (SELECT count(*) FROM pages WHERE repository = $1)",
            repository
        );
        let (manifest, tag, pages) = newest.unwrap_or_default();
        if manifest.is_none() && tag.is_none() && pages == 0 {
            run!(self.tx, "DELETE FROM terms WHERE repository = $1", repository);
            run!(self.tx, "DELETE FROM repositories WHERE id = $1", repository);
            return Ok(());
        }
        // A time that could not be read is the epoch; 0 is for those to which nothing was pushed.
        let last_push = manifest.max(tag).map_or(0, |at| at.max(1));
        run!(self.tx, "UPDATE repositories SET last_push = $2 WHERE id = $1", repository, last_push);
        if !new_words {
            return Ok(());
        }
        let page: Option<(Option<String>, Option<String>, Option<String>)> = first!(
            &mut *self.tx,
            "SELECT description, avatar, avatar_type FROM pages WHERE repository = $1 \
             ORDER BY usual DESC, updated_at DESC, rkey LIMIT 1",
            repository
        );
        let (description, avatar, avatar_type) = page.unwrap_or_default();
        run!(
            self.tx,
            "UPDATE repositories SET description = $2, avatar = $3, avatar_type = $4 WHERE id = $1",
            repository,
            description.clone(),
            avatar,
            avatar_type
        );
        let names: Option<(String, Option<String>)> = first!(
            &mut *self.tx,
            "SELECT r.name, o.handle FROM repositories r JOIN repos o ON o.id = r.repo WHERE r.id = $1",
            repository
        );
        let (name, handle) = names.unwrap_or_default();
        let mut wanted: BTreeSet<String> = words(&name).collect();
        wanted.extend(handle.iter().flat_map(|handle| words(handle)));
        let searched = super::write::clean(description.as_deref().unwrap_or_default(), SEARCHED);
        wanted.extend(words(&searched));
        let there: Vec<(String,)> =
            all!(&mut *self.tx, "SELECT term FROM terms WHERE repository = $1", repository);
        for (term,) in there {
            if !wanted.remove(&term) {
                run!(self.tx, "DELETE FROM terms WHERE repository = $1 AND term = $2", repository, term);
            }
        }
        for term in wanted {
            run!(self.tx, "INSERT INTO terms (term, repository) VALUES ($1, $2)", term, repository);
        }
        Ok(())
    }
}
