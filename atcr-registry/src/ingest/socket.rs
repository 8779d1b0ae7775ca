//! WebSockets through the egress gate.

use atcr_core::egress::Egress;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode, Version, header};
use reqwest::Upgraded;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use url::Url;

use super::IngestError;

/// The longest message that is read: a frame of the protocol.
pub(super) const MAX_MESSAGE: usize = 5_000_000;

/// Opens a WebSocket (RFC 6455). `ws` and `wss` are `http` and `https` to the gate.
pub(super) async fn connect(egress: &Egress, url: &Url) -> Result<WebSocketStream<Upgraded>, IngestError> {
    let mut url = url.clone();
    let scheme = match url.scheme() {
        "ws" | "http" => "http",
        _ => "https",
    };
    url.set_scheme(scheme).map_err(|()| IngestError::Stream(format!("{url} is not a URL of a WebSocket")))?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| IngestError::Stream(error.to_string()))?;
    let key = STANDARD.encode(random);
    let request = egress
        .request(Method::GET, url)?
        .version(Version::HTTP_11)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key);
    let response = egress.send(request).await?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(IngestError::Stream(format!("the source answered {status}")));
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(http::HeaderValue::as_bytes);
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(IngestError::Stream("the source does not speak WebSocket".to_owned()));
    }
    let upgraded = response.upgrade().await.map_err(|error| IngestError::Stream(error.to_string()))?;
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
}
