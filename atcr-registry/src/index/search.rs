//! Finding repositories by words of their names, descriptions and owners' handles, and manifests by digest.
//!
//! The words stand in a table with an index, and a word of the query finds those that begin with it. That is the same
//! in both databases, and its cost is bounded: of the words of a query the rarest is looked up, and no more than
//! [`CANDIDATES`] of what it finds are compared with the others.

use atcr_core::oci::Digest;
use sqlx::AssertSqlSafe;

use super::database::all;
use super::page::{Listed, PageCursor, PageRequest};
use super::{Index, IndexError, RepositoryEntry};

/// Repositories that are looked at for one query.
const CANDIDATES: i64 = 2000;
/// Words of a query that count.
const MAX_WORDS: usize = 6;
/// The longest word, in bytes.
const MAX_WORD: usize = 64;

/// The words of a text in lower case.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(|word| {
        let word = word.to_lowercase();
        super::write::clean(&word, MAX_WORD)
    })
}

/// What comes after every text that begins with `prefix`.
fn behind(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

impl Index {
    /// Repositories that match every word of a query: words of their name, of their description or of their owner's
    /// handle begin so. A digest, or eight digits of one, finds the repositories that have the manifest. Those with the
    /// most stars come first.
    ///
    /// Of a query that finds more than 2,000 repositories, the 2,000 that were made last are put in order.
    pub async fn search(
        &self,
        query: &str,
        page: &PageRequest,
    ) -> Result<Listed<RepositoryEntry>, IndexError> {
        let ids = match digest_range(query.trim()) {
            Some((low, high)) => self.with_digest(low, high).await?,
            None => self.with_words(query).await?,
        };
        self.ranked(&ids, page).await
    }

    async fn with_digest(&self, low: Vec<u8>, high: Vec<u8>) -> Result<Vec<i64>, IndexError> {
        let found: Vec<(i64,)> = all!(
            &self.database().read,
            "SELECT DISTINCT mr.repository FROM manifests m JOIN manifest_repositories mr ON mr.manifest = m.id \
             WHERE m.digest >= $1 AND m.digest <= $2 LIMIT 2000",
            low,
            high
        );
        Ok(found.into_iter().map(|(id,)| id).collect())
    }

    async fn with_words(&self, query: &str) -> Result<Vec<i64>, IndexError> {
        let mut wanted: Vec<String> = words(&super::write::clean(query, 512)).collect();
        wanted.sort();
        wanted.dedup();
        // A word that another one begins with adds nothing.
        let all_words = wanted.clone();
        wanted
            .retain(|word| !all_words.iter().any(|other| other != word && other.starts_with(word.as_str())));
        wanted.truncate(MAX_WORDS);
        let mut rarest: Option<(i64, usize)> = None;
        for (at, word) in wanted.iter().enumerate() {
            let (count,): (i64,) = sqlx::query_as::<sqlx::Any, _>(
                "SELECT count(*) FROM (SELECT 1 FROM terms WHERE term >= $1 AND term < $2 LIMIT 2000) AS found",
            )
            .bind(word.as_str())
            .bind(behind(word))
            .fetch_one(&self.database().read)
            .await?;
            if rarest.is_none_or(|(least, _)| count < least) {
                rarest = Some((count, at));
            }
        }
        let Some((_, at)) = rarest else { return Ok(Vec::new()) };
        let first = wanted.swap_remove(at);
        let mut sql = String::from(
            "SELECT found.repository FROM (SELECT DISTINCT repository FROM terms WHERE term >= $1 AND term < $2 \
             ORDER BY repository DESC LIMIT $3) AS found",
        );
        for at in 0..wanted.len() {
            let (low, high) = (at * 2 + 4, at * 2 + 5);
            sql += if at == 0 { " WHERE " } else { " AND " };
            sql += &format!(
                "EXISTS (SELECT 1 FROM terms WHERE repository = found.repository AND term >= ${low} AND term < ${high})"
            );
        }
        let mut query = sqlx::query_as::<sqlx::Any, (i64,)>(AssertSqlSafe(sql));
        query = query.bind(first.as_str()).bind(behind(&first)).bind(CANDIDATES);
        for word in &wanted {
            query = query.bind(word.as_str()).bind(behind(word));
        }
        let found = query.fetch_all(&self.database().read).await?;
        Ok(found.into_iter().map(|(id,)| id).collect())
    }

    /// Puts candidates in order and cuts the page out.
    async fn ranked(&self, ids: &[i64], page: &PageRequest) -> Result<Listed<RepositoryEntry>, IndexError> {
        let after = page.after()?;
        let limit = page.limit();
        let mut ranks: Vec<PageCursor> = Vec::with_capacity(ids.len());
        for piece in ids.chunks(250) {
            let list: Vec<String> = piece.iter().map(ToString::to_string).collect();
            // Numbers of our own, not text of anybody.
            let sql = AssertSqlSafe(format!(
                "SELECT r.stars, r.pulls, r.id FROM repositories r JOIN repos o ON o.id = r.repo \
                 WHERE o.status = 'active' AND r.last_push > 0 AND r.id IN ({})",
                list.join(", ")
            ));
            let found: Vec<(i64, i64, i64)> = sqlx::query_as::<sqlx::Any, _>(sql)
                .persistent(false)
                .fetch_all(&self.database().read)
                .await?;
            ranks.extend(found.into_iter().map(|(stars, pulls, id)| PageCursor(vec![stars, pulls, id])));
        }
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        let rest: Vec<&PageCursor> = ranks
            .iter()
            .filter(|rank| after.as_ref().is_none_or(|after| *rank < after))
            .take(limit + 1)
            .collect();
        let more = rest.len() > limit;
        let shown = &rest[..rest.len().min(limit)];
        let next = if more { shown.last().map(ToString::to_string) } else { None };
        let wanted: Vec<i64> = shown.iter().filter_map(|rank| rank.0.last().copied()).collect();
        Ok(Listed { items: self.repositories_by_id(&wanted).await?, next })
    }
}

/// The digests that a query may mean: `sha256:` with some digits, or eight or more digits alone.
fn digest_range(query: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    if let Ok(digest) = query.parse::<Digest>() {
        return Some((digest.as_bytes().to_vec(), digest.as_bytes().to_vec()));
    }
    let (hex, most) = if let Some(hex) = query.strip_prefix("sha512:") {
        (hex, 64)
    } else {
        (query.strip_prefix("sha256:").unwrap_or(query), 32)
    };
    if hex.len() < 8 { None } else { prefix_range(hex, most) }
}

/// The least and the greatest value of `length` bytes whose hex begins with `digits`.
fn prefix_range(digits: &str, length: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let valid = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !valid || digits.len() > length * 2 {
        return None;
    }
    let fill = |with: char| -> Option<Vec<u8>> {
        let full: String = digits.chars().chain(std::iter::repeat(with)).take(length * 2).collect();
        (0..full.len()).step_by(2).map(|at| u8::from_str_radix(full.get(at..at + 2)?, 16).ok()).collect()
    };
    Some((fill('0')?, fill('f')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        assert_eq!(words("Tools/my-App_2, ÄPFEL").collect::<Vec<_>>(), ["tools", "my", "app", "2", "äpfel"]);
        assert_eq!(words("x".repeat(1000).as_str()).next().unwrap().len(), MAX_WORD);
    }

    #[test]
    fn digests_are_told_from_words() {
        let digest = Digest::sha256(b"x");
        assert_eq!(digest_range(&digest.to_string()).unwrap().0, digest.as_bytes());
        let (low, high) = digest_range(&digest.hex()[..9]).unwrap();
        assert!(low.as_slice() <= digest.as_bytes() && digest.as_bytes() <= high.as_slice());
        assert!(digest_range("sha256:abcdef01").is_some());
        for word in ["abcdef0", "nginx", "sha256:xyz", "abcdefgh1"] {
            assert!(digest_range(word).is_none(), "{word}");
        }
    }
}
