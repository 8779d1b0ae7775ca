//! The contract suite of the storage on a container of your own, such as Azurite's:
//!
//! ```console
//! $ AZURE_ENDPOINT=http://127.0.0.1:10000/account AZURE_CONTAINER=test AZURE_STORAGE_ACCOUNT=account AZURE_STORAGE_KEY=… \
//!     cargo run -p atcr-hold --features azure,contract --example azure_contract
//! ```
//!
//! It leaves nothing behind but what a failure left, below `atcr-contract/` in the container.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use atcr_hold::storage::{AzureAccountKey, AzureConfig, AzureStorage, Layout, ObjectKey, contract};

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = AzureAccountKey::from_base64(&variable("AZURE_STORAGE_KEY")?)?;
    let mut config = AzureConfig::new(variable("AZURE_STORAGE_ACCOUNT")?, key, variable("AZURE_CONTAINER")?);
    config.endpoint = Some(variable("AZURE_ENDPOINT")?.parse()?);
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let count = AtomicU32::new(0);
    for (layout, presign) in [(Layout::Uploaded, true), (Layout::Distribution, false)] {
        contract::check(|| async {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let mut config = config.clone();
            (config.layout, config.presign) = (layout, presign);
            let prefix = format!("atcr-contract/{run}-{number}");
            config.prefix = Some(ObjectKey::try_from(prefix).expect("digits"));
            AzureStorage::open(config).await.expect("the settings are good")
        })
        .await;
        println!("layout {layout}, presign {presign}: the contract is kept");
    }
    Ok(())
}
