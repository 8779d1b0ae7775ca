use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::Event;
use crate::store::{RepoStore, StoreError};

/// The newest events in memory, over all that the store keeps.
pub(super) struct EventLog {
    ring: RwLock<Ring>,
    limit: usize,
    newest: watch::Sender<u64>,
}

/// Consecutive events, up to the newest.
#[derive(Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

/// What an event takes besides its body.
const OVERHEAD: usize = 200;

impl EventLog {
    pub(super) fn new(newest: u64, limit: usize) -> Self {
        Self { ring: RwLock::default(), limit, newest: watch::Sender::new(newest) }
    }

    /// Takes events that are durable, and wakes who waits for them.
    pub(super) fn publish(&self, events: Vec<Event>) -> Vec<Arc<Event>> {
        let events: Vec<Arc<Event>> = events.into_iter().map(Arc::new).collect();
        let Some(newest) = events.last().map(|e| e.seq) else { return events };
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            for event in &events {
                // Another process has written in between: what is in memory has a gap now.
                if ring.events.back().is_some_and(|last| last.seq + 1 != event.seq) {
                    *ring = Ring::default();
                }
                ring.bytes += event.body.len() + OVERHEAD;
                ring.events.push_back(event.clone());
            }
            while ring.bytes > self.limit
                && let Some(oldest) = ring.events.pop_front()
            {
                ring.bytes -= oldest.body.len() + OVERHEAD;
            }
        }
        self.newest.send_replace(newest);
        events
    }

    /// Takes note that the store has events up to `seq`, which another process may have written.
    pub(super) fn notice(&self, seq: u64) {
        if *self.newest.borrow() >= seq {
            return;
        }
        // What is in memory may not go as far; it is read from the store then.
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Ring::default();
        self.newest.send_if_modified(|newest| {
            let newer = *newest < seq;
            *newest = (*newest).max(seq);
            newer
        });
    }

    /// Forgets the events with numbers below `seq`.
    pub(super) fn forget_before(&self, seq: u64) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        while ring.events.front().is_some_and(|e| e.seq < seq)
            && let Some(oldest) = ring.events.pop_front()
        {
            ring.bytes -= oldest.body.len() + OVERHEAD;
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub(super) async fn after(
        &self,
        store: &dyn RepoStore,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        if let Some(events) = self.recent(cursor, limit) {
            return Ok(events);
        }
        Ok(store.events(cursor, limit).await?.into_iter().map(Arc::new).collect())
    }

    /// From memory, when that has everything after the cursor.
    fn recent(&self, cursor: u64, limit: usize) -> Option<Vec<Arc<Event>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let first = ring.events.front()?.seq;
        let skip = usize::try_from((cursor + 1).checked_sub(first)?).ok()?;
        Some(ring.events.iter().skip(skip).take(limit).cloned().collect())
    }
}
