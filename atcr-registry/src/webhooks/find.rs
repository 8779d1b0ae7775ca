//! What has happened in the index that hooks are to be told of.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use atcr_core::did_resolver::DidDocument;
use atcr_core::syntax::Did;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{MissedTickBehavior, interval};

use super::hook::Hook;
use super::payload::{Event, Hold, Owner, Push, Scan};
use super::store::Interest;
use super::{Inner, Trigger, WebhookError};
use crate::index::{PageRequest, RecentMove, RecentScan};

/// What is older than this when it is first seen is history.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// What has just been taken in is looked for here.
const LATELY: SignedDuration = SignedDuration::from_mins(2);
/// All scans of an account are read so often, those included that came too late to be told.
const ALL_SCANS: SignedDuration = SignedDuration::from_hours(24);
/// Moves, or scans, of an account that are looked at in one go.
const MOST: usize = 10_000;
/// Those that are noted in one transaction.
const PIECE: usize = 200;
/// How long it is waited after something failed.
const PAUSE: Duration = Duration::from_secs(1);

impl Inner {
    /// Pushes: those that this process hears of at once, the others at an interval.
    pub(super) async fn pushes_for_ever(&self) {
        let (mut changes, mut hooks) = (self.index.subscribe(), self.hooks.subscribe());
        let mut ticks = interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut accounts = HashMap::new();
        loop {
            let heard = tokio::select! {
                heard = changes.recv() => match heard {
                    Ok(did) => Some(BTreeSet::from([did])),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => None,
                },
                _ = ticks.tick() => None,
                _ = hooks.changed() => None,
            };
            let mut heard = heard;
            while let Some(dids) = &mut heard {
                match changes.try_recv() {
                    Ok(did) => _ = dids.insert(did),
                    Err(TryRecvError::Empty) => break,
                    Err(_) => heard = None,
                }
            }
            let found = match heard {
                Some(dids) => {
                    let known = |did: &Did| accounts.get(did).is_some_and(|of: &Interest| of.pushes);
                    self.pushes_of(dids.into_iter().filter(|did| known(did)), LATELY).await
                }
                None => self.all_pushes(&mut accounts).await,
            };
            if let Err(error) = found {
                tracing::warn!(%error, "pushes cannot be looked for; it is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn all_pushes(&self, accounts: &mut HashMap<Did, Interest>) -> Result<(), WebhookError> {
        *accounts = self.store.accounts().await?.into_iter().collect();
        let dids: Vec<Did> =
            accounts.iter().filter(|(_, of)| of.pushes).map(|(did, _)| did.clone()).collect();
        self.pushes_of(dids, WINDOW).await
    }

    async fn pushes_of(
        &self,
        dids: impl IntoIterator<Item = Did>,
        window: SignedDuration,
    ) -> Result<(), WebhookError> {
        for did in dids {
            if self.find_pushes(&did, window).await? > 0 {
                self.work.notify_one();
            }
        }
        Ok(())
    }

    /// Scans, at an interval: they are in the repos of holds, and nobody waits for them.
    pub(super) async fn scans_for_ever(&self) {
        let mut hooks = self.hooks.subscribe();
        let mut ticks = interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = hooks.changed() => {}
            }
            if let Err(error) = self.all_scans().await {
                tracing::warn!(%error, "scans cannot be looked for; it is tried again");
            }
        }
    }

    async fn all_scans(&self) -> Result<(), WebhookError> {
        for (did, interest) in self.store.accounts().await? {
            if interest.scans && self.find_scans(&did, interest.scans_read_at).await? > 0 {
                self.work.notify_one();
            }
        }
        self.store.tidy(self.now()).await
    }

    pub(super) async fn find_all(&self) -> Result<(), WebhookError> {
        self.all_pushes(&mut HashMap::new()).await?;
        self.all_scans().await
    }

    fn ago(&self, time: SignedDuration) -> Timestamp {
        self.now().checked_sub(time).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    async fn hooks_of(&self, did: &Did, wants: impl Fn(&Hook) -> bool) -> Result<Vec<Hook>, WebhookError> {
        let hooks = self.store.hooks(did).await?.into_iter();
        Ok(hooks.filter(|hook| hook.off_since.is_none() && wants(hook)).collect())
    }

    async fn find_pushes(&self, did: &Did, window: SignedDuration) -> Result<usize, WebhookError> {
        let hooks = self.hooks_of(did, |hook| hook.triggers.contains(Trigger::Push)).await?;
        if hooks.is_empty() {
            return Ok(0);
        }
        let (since, oldest) = (self.ago(window), self.ago(WINDOW));
        let (mut page, mut moves) = (PageRequest::first(PIECE), Vec::new());
        loop {
            let part = self.index.moves_since(did, since, &page).await?;
            moves.extend(part.items);
            page.cursor = part.next;
            if page.cursor.is_none() || moves.len() >= MOST {
                break;
            }
        }
        let mut made = 0;
        let mut new = self.store.new_moves(did, since, moves).await?.into_iter();
        loop {
            let mut piece = Vec::new();
            for moved in new.by_ref().take(PIECE) {
                let told_since = moved.at.min(moved.written_at);
                let wanted = told_since >= oldest && hooks.iter().any(|hook| told_since >= hook.since);
                let event = if wanted { self.push(did, &moved).await? } else { None };
                piece.push((moved, event));
            }
            if piece.is_empty() {
                return Ok(made);
            }
            made += self.store.note_moves(did, &piece, &hooks, self.now()).await?;
        }
    }

    async fn push(&self, did: &Did, moved: &RecentMove) -> Result<Option<Event>, WebhookError> {
        // That a tag is gone is noted, and nobody is told.
        let Some(digest) = moved.digest else { return Ok(None) };
        let repository = self.index.repository(did, &moved.repository).await?;
        let manifest = self.index.manifest(did, &moved.repository, &digest).await?;
        let hold = match manifest.as_ref().and_then(|manifest| manifest.hold.clone()) {
            Some(hold) => Some(self.hold(hold).await?),
            None => None,
        };
        Ok(Some(Event::Push(Push {
            owner: self.owner(did).await?,
            repository: moved.repository.clone(),
            tag: moved.tag.clone(),
            digest,
            pushed_at: moved.at,
            media_type: manifest.map(|manifest| manifest.media_type.to_string()),
            stars: repository.as_ref().map_or(0, |repository| repository.stars),
            pulls: repository.as_ref().map_or(0, |repository| repository.pulls),
            hold,
        })))
    }

    pub(super) async fn owner(&self, did: &Did) -> Result<Owner, WebhookError> {
        let account = self.index.account(did).await?;
        let handle = account.and_then(|account| account.handle.as_ref().map(ToString::to_string));
        Ok(Owner { did: did.clone(), handle })
    }

    async fn hold(&self, did: Did) -> Result<Hold, WebhookError> {
        let account = self.index.account(&did).await?;
        let document = account.as_ref().and_then(|account| account.document.as_deref());
        let document = document.and_then(|text| serde_json::from_str::<DidDocument>(text).ok());
        let url =
            document.and_then(|document| document.service("atcr_hold").or_else(|_| document.pds()).ok());
        let endpoint = match url {
            Some(url) => Some(url.as_str().trim_end_matches('/').to_owned()),
            // Its host is its name.
            None => did
                .as_str()
                .strip_prefix("did:web:")
                .filter(|host| !host.contains(':'))
                .map(|host| format!("https://{}", host.replace("%3A", ":"))),
        };
        Ok(Hold { did, endpoint })
    }

    async fn find_scans(&self, did: &Did, read_at: Timestamp) -> Result<usize, WebhookError> {
        let hooks = self.hooks_of(did, |hook| hook.triggers.has_scans()).await?;
        let all = read_at < self.ago(ALL_SCANS);
        let since = if all { Timestamp::UNIX_EPOCH } else { self.ago(WINDOW) };
        let (mut page, mut made, mut seen) = (PageRequest::first(PIECE), 0, 0);
        loop {
            let part = self.index.scans_since(did, since, &page).await?;
            seen += part.items.len();
            let mut piece = Vec::new();
            for scan in part.items {
                if let Some(told) = self.scan(did, &scan, &hooks).await? {
                    piece.push((scan, told));
                }
            }
            made += self.store.note_scans(did, &piece, self.now()).await?;
            page.cursor = part.next;
            if page.cursor.is_none() || seen >= MOST {
                break;
            }
        }
        if all {
            self.store.scans_read(did, self.now()).await?;
        }
        Ok(made)
    }

    /// What each hook is told of a scan; `None` when it is known, or says nothing.
    async fn scan<'h>(
        &self,
        did: &Did,
        scan: &RecentScan,
        hooks: &'h [Hook],
    ) -> Result<Option<Vec<(&'h Hook, Event)>>, WebhookError> {
        // A scan of the future would hide those that come.
        let ahead = self.now().checked_add(WINDOW).unwrap_or(Timestamp::MAX);
        if scan.status != "ok" || scan.scanned_at > ahead {
            return Ok(None);
        }
        let last = self.store.last_scan(did, &scan.hold, &scan.digest).await?;
        if last.is_some_and(|(at, _)| at >= scan.scanned_at) {
            return Ok(None);
        }
        let last = last.map(|(_, counts)| counts);
        let mut told = Vec::new();
        for hook in hooks {
            let wants = |trigger| hook.triggers.contains(trigger);
            let trigger = match last {
                _ if scan.scanned_at < hook.since.max(self.ago(WINDOW)) => continue,
                None if wants(Trigger::ScanFirst) => Trigger::ScanFirst,
                Some(last) if last != scan.counts && wants(Trigger::ScanChanged) => Trigger::ScanChanged,
                _ if wants(Trigger::ScanAll) => Trigger::ScanAll,
                _ => continue,
            };
            let tags = self.index.tags_of(did, &scan.repository, &scan.digest).await?;
            let event = Event::Scan(Scan {
                trigger: trigger.as_str().to_owned(),
                owner: self.owner(did).await?,
                repository: scan.repository.clone(),
                tag: tags.into_iter().next(),
                digest: scan.digest,
                hold: self.hold(scan.hold.clone()).await?,
                scanned_at: scan.scanned_at,
                scanner: scan.scanner.clone(),
                counts: scan.counts,
                previous: last.filter(|_| trigger == Trigger::ScanChanged),
            });
            told.push((hook, event));
        }
        Ok(Some(told))
    }
}
