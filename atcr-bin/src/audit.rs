//! Who did what, when, and from where: the events of the tracing target [`AUDIT`], one JSON object per line in a file.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use atcr_auth::TrustedProxies;
use atcr_core::AUDIT;
use atcr_core::files::open_private;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument as _, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::Error;

/// No field of a line has more characters: strangers choose some of them.
const LONGEST: usize = 512;

/// The audit log: a layer of the log that writes to a file of its own, and for its owner alone.
///
/// A line is one write to a file that is open for appending, so several processes may share it. A file that was moved or
/// removed is made anew with the next line, and one that was emptied is gone on with: whatever rotates logs may do so.
#[derive(Debug, Clone)]
pub struct AuditLog(Arc<Mutex<AuditFile>>);

#[derive(Debug)]
struct AuditFile {
    path: PathBuf,
    file: File,
    /// Whether the last line was lost, which is said once.
    failing: bool,
}

impl AuditLog {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = open_private(path).map_err(Error::file(path, "written"))?;
        Ok(Self(Arc::new(Mutex::new(AuditFile { path: path.to_owned(), file, failing: false }))))
    }

    fn write(&self, line: &[u8]) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = log.reopen_when_moved().and_then(|()| log.file.write_all(line));
        let begins_to_fail = written.is_err() && !log.failing;
        log.failing = written.is_err();
        let path = log.path.clone();
        drop(log);
        if let (Err(error), true) = (written, begins_to_fail) {
            tracing::error!(path = %path.display(), %error, "the audit log cannot be written; events are lost");
        }
    }
}

impl AuditFile {
    fn reopen_when_moved(&mut self) -> std::io::Result<()> {
        let opened = self.file.metadata()?;
        let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (opened.dev(), opened.ino());
        if !std::fs::metadata(&self.path).is_ok_and(same) {
            self.file = open_private(&self.path)?;
        }
        Ok(())
    }
}

/// The fields of a span or an event.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.chars().take(LONGEST).collect::<String>());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for AuditLog {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        line.0.insert("time".to_owned(), jiff::Timestamp::now().to_string().into());
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_request) = span.extensions().get::<Fields>() {
                line.0.extend(of_request.0.clone());
            }
        }
        event.record(&mut line);
        let mut line = Value::Object(line.0).to_string();
        line.push('\n');
        self.write(line.as_bytes());
    }
}

/// A layer for a router: what is done within a request is known to come from its address.
pub(crate) async fn from_address(
    State(proxies): State<TrustedProxies>,
    request: Request,
    next: Next,
) -> Response {
    let Some(address) = proxies.client(request.extensions(), request.headers()) else {
        return next.run(request).await;
    };
    let span = tracing::info_span!(target: AUDIT, "request", %address);
    next.run(request).instrument(span).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_says_who_what_when_and_from_where_and_cannot_be_forged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            let _request = tracing::info_span!(target: AUDIT, "request", address = "192.0.2.1").entered();
            tracing::info!(target: AUDIT, event = "device_added", did = "did:plc:a", name = "x\"}\n{\"event\":\"y", n = 1);
            tracing::info!(target: AUDIT, event = "long", name = "é".repeat(10_000));
        });
        let [first, second] = &lines(&path)[..] else { panic!("two lines") };
        assert_eq!(
            (&first["address"], &first["event"], &first["n"]),
            (&"192.0.2.1".into(), &"device_added".into(), &1.into())
        );
        assert_eq!(first["name"], "x\"}\n{\"event\":\"y");
        assert!(first["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(second["name"].as_str().unwrap().chars().count(), LONGEST);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_lost_when_the_file_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        let write = |n: u64| {
            let log = tracing_subscriber::registry().with(log.clone());
            tracing::subscriber::with_default(log, || tracing::info!(target: AUDIT, n));
        };
        let numbers =
            |path: &Path| lines(path).iter().map(|line| line["n"].as_u64().unwrap()).collect::<Vec<_>>();
        write(1);
        // Moved away and made anew by the first line after it.
        let moved = dir.path().join("audit.jsonl.1");
        std::fs::rename(&path, &moved).unwrap();
        write(2);
        assert_eq!((numbers(&moved), numbers(&path)), (vec![1], vec![2]));
        // Another file in its place.
        std::fs::remove_file(&path).unwrap();
        File::create(&path).unwrap();
        write(3);
        assert_eq!(numbers(&path), [3]);
        // Copied and emptied: no gap in front of what follows.
        std::fs::copy(&path, &moved).unwrap();
        File::options().write(true).truncate(true).open(&path).unwrap();
        write(4);
        assert_eq!((numbers(&moved), numbers(&path)), (vec![3], vec![4]));
        // Where it cannot be written nobody is held up, and it is gone on with as soon as it can.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        write(5);
        std::fs::remove_dir(&path).unwrap();
        write(6);
        assert_eq!(numbers(&path), [6]);
    }
}
