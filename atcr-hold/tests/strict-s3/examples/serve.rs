//! Serves until it is ended, and says how it is reached: for trying a hold or its doctor by hand.

use strict_s3::{ACCESS_KEY, BUCKET, REGION, Rules, SECRET_KEY, Server};

#[tokio::main]
async fn main() {
    let server = Server::start(Rules::default()).await;
    println!(
        "S3_ENDPOINT={} S3_BUCKET={BUCKET} AWS_REGION={REGION} AWS_ACCESS_KEY_ID={ACCESS_KEY} \
         AWS_SECRET_ACCESS_KEY={SECRET_KEY}",
        server.endpoint()
    );
    std::future::pending::<()>().await;
}
