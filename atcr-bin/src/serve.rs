//! Listening, and ending.

use std::time::Duration;

use atcr_registry::ConnectionLimits;
use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Error;

/// How long requests that are under way may go on after the order to stop.
const GRACE: Duration = Duration::from_secs(10);

/// The order to stop, which every server of a process waits for.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// Ordered by SIGTERM or SIGINT.
    pub fn on_signals() -> Result<Self, Error> {
        use tokio::signal::unix::{SignalKind, signal};
        let (order, shutdown) = watch::channel(false);
        let failed = |e| Error::Start { what: "the signal handler", source: Box::new(e) };
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // Nobody listens any more when every server has ended already.
            let _ = order.send(true);
        });
        Ok(Self(shutdown))
    }

    /// Waits for the order.
    pub async fn ordered(mut self) {
        // The sender goes away only after it has sent.
        let _ = self.0.wait_for(|ordered| *ordered).await;
    }
}

/// Lets SIGHUP, by which those who rotate logs say that they have, not end the process. The audit log notices by itself.
pub fn outlive_hangup() -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    // The handler stays when what listens to it goes.
    signal(SignalKind::hangup()).map(drop).map_err(Error::start("the signal handler"))
}

/// Binds an address such as `127.0.0.1:5000` or `:8080`, which means every interface.
pub async fn listen(addr: &str) -> Result<TcpListener, Error> {
    let full = if addr.starts_with(':') { format!("0.0.0.0{addr}") } else { addr.to_owned() };
    TcpListener::bind(&full).await.map_err(|source| Error::Listen { addr: addr.to_owned(), source })
}

/// Serves until the order to stop; then requests under way have ten seconds to end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let addr = listener.local_addr().map(|addr| addr.to_string()).unwrap_or_default();
    let served = atcr_registry::serve(listener, router, limits, shutdown.clone().ordered());
    let out_of_patience = async {
        shutdown.ordered().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = served => {}
        () = out_of_patience => {
            tracing::warn!(%addr, "requests were still under way when the time to stop was up");
        }
    }
    Ok(())
}
