//! What depends on several records at once: the figures of a repository, its words, and where its tags were.

use std::collections::{BTreeMap, BTreeSet};

use super::IndexError;
use super::apply::Writing;
use super::database::run;
use super::rows;
use super::search::words;

/// So much of a description is searched.
const SEARCHED: usize = 16 * 1024;
/// Repositories whose descriptions are looked at together; each may have 100,000 bytes.
const DESCRIPTIONS: usize = 16;

/// A tag that may point elsewhere by a commit: the number of its repository, its name, when, and in which revision.
pub(super) struct Move {
    tag: (i64, String),
    at: i64,
    rev: i64,
}

/// What a repository's page says, beside what is shown of it so far.
type Described = (
    i64,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

impl Writing {
    /// A commit is through: its tags are where it has left them, and are not to move again before that is noted.
    pub(super) fn note_moves(&mut self, at: i64, rev: i64) {
        for tag in std::mem::take(&mut self.moving) {
            self.moved.insert(tag.clone());
            self.moves.push(Move { tag, at, rev });
        }
    }

    /// Notes where each tag that has moved points now, if that is elsewhere than before.
    pub(super) async fn tag_history(&mut self) -> Result<(), IndexError> {
        self.moved.clear();
        let moves = std::mem::take(&mut self.moves);
        let moves: Vec<_> = (0_i64..)
            .zip(&moves)
            .filter_map(|(n, moved)| Some((n, self.names.get(&moved.tag.0)?, moved)))
            .collect();
        let insert = "WITH moved (n, repo, repository, name, tag, rev, at) AS (VALUES {rows}), \
             found AS (SELECT n, repo, name, tag, rev, at, \
             (SELECT t.digest FROM tags t WHERE t.repository = moved.repository AND t.tag = moved.tag \
             ORDER BY t.usual DESC, t.updated_at DESC, t.rkey LIMIT 1) AS digest, \
             (SELECT t.updated_at FROM tags t WHERE t.repository = moved.repository AND t.tag = moved.tag \
             ORDER BY t.usual DESC, t.updated_at DESC, t.rkey LIMIT 1) AS written_at, \
             (SELECT h.digest FROM tag_history h WHERE h.repo = moved.repo AND h.repository = moved.name \
             AND h.tag = moved.tag ORDER BY h.id DESC LIMIT 1) AS known FROM moved) \
             INSERT INTO tag_history (repo, repository, tag, digest, rev, at, written_at) \
             SELECT repo, name, tag, digest, rev, at, coalesce(written_at, 0) FROM found WHERE digest IS DISTINCT FROM known ORDER BY n";
        rows::write(&mut self.tx, self.dialect, (insert, 7), &moves, |query, (n, (repo, name), moved)| {
            let (repository, tag) = &moved.tag;
            query
                .bind(*n)
                .bind(*repo)
                .bind(*repository)
                .bind(name.as_str())
                .bind(tag.as_str())
                .bind(moved.rev)
                .bind(moved.at)
        })
        .await
    }

    pub(super) async fn refresh(&mut self) -> Result<(), IndexError> {
        let mut new_words = self.refresh_pushes().await?;
        // In one order, as the repositories have.
        new_words.sort_unstable();
        for piece in new_words.chunks(DESCRIPTIONS) {
            self.refresh_descriptions(piece).await?;
        }
        let starred: Vec<(String, String)> = std::mem::take(&mut self.starred).into_iter().collect();
        let update = "WITH asked (owner, name) AS (VALUES {rows}) UPDATE repositories SET stars = \
             (SELECT count(DISTINCT s.repo) FROM stars s WHERE s.owner = asked.owner AND s.repository = asked.name) \
             FROM asked JOIN repos o ON o.did = asked.owner \
             WHERE repositories.repo = o.id AND repositories.name = asked.name";
        rows::write(&mut self.tx, self.dialect, (update, 2), &starred, |query, (owner, name)| {
            query.bind(owner.as_str()).bind(name.as_str())
        })
        .await?;
        let counted: Vec<(String, String)> = std::mem::take(&mut self.counted).into_iter().collect();
        let update = "WITH asked (owner, name) AS (VALUES {rows}) UPDATE repositories SET \
             pulls = (SELECT CAST(coalesce(sum(s.pulls), 0) AS BIGINT) FROM stats s \
             WHERE s.owner = asked.owner AND s.repository = asked.name), \
             pushes = (SELECT CAST(coalesce(sum(s.pushes), 0) AS BIGINT) FROM stats s \
             WHERE s.owner = asked.owner AND s.repository = asked.name) \
             FROM asked JOIN repos o ON o.did = asked.owner \
             WHERE repositories.repo = o.id AND repositories.name = asked.name";
        rows::write(&mut self.tx, self.dialect, (update, 2), &counted, |query, (owner, name)| {
            query.bind(owner.as_str()).bind(name.as_str())
        })
        .await
    }

    /// When the repositories that were touched were last pushed to; those that have nothing left are removed. Gives
    /// those that have other words now.
    async fn refresh_pushes(&mut self) -> Result<Vec<i64>, IndexError> {
        let touched: BTreeMap<i64, bool> = std::mem::take(&mut self.touched);
        let asked: Vec<i64> = touched.keys().copied().collect();
        let select = "WITH asked (id) AS (VALUES {rows}) SELECT r.id, r.last_push, \
             (SELECT max(m.created_at) FROM manifest_repositories m WHERE m.repository = r.id), \
             (SELECT max(t.updated_at) FROM tags t WHERE t.repository = r.id), \
             (SELECT count(*) FROM pages p WHERE p.repository = r.id) \
             FROM asked CROSS JOIN repositories r WHERE r.id = asked.id";
        let found: Vec<(i64, i64, Option<i64>, Option<i64>, i64)> =
            rows::read(&mut self.tx, self.dialect, (select, 1), &asked, |query, id| query.bind(*id)).await?;
        let (mut pushed, mut new_words) = (Vec::new(), Vec::new());
        for (repository, known, manifest, tag, pages) in found {
            if manifest.is_none() && tag.is_none() && pages == 0 {
                run!(self.tx, "DELETE FROM terms WHERE repository = $1", repository);
                run!(self.tx, "DELETE FROM repositories WHERE id = $1", repository);
                continue;
            }
            // A time that could not be read is the epoch; 0 is for those to which nothing was pushed.
            let last_push = manifest.max(tag).map_or(0, |at| at.max(1));
            if last_push != known {
                pushed.push((repository, last_push));
            }
            if touched.get(&repository) == Some(&true) {
                new_words.push(repository);
            }
        }
        let update = "WITH pushed (id, at) AS (VALUES {rows}) UPDATE repositories SET last_push = pushed.at \
             FROM pushed WHERE repositories.id = pushed.id";
        rows::write(&mut self.tx, self.dialect, (update, 2), &pushed, |query, (id, at)| {
            query.bind(*id).bind(*at)
        })
        .await?;
        Ok(new_words)
    }

    /// What these repositories say of themselves, and by which words they are found.
    async fn refresh_descriptions(&mut self, repositories: &[i64]) -> Result<(), IndexError> {
        let select = "WITH asked (id) AS (VALUES {rows}) SELECT r.id, r.name, o.handle, r.description, r.avatar, \
             r.avatar_type, p.description, p.avatar, p.avatar_type \
             FROM asked CROSS JOIN repositories r JOIN repos o ON o.id = r.repo \
             LEFT JOIN pages p ON p.repo = r.repo AND p.rkey = (SELECT q.rkey FROM pages q WHERE q.repository = r.id \
             ORDER BY q.usual DESC, q.updated_at DESC, q.rkey LIMIT 1) WHERE r.id = asked.id";
        let found: Vec<Described> =
            rows::read(&mut self.tx, self.dialect, (select, 1), repositories, |query, id| query.bind(*id))
                .await?;
        let mut wanted: BTreeSet<(i64, String)> = BTreeSet::new();
        for (id, name, handle, old, old_avatar, old_type, description, avatar, avatar_type) in found {
            let mut add = |text: &str| wanted.extend(words(text).map(|word| (id, word)));
            add(&name);
            add(handle.as_deref().unwrap_or_default());
            add(&super::write::clean(description.as_deref().unwrap_or_default(), SEARCHED));
            if (&old, &old_avatar, &old_type) != (&description, &avatar, &avatar_type) {
                run!(
                    self.tx,
                    "UPDATE repositories SET description = $2, avatar = $3, avatar_type = $4 WHERE id = $1",
                    id,
                    description,
                    avatar,
                    avatar_type
                );
            }
        }
        let select = "WITH asked (id) AS (VALUES {rows}) SELECT t.repository, t.term FROM asked CROSS JOIN terms t \
             WHERE t.repository = asked.id";
        let there: Vec<(i64, String)> =
            rows::read(&mut self.tx, self.dialect, (select, 1), repositories, |query, id| query.bind(*id))
                .await?;
        for found in there {
            if !wanted.remove(&found) {
                let (repository, term) = found;
                run!(self.tx, "DELETE FROM terms WHERE repository = $1 AND term = $2", repository, term);
            }
        }
        let wanted: Vec<(i64, String)> = wanted.into_iter().collect();
        let insert = "INSERT INTO terms (repository, term) VALUES {rows}";
        rows::write(&mut self.tx, self.dialect, (insert, 2), &wanted, |query, (repository, term)| {
            query.bind(*repository).bind(term.as_str())
        })
        .await
    }
}
