//! The one task that writes.

mod batch;
mod commit;
mod flight;
mod import;
mod request;
mod view;

use std::sync::Arc;

use atcr_core::syntax::Datetime;
use tokio::sync::mpsc;

use super::KeyStore;
use super::cache::NodeCache;
use super::event_log::EventLog;
use crate::store::RepoStore;
use batch::Batch;
use flight::{Flight, Landed};
use request::{Group, Queue};
use view::View;

pub(super) use request::{QUEUE, Request};

/// A batch of this many requests is written as soon as the store is free for it; one with fewer takes in who has just
/// been answered, so that a transaction is not spent on each.
const ENOUGH: usize = 16;

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
    /// are one transaction, so that the cost of making it durable is shared. While the store writes one batch the next
    /// is made on top of it; who asked is answered when it is durable, and it is made anew if the one below it failed.
    pub(super) async fn run(self, requests: mpsc::Receiver<Request>) {
        let mut queue = Queue::new(requests);
        let mut flight = Flight::none();
        loop {
            let request = tokio::select! {
                biased;
                landed = flight.land() => {
                    flight = self.after(landed).await;
                    continue;
                }
                request = queue.next() => request,
            };
            let Some(request) = request else { break };
            if let Request::Import(did, import, reply) = request {
                self.wait(flight).await;
                flight = Flight::none();
                drop(reply.send(self.import(&did, import).await));
            } else if let Some(tip) = flight.tip()
                && request.is_plain()
            {
                let batch = Batch::on(&self, tip);
                flight = self.ahead(batch, flight, request, &mut queue).await;
            } else {
                self.wait(flight).await;
                let mut group = Group::new(request);
                queue.gather(&mut group).await;
                flight = self.alone(group.into_list()).await;
            }
        }
        self.wait(flight).await;
    }

    /// Makes a batch in the transaction that it is written in.
    async fn alone(&self, requests: Vec<Request>) -> Flight {
        let tx = match self.store.begin().await {
            Ok(tx) => tx,
            Err(error) => {
                request::fail(requests, error);
                return Flight::none();
            }
        };
        let mut batch = Batch::new(self, View::Transaction(tx));
        let outcomes = batch.make(&requests).await;
        Flight::start(self, batch, requests, outcomes)
    }

    /// Makes a batch on top of the one that is being written, out of what comes until that is done.
    async fn ahead(
        &self,
        mut batch: Batch<'_>,
        mut below: Flight,
        first: Request,
        queue: &mut Queue,
    ) -> Flight {
        let (mut group, mut outcomes) = (Group::new(first), Vec::new());
        let landed = loop {
            queue.gather_plain(&mut group).await;
            outcomes.extend(batch.make(&group.list()[outcomes.len()..]).await);
            tokio::select! {
                biased;
                landed = below.land() => break landed,
                () = queue.one_plain(&mut group) => {}
            }
        };
        if !matches!(landed, Landed::Durable) {
            drop(batch);
            self.wait(self.after(landed).await).await;
            return self.alone(group.into_list()).await;
        }
        if group.list().len() < ENOUGH {
            queue.gather_plain(&mut group).await;
            outcomes.extend(batch.make(&group.list()[outcomes.len()..]).await);
        }
        Flight::start(self, batch, group.into_list(), outcomes)
    }

    /// What is left to do when a batch has come to its end: one that another process came before is made anew.
    async fn after(&self, landed: Landed) -> Flight {
        match landed {
            Landed::Durable | Landed::Failed => Flight::none(),
            Landed::Conflict(requests) => self.alone(requests).await,
        }
    }

    /// Waits until nothing is being written.
    async fn wait(&self, mut flight: Flight) {
        while flight.is_in_the_air() {
            flight = self.after(flight.land().await).await;
        }
    }

    fn datetime(&self) -> Datetime {
        let micros = i64::try_from((self.now)()).unwrap_or(i64::MAX);
        jiff::Timestamp::from_microsecond(micros).map_or_else(|_| Datetime::now(), Datetime::from)
    }
}
