//! Finding the accounts that have records of ours.

use atcr_core::syntax::Did;
use atcr_core::xrpc::{XrpcClient, XrpcError};
use serde::Deserialize;
use url::Url;

use super::{IngestError, Inner, Source};
use crate::index::{Collection, Event};

/// Accounts of one answer.
const PAGE: &str = "500";
/// What a list is marked with that was read to its end.
const DONE: &str = " done";
/// The collections whose accounts are looked for. Whoever has tags or layers has one of these, too.
const COLLECTIONS: [Collection; 6] = [
    Collection::Manifest,
    Collection::Tag,
    Collection::Page,
    Collection::Star,
    Collection::Profile,
    Collection::Captain,
];

#[derive(Deserialize)]
struct Repos {
    cursor: Option<String>,
    repos: Vec<Repo>,
}

#[derive(Deserialize)]
struct Repo {
    did: Did,
}

impl Inner {
    /// Lists the accounts of a source that have records of ours, and has those read that the index does not know.
    /// `anew` when the list must be read although it was read before.
    pub(super) async fn backfill(&self, source: &Source, anew: bool) -> Result<(), IngestError> {
        // Jetstream has no lists; a relay beside it has.
        if matches!(source, Source::Jetstream(_)) {
            return Ok(());
        }
        let mut service = source.url().clone();
        let scheme = if matches!(service.scheme(), "ws" | "http") { "http" } else { "https" };
        if service.set_scheme(scheme).is_err() {
            return Ok(());
        }
        let client = XrpcClient::new(self.egress.clone(), service);
        for collection in COLLECTIONS {
            let name = format!("list {} of {}", collection.nsid(), source.name());
            let mut page = self.index.source(&name).await?.page;
            if page.as_deref() == Some(DONE) {
                if !anew {
                    continue;
                }
                page = None;
            }
            loop {
                let mut params = vec![("collection", collection.nsid()), ("limit", PAGE)];
                params.extend(page.as_deref().map(|cursor| ("cursor", cursor)));
                let answer: Result<Repos, XrpcError> =
                    client.query("com.atproto.sync.listReposByCollection", &params).await;
                let found = match answer {
                    Ok(found) => found,
                    Err(error) if !error.is_transient() && matches!(source, Source::Host(_)) => {
                        tracing::debug!(%error, "the host does not list repos by collection; all are looked at");
                        return self.look_at_all(&client, source.url()).await;
                    }
                    Err(error) => return Err(error.into()),
                };
                self.to_read(found.repos.iter().map(|repo| repo.did.clone()).collect()).await?;
                // A cursor that does not move would never end.
                let next = found.cursor.filter(|next| page.as_ref() != Some(next) && !found.repos.is_empty());
                self.index.keep_page(&name, Some(next.as_deref().unwrap_or(DONE))).await?;
                tracing::debug!(list = %name, accounts = found.repos.len(), "listed");
                match next {
                    Some(next) => page = Some(next),
                    None => break,
                }
            }
        }
        let progress = self.index.progress().await?;
        tracing::info!(source = %source.name(), repos = progress.repos, waiting = progress.waiting, "the accounts are listed");
        Ok(())
    }

    /// A PDS lists its accounts; whose repo has collections of ours is asked of each.
    async fn look_at_all(&self, client: &XrpcClient, host: &Url) -> Result<(), IngestError> {
        #[derive(Deserialize)]
        struct Described {
            collections: Vec<String>,
        }
        let mut page: Option<String> = None;
        loop {
            let mut params = vec![("limit", PAGE)];
            params.extend(page.as_deref().map(|cursor| ("cursor", cursor)));
            let found: Repos = client.query("com.atproto.sync.listRepos", &params).await?;
            for repo in &found.repos {
                let described: Result<Described, XrpcError> =
                    client.query("com.atproto.repo.describeRepo", &[("repo", repo.did.as_str())]).await;
                match described {
                    Ok(described)
                        if described.collections.iter().any(|name| Collection::of(name).is_some()) =>
                    {
                        self.to_read(vec![repo.did.clone()]).await?;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%host, did = %repo.did, %error, "a repo that is not described");
                    }
                }
            }
            match found.cursor.filter(|next| page.as_ref() != Some(next) && !found.repos.is_empty()) {
                Some(next) => page = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Has those read that the index does not know.
    async fn to_read(&self, dids: Vec<Did>) -> Result<(), IngestError> {
        let mut events = Vec::new();
        for did in dids {
            self.known.insert(did.as_str());
            if self.index.account(&did).await?.is_none() {
                events.push(Event::Missed { did, rev: None });
            }
        }
        if !events.is_empty() {
            self.index.apply(&events, None).await?;
            self.work.notify_one();
        }
        Ok(())
    }
}
