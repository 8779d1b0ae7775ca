use std::sync::Arc;

use atcr_core::syntax::Datetime;
use tokio::task::JoinHandle;

use super::batch::{Batch, Done, Tip, Whole};
use super::{Request, Writer, request};
use crate::repo::event_log::EventLog;
use crate::repo::{Event, RepoError};
use crate::store::{RepoStore, StoreError};

/// How the writing of a batch ended. Except for a conflict, everybody was answered.
pub(super) enum Landed {
    /// It is durable, and announced.
    Durable,
    /// The store failed: nothing of it happened.
    Failed,
    /// Another process has written a repo that it changes; nothing of it happened.
    Conflict(Vec<Request>),
}

/// A batch that is being written by a task of its own; or none.
pub(super) struct Flight(Option<InTheAir>);

struct InTheAir {
    task: JoinHandle<Landed>,
    /// `None`: it does more than to write records, and nothing is made on top of it.
    tip: Option<Tip>,
}

impl Flight {
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Begins to write a batch.
    pub(super) fn start(
        writer: &Writer,
        batch: Batch<'_>,
        requests: Vec<Request>,
        outcomes: Vec<Result<Done, RepoError>>,
    ) -> Self {
        let (whole, tip) = batch.finish();
        let only_writes = requests.iter().all(|request| matches!(request, Request::Apply(..)));
        let (store, log, time) = (writer.store.clone(), writer.events.clone(), writer.datetime());
        let task = tokio::spawn(async move {
            let ahead = whole.tx.is_none();
            match write(&*store, &log, whole, &time).await {
                Ok(events) => {
                    for (request, outcome) in requests.into_iter().zip(outcomes) {
                        request.answer(outcome, &events);
                    }
                    Landed::Durable
                }
                Err(StoreError::Conflict(_)) if ahead => Landed::Conflict(requests),
                Err(error) => {
                    request::fail(requests, error);
                    Landed::Failed
                }
            }
        });
        Self(Some(InTheAir { task, tip: only_writes.then_some(tip) }))
    }

    pub(super) fn is_in_the_air(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn tip(&self) -> Option<&Tip> {
        self.0.as_ref()?.tip.as_ref()
    }

    /// Waits for the end; without a batch, for ever. It may be given up and called again.
    pub(super) async fn land(&mut self) -> Landed {
        let Some(flight) = &mut self.0 else { return std::future::pending().await };
        let landed = (&mut flight.task).await;
        self.0 = None;
        // Whether a task that panicked had written is not known: those who asked see that nobody answers.
        landed.unwrap_or(Landed::Failed)
    }
}

/// Makes a batch durable and announces it.
async fn write(
    store: &dyn RepoStore,
    log: &EventLog,
    whole: Whole,
    time: &Datetime,
) -> Result<Vec<Arc<Event>>, StoreError> {
    if whole.changes.is_empty() && whole.events.is_empty() && !whole.forgotten {
        return Ok(Vec::new());
    }
    let mut tx = match whole.tx {
        Some(tx) => tx,
        None => store.begin().await?,
    };
    for change in &whole.changes {
        tx.apply(change).await?;
    }
    Ok(log.publish(tx.commit(whole.events, time).await?))
}
