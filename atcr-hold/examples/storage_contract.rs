//! The contract suite of the storage on a server of your own, such as Garage:
//!
//! ```console
//! $ S3_ENDPOINT=http://127.0.0.1:3900 S3_BUCKET=test AWS_REGION=garage AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… \
//!     cargo run -p atcr-hold --features s3,contract --example storage_contract
//! ```
//!
//! It leaves nothing behind but what a failure left, below `atcr-contract/` in the bucket.

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use atcr_hold::storage::{Layout, ObjectKey, S3Config, S3Credentials, S3Storage, contract};

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = S3Config::new(variable("S3_BUCKET")?);
    config.endpoint = Some(variable("S3_ENDPOINT")?.parse()?);
    config.region = Some(variable("AWS_REGION")?);
    config.credentials = S3Credentials::Static {
        access_key_id: variable("AWS_ACCESS_KEY_ID")?,
        secret_access_key: variable("AWS_SECRET_ACCESS_KEY")?,
        session_token: None,
    };
    let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let count = AtomicU32::new(0);
    for layout in [Layout::Uploaded, Layout::Distribution] {
        contract::check(|| async {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let mut config = config.clone();
            config.layout = layout;
            let prefix = format!("atcr-contract/{run}-{number}");
            config.prefix = Some(ObjectKey::try_from(prefix).expect("digits"));
            S3Storage::open(config).await
        })
        .await;
        println!("layout {layout}: the contract is kept");
    }
    Ok(())
}
