//! A PLC directory and a PDS with two accounts on loopback, for trying clients against:
//! `cargo run -p atcr-pds --features accounts --example dev_pds [--client-origin HTTPS=HTTP] [data directory]`.
//!
//! OAuth clients sign in as `http://localhost`, or from an https origin whose documents are taken from elsewhere, as
//! in `--client-origin https://app.example.com=http://127.0.0.1:8999`. Prints one line of JSON when it is ready, and
//! ends with Ctrl-C.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use atcr_core::egress::{Egress, EgressPolicy};
use atcr_pds::Clock;
use atcr_pds::accounts::{EgressDocuments, Pds, PdsConfig};
use atcr_pds::plc::directory::Directory;
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut documents = EgressDocuments::new(Egress::new(EgressPolicy::development())?);
    let mut data_dir: Option<PathBuf> = None;
    let mut arguments = std::env::args();
    arguments.next();
    while let Some(argument) = arguments.next() {
        if argument == "--client-origin" {
            let mapping = arguments.next().unwrap_or_default();
            let (from, to) = mapping.split_once('=').ok_or("--client-origin takes HTTPS=HTTP")?;
            documents = documents.with_origin(&from.parse()?, to.parse()?);
        } else {
            data_dir = Some(argument.into());
        }
    }
    if let Some(dir) = &data_dir {
        std::fs::create_dir_all(dir)?;
    }
    // Documents name the PDS, so that it needs the same port again over the same data.
    let port = if data_dir.is_some() { 2583 } else { 0 };
    let pds_socket = TcpListener::bind(("127.0.0.1", port)).await?;
    let plc_socket = TcpListener::bind(("127.0.0.1", 0)).await?;
    let pds_url = format!("http://localhost:{}", pds_socket.local_addr()?.port());
    let plc_url = format!("http://localhost:{}", plc_socket.local_addr()?.port());

    let plc_file = data_dir.as_ref().map(|dir| dir.join("plc.sqlite"));
    let directory = Directory::open(plc_file.as_deref(), Clock::system()).await?;
    let mut config = PdsConfig::new(pds_url.parse()?, Arc::new(directory.clone()));
    config.data_dir = data_dir;
    config.client_documents = Some(Arc::new(documents));
    let pds = Pds::open(config).await?;
    let alice = pds.ensure_account(&"alice.test".parse()?, "alice-pass", "alice@example.test").await?;
    let bob = pds.ensure_account(&"bob.test".parse()?, "bob-pass", "bob@example.test").await?;

    println!(
        "{}",
        json!({"pds": pds_url, "plc": plc_url, "accounts": [
            {"handle": "alice.test", "password": "alice-pass", "did": alice},
            {"handle": "bob.test", "password": "bob-pass", "did": bob},
        ]})
    );
    tokio::select! {
        ended = axum::serve(pds_socket, pds.router()) => ended?,
        ended = axum::serve(plc_socket, directory.router()) => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}
