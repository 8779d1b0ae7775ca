use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// After so long a client gets an answer, whatever the disk, the network or standard input are waiting for.
const LIMIT: Duration = Duration::from_millis(1800);

/// Sees to it that this process answers once, and in time.
#[derive(Debug, Clone, Default)]
pub(super) struct Watchdog {
    answered: Arc<AtomicBool>,
}

impl Watchdog {
    /// From now on: when nothing has been answered in time, `answer` goes to standard output, `hint` to standard
    /// error, and the process ends with `code`.
    pub(super) fn start(answer: String, hint: &'static str, code: i32) -> Self {
        let this = Self::default();
        let watching = this.clone();
        std::thread::spawn(move || {
            std::thread::sleep(LIMIT);
            if watching.may_answer() {
                // Standard error may be a pipe that nobody reads: the answer goes first.
                write(&answer);
                eprintln!("docker-credential-atcr: {hint}");
                std::process::exit(code);
            }
        });
        this
    }

    /// Answers, unless the watchdog already has; in that case this waits for the end of the process.
    pub(super) fn answer(&self, text: Option<&str>) {
        if self.may_answer() {
            text.into_iter().for_each(write);
        } else {
            std::thread::sleep(LIMIT);
        }
    }

    fn may_answer(&self) -> bool {
        !self.answered.swap(true, Ordering::SeqCst)
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // A client that has gone away needs no answer.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
