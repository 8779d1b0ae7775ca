use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::{ConnectionLimits, serve};

/// A registry that serves on a port of its own. It stops when this is dropped.
#[derive(Debug)]
pub struct RunningRegistry {
    addr: SocketAddr,
    server: JoinHandle<()>,
}

impl RunningRegistry {
    pub(crate) async fn start(router: axum::Router) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let limits = ConnectionLimits::default();
        // It ends when its task is aborted, and its connections with it.
        let server = tokio::spawn(serve(listener, router, limits, std::future::pending()));
        Ok(Self { addr, server })
    }

    /// Where it listens; its text form is what stands before an image's name: `127.0.0.1:port/app`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its address as a URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        self.server.abort();
    }
}
