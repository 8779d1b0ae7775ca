use atcr_core::syntax::Tid;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use tokio::sync::OwnedSemaphorePermit;

use super::walk::Walk;
use super::{RepoError, car};
use crate::store::Snapshot;

/// The blocks of a repo that came after `since`, the commit first. The permit is given back with the stream.
pub(super) fn stream(
    snapshot: Box<dyn Snapshot>,
    permit: OwnedSemaphorePermit,
    since: Option<Tid>,
) -> BoxStream<'static, Result<Bytes, RepoError>> {
    let head = snapshot.info().head;
    let walk = match since {
        Some(since) if since >= head.rev => Walk::nothing(snapshot),
        _ => Walk::repo(snapshot, since),
    };
    let blocks = try_unfold((walk, permit), |(mut walk, permit)| async move {
        Ok(walk.next().await?.map(|step| ((step.block.cid, step.block.bytes), (walk, permit))))
    });
    car::stream(head.cid, Box::pin(blocks)).boxed()
}
