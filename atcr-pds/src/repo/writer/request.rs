use std::sync::Arc;

use atcr_core::syntax::{Datetime, Did, Handle};
use ipld_core::cid::Cid;
use tokio::sync::{mpsc, oneshot};

use super::ENOUGH;
use super::batch::Done;
use crate::repo::prepared::Writes;
use crate::repo::{Applied, Event, Head, Import, Imported, NewEvent, RepoError};
use crate::store::{RepoStatus, StoreError};

/// Requests that wait; more wait at the door.
pub(in crate::repo) const QUEUE: usize = 1024;
/// Requests of one transaction.
const BATCH: usize = 256;
/// Bytes of new records, and single writes, of one transaction. One request may have more.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
const BATCH_WRITES: usize = 2048;

type Reply<T> = oneshot::Sender<Result<T, RepoError>>;

/// What the writer is asked to do. The reply comes when it is durable.
pub(in crate::repo) enum Request {
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

    /// Whether it needs nothing but repos to be where they were: it may be made before its transaction begins.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Apply(writes, _) if !writes.name_blobs())
    }

    /// Whether requests behind it must wait for the next transaction.
    fn ends_batch(&self) -> bool {
        matches!(self, Self::Delete(..) | Self::ForgetBlobs(..))
    }

    pub(super) fn did(&self) -> Option<&Did> {
        match self {
            Self::Apply(writes, _) => Some(&writes.did),
            Self::Create(did, ..)
            | Self::Resign(did, _)
            | Self::SetStatus(did, ..)
            | Self::Delete(did, _) => Some(did),
            Self::Import(..) | Self::Append(..) | Self::ForgetBlobs(..) => None,
        }
    }

    pub(super) fn answer(self, outcome: Result<Done, RepoError>, events: &[Arc<Event>]) {
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

/// Tells everybody that the store failed.
pub(super) fn fail(requests: Vec<Request>, error: StoreError) {
    let error = Arc::new(error);
    for request in requests {
        request.fail(RepoError::Store(error.clone()));
    }
}

/// Requests that are done in one transaction.
pub(super) struct Group {
    list: Vec<Request>,
    bytes: usize,
    writes: usize,
}

impl Group {
    pub(super) fn new(first: Request) -> Self {
        let (bytes, writes) = first.weight();
        Self { list: vec![first], bytes, writes }
    }

    pub(super) fn list(&self) -> &[Request] {
        &self.list
    }

    pub(super) fn into_list(self) -> Vec<Request> {
        self.list
    }

    fn has_room(&self) -> bool {
        self.list.len() < BATCH && !self.list.last().is_some_and(Request::ends_batch)
    }

    /// Takes a request in, or gives it back when there is no place for it.
    fn push(&mut self, request: Request) -> Option<Request> {
        let (bytes, writes) = request.weight();
        let (bytes, writes) = (self.bytes + bytes, self.writes + writes);
        let fits = self.has_room() && bytes <= BATCH_BYTES && writes <= BATCH_WRITES;
        if !fits || matches!(request, Request::Import(..)) {
            return Some(request);
        }
        (self.bytes, self.writes) = (bytes, writes);
        self.list.push(request);
        None
    }
}

/// The requests, in the order in which they came.
pub(super) struct Queue {
    requests: mpsc::Receiver<Request>,
    /// One that was taken out and had no place.
    held: Option<Request>,
}

impl Queue {
    pub(super) fn new(requests: mpsc::Receiver<Request>) -> Self {
        Self { requests, held: None }
    }

    /// `None`: nobody is left to ask.
    pub(super) async fn next(&mut self) -> Option<Request> {
        match self.held.take() {
            Some(request) => Some(request),
            None => self.requests.recv().await,
        }
    }

    /// Adds requests that wait. Of many only half: the others are made while these are being written.
    pub(super) async fn gather(&mut self, group: &mut Group) {
        self.settle().await;
        let limit = ENOUGH.max(self.requests.len().div_ceil(2));
        self.take(group, limit, |_| true);
    }

    /// Adds requests that wait and may be made ahead.
    pub(super) async fn gather_plain(&mut self, group: &mut Group) {
        self.settle().await;
        self.take(group, BATCH, Request::is_plain);
    }

    /// Waits for a request that may be made ahead, and adds it; for ever, when the next one may not. It loses nothing
    /// when it is given up.
    pub(super) async fn one_plain(&mut self, group: &mut Group) {
        while self.held.is_none() && group.has_room() {
            match self.requests.recv().await {
                Some(request) if request.is_plain() => self.held = group.push(request),
                Some(request) => self.held = Some(request),
                None => break,
            }
            if self.held.is_none() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Those that were just answered are about to ask again: while more come, lets them.
    async fn settle(&mut self) {
        let mut waiting = self.requests.len();
        loop {
            tokio::task::yield_now().await;
            if self.requests.len() <= waiting {
                return;
            }
            waiting = self.requests.len();
        }
    }

    fn take(&mut self, group: &mut Group, limit: usize, may: impl Fn(&Request) -> bool) {
        while group.list.len() < limit && group.has_room() && self.held.is_none() {
            let Ok(request) = self.requests.try_recv() else { return };
            if may(&request) {
                self.held = group.push(request);
            } else {
                self.held = Some(request);
            }
        }
    }
}
