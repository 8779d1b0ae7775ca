//! The one task that writes.

mod batch;
mod commit;
mod import;

use std::sync::Arc;

use atcr_core::syntax::{Datetime, Did, Handle};
use ipld_core::cid::Cid;
use tokio::sync::{mpsc, oneshot};

use super::cache::NodeCache;
use super::event_log::EventLog;
use super::prepared::Writes;
use super::{Applied, Event, Head, Import, Imported, KeyStore, NewEvent, RepoError};
use crate::store::{RepoStatus, RepoStore, StoreError};
use batch::{Batch, Done};

/// Requests that wait; more wait at the door.
pub(super) const QUEUE: usize = 1024;
/// Requests of one transaction.
const BATCH: usize = 256;
/// Bytes of new records, and single writes, of one transaction. One request may have more.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
const BATCH_WRITES: usize = 2048;

type Reply<T> = oneshot::Sender<Result<T, RepoError>>;

/// What the writer is asked to do. The reply comes when it is durable.
pub(super) enum Request {
    Apply(Writes, Reply<Applied>),
    Create(Did, Option<Handle>, Reply<Head>),
    Resign(Did, Reply<Head>),
    SetStatus(Did, RepoStatus, Reply<()>),
    Delete(Did, Reply<()>),
    Import(Did, Import, Reply<Imported>),
    Append(NewEvent, Reply<Arc<Event>>),
    ForgetBlobs(Datetime, usize, Reply<Vec<(Did, Cid)>>),
}

impl Request {
    fn weight(&self) -> (usize, usize) {
        match self {
            Self::Apply(writes, _) => (writes.bytes(), writes.list.len()),
            _ => (0, 1),
        }
    }

    /// Whether requests behind it must wait for the next transaction.
    fn ends_batch(&self) -> bool {
        matches!(self, Self::Delete(..) | Self::ForgetBlobs(..))
    }

    fn did(&self) -> Option<&Did> {
        match self {
            Self::Apply(writes, _) => Some(&writes.did),
            Self::Create(did, ..)
            | Self::Resign(did, _)
            | Self::SetStatus(did, ..)
            | Self::Delete(did, _) => Some(did),
            Self::Import(..) | Self::Append(..) | Self::ForgetBlobs(..) => None,
        }
    }

    fn answer(self, outcome: Result<Done, RepoError>, events: &[Arc<Event>]) {
        // Who asked may have gone; what is done is done.
        match (self, outcome) {
            (Self::Apply(_, reply), Ok(Done::Applied(applied))) => drop(reply.send(Ok(applied))),
            (Self::Create(.., reply) | Self::Resign(_, reply), Ok(Done::Head(head))) => {
                drop(reply.send(Ok(head)));
            }
            (Self::SetStatus(.., reply) | Self::Delete(_, reply), Ok(_)) => drop(reply.send(Ok(()))),
            (Self::Append(_, reply), Ok(Done::Event(at))) => {
                drop(reply.send(events.get(at).cloned().ok_or(RepoError::Closed)));
            }
            (Self::ForgetBlobs(.., reply), Ok(Done::Forgotten(blobs))) => drop(reply.send(Ok(blobs))),
            (request, outcome) => request.fail(outcome.err().unwrap_or(RepoError::Closed)),
        }
    }

    fn fail(self, error: RepoError) {
        match self {
            Self::Apply(_, reply) => drop(reply.send(Err(error))),
            Self::Create(.., reply) | Self::Resign(_, reply) => drop(reply.send(Err(error))),
            Self::SetStatus(.., reply) | Self::Delete(_, reply) => drop(reply.send(Err(error))),
            Self::Append(_, reply) => drop(reply.send(Err(error))),
            Self::ForgetBlobs(.., reply) => drop(reply.send(Err(error))),
            Self::Import(.., reply) => drop(reply.send(Err(error))),
        }
    }
}

pub(super) struct Writer {
    pub(super) store: Arc<dyn RepoStore>,
    pub(super) keys: Arc<dyn KeyStore>,
    pub(super) nodes: Arc<NodeCache>,
    pub(super) events: Arc<EventLog>,
    pub(super) now: fn() -> u64,
    /// The clock identifier in the revisions of this process.
    pub(super) clock: u16,
}

impl Writer {
    /// Works until the last sender is gone. Requests that wait are done together: each is a commit of its own, all
    /// are one transaction, so that the cost of making it durable is shared.
    pub(super) async fn run(self, mut requests: mpsc::Receiver<Request>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(request) => request,
                None => match requests.recv().await {
                    Some(request) => request,
                    None => return,
                },
            };
            if let Request::Import(did, import, reply) = first {
                drop(reply.send(self.import(&did, import).await));
                continue;
            }
            // Those that were just answered are about to ask again: while more come, let them.
            let mut waiting = requests.len();
            loop {
                tokio::task::yield_now().await;
                if requests.len() <= waiting {
                    break;
                }
                waiting = requests.len();
            }
            let (mut bytes, mut writes) = first.weight();
            let mut batch = vec![first];
            while batch.len() < BATCH && !batch.last().is_some_and(Request::ends_batch) {
                let Ok(request) = requests.try_recv() else { break };
                let (b, w) = request.weight();
                (bytes, writes) = (bytes + b, writes + w);
                if bytes > BATCH_BYTES || writes > BATCH_WRITES || matches!(request, Request::Import(..)) {
                    next = Some(request);
                    break;
                }
                batch.push(request);
            }
            self.batch(batch).await;
        }
    }

    async fn batch(&self, requests: Vec<Request>) {
        match self.write(&requests).await {
            Ok((outcomes, events)) => {
                for (request, outcome) in requests.into_iter().zip(outcomes) {
                    request.answer(outcome, &events);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for request in requests {
                    request.fail(RepoError::Store(error.clone()));
                }
            }
        }
    }

    /// Makes the changes, writes them, and announces them.
    async fn write(
        &self,
        requests: &[Request],
    ) -> Result<(Vec<Result<Done, RepoError>>, Vec<Arc<Event>>), StoreError> {
        let mut batch = Batch::new(self, self.store.begin().await?);
        let outcomes = batch.make(requests).await;
        let events = self.events.publish(batch.finish(&self.datetime()).await?);
        Ok((outcomes, events))
    }

    fn datetime(&self) -> Datetime {
        let micros = i64::try_from((self.now)()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_microsecond(micros).map_or_else(|_| Datetime::now(), Datetime::from)
    }
}
