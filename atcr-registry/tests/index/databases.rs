//! An SQLite file, and a PostgreSQL server that ends with the tests.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use atcr_registry::index::Index;
use tempfile::TempDir;

/// A database that an index can be opened in, again and again.
pub(crate) struct Place {
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/index.sqlite", folder.path().display());
        Self { url, _folder: Some(folder) }
    }

    pub(crate) fn postgres() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let server = server();
        let name = format!("index_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = Command::new(program("psql"))
            .args(["-h", "127.0.0.1", "-p", &server.to_string(), "-U", "atcr", "-d", "postgres", "-q", "-c"])
            .arg(format!("CREATE DATABASE {name}"))
            .status();
        assert!(made.unwrap().success());
        Self { url: format!("postgres://atcr@127.0.0.1:{server}/{name}"), _folder: None }
    }

    pub(crate) async fn open(&self) -> Index {
        Index::open(&self.url).await.unwrap()
    }
}

/// Both kinds, empty.
pub(crate) fn both() -> [Place; 2] {
    [Place::sqlite(), Place::postgres()]
}

fn program(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    // Debian keeps the server's programs out of the path.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders.into_iter().map(|folder| folder.join(name)).find(|path| path.exists()).unwrap_or_else(|| {
        panic!("{name} is not here; install PostgreSQL (Debian: apt-get install postgresql)")
    })
}

/// The port of a server on loopback. It belongs to this process: a shell waits for the end of its input, which comes
/// however the tests end, stops the server and removes its files.
fn server() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap().keep();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = "set -e; dir=$1 port=$2 initdb=$3 postgres=$4
            \"$initdb\" -D \"$dir/data\" -U atcr -A trust -E UTF8 --locale=C --no-sync >/dev/null
            \"$postgres\" -D \"$dir/data\" -k \"$dir\" -h 127.0.0.1 -p \"$port\" -F -c max_connections=200 >\"$dir/log\" 2>&1 &
            server=$!
            cat >/dev/null || true
            kill -INT $server; wait $server || true
            rm -rf \"$dir\"/data \"$dir\"/log";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&folder).arg(port.to_string());
        command.arg(program("initdb")).arg(program("postgres")).stdin(Stdio::piped()).current_dir(&folder);
        run_unprivileged(&mut command, &folder);
        #[expect(clippy::zombie_processes, reason = "it ends after this process, by its standard input")]
        let mut child = command.spawn().unwrap();
        // Never closed by us: it ends with the process.
        std::mem::forget(child.stdin.take());
        let ready = program("pg_isready");
        for _ in 0..600 {
            let answers = Command::new(&ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status()
                .unwrap()
                .success();
            if answers {
                return port;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("PostgreSQL did not start; see {}/log", folder.display());
    })
}

/// PostgreSQL does not run as root.
fn run_unprivileged(command: &mut Command, folder: &std::path::Path) {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    if std::fs::metadata(folder).unwrap().uid() == 0 {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
    }
}
