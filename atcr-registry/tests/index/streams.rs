//! Streams whose server does what a test wants: sources that compress, lie, lose events, and end what they have begun.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::any;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use url::Url;

/// What a connection says, and whether it ends then.
struct Script {
    messages: Vec<Message>,
    ends: bool,
    /// Nothing is said before this.
    when: Option<Arc<Notify>>,
}

/// A server of a stream. Each connection follows the next of its scripts; after the last one nothing is said.
#[derive(Clone, Default)]
pub(crate) struct Scripted {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    /// The queries that connections were asked for with.
    queries: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    pub(crate) fn says(&self, messages: Vec<Message>, ends: bool) {
        self.scripts.lock().unwrap().push_back(Script { messages, ends, when: None });
    }

    /// The next connection waits, says this, and does not end.
    pub(crate) fn says_when(&self, messages: Vec<Message>) -> Arc<Notify> {
        let when = Arc::new(Notify::new());
        let script = Script { messages, ends: false, when: Some(Arc::clone(&when)) };
        self.scripts.lock().unwrap().push_back(script);
        when
    }

    pub(crate) fn queries(&self) -> Vec<String> {
        self.queries.lock().unwrap().clone()
    }

    /// A route that streams.
    pub(crate) fn router(&self, path: &str) -> Router {
        Router::new().route(path, any(stream)).with_state(self.clone())
    }
}

async fn stream(
    State(server): State<Scripted>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Response {
    server.queries.lock().unwrap().push(query.unwrap_or_default());
    let script = server.scripts.lock().unwrap().pop_front();
    upgrade.on_upgrade(async move |mut socket| {
        let nothing = Script { messages: Vec::new(), ends: false, when: None };
        let Script { messages, ends, when } = script.unwrap_or(nothing);
        if let Some(when) = when {
            when.notified().await;
        }
        for message in messages {
            if socket.send(message).await.is_err() {
                return;
            }
        }
        // The other side ends it, unless this one does.
        while !ends && socket.recv().await.is_some_and(|message| message.is_ok()) {}
    })
}

/// Serves on loopback.
pub(crate) async fn serve(router: Router) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url.parse().unwrap()
}
