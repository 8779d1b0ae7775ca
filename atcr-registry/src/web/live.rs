use std::convert::Infallible;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use tokio::sync::broadcast::error::RecvError;

use super::error::PageError;
use super::path;
use super::ui::WebUi;

/// `/live/{owner}`: an event each time that the index has taken in a change of the account's repo. It says nothing of
/// what changed; a page asks anew.
pub(super) async fn listen(
    State(ui): State<WebUi>,
    Path(owner): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, PageError> {
    let place = ui.listeners().clone().try_acquire_owned().map_err(|_| PageError::Busy)?;
    let changes = ui.index().subscribe();
    let account = path::account(&ui, &owner).await?;
    let events = stream::unfold((changes, place), move |(mut changes, place)| {
        let did = account.did.clone();
        async move {
            loop {
                match changes.recv().await {
                    Ok(changed) if changed != did => {}
                    // Who has missed some may have missed this one.
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        return Some((Ok(Event::default().event("change").data("")), (changes, place)));
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}
