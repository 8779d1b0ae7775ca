use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use atcr_core::syntax::Did;
use atcr_pds::repo::car::CarLimits;
use atcr_pds::repo::{Import, Imported};
use clap::Subcommand;
use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter};

use super::Settings;
use crate::cli::ConfigFile;
use crate::config::HoldConfig;
use crate::{Error, logging, progress};

/// `atcr-hold repo`: the repo as CAR files.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Writes the repo as a CAR file. The hold may run meanwhile; the file has one moment of it.
    Export {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// The file, replaced only when all is written; `-` is standard output.
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
    },
    /// Takes over the records of CAR files: makes those that are missing, replaces those that differ, removes none.
    ///
    /// All files are one commit, which followers are told of; when anything is wrong with a file, nothing is changed.
    /// A later file prevails over an earlier one. The hold must not run.
    Import {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// CAR files of repos; `-` is standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

impl RepoCommand {
    /// Does it.
    pub fn run(self) -> Result<(), Error> {
        logging::start("warn", logging::LogFormat::Text);
        match self {
            Self::Export { config, out } => {
                let config: HoldConfig = config.load()?;
                crate::block_on(export(&config.database.path, &out))
            }
            Self::Import { config, files } => {
                let settings = Settings::new(config.load::<HoldConfig>()?)?;
                crate::block_on(import(settings, &files))
            }
        }
    }
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Standard input or output without the standard library's buffer.
fn standard(fd: BorrowedFd<'_>) -> Result<tokio::fs::File, Error> {
    let owned = fd.try_clone_to_owned().map_err(Error::file("-", "opened"))?;
    Ok(tokio::fs::File::from_std(owned.into()))
}

async fn export(data_dir: &Path, out: &Path) -> Result<(), Error> {
    let bar = progress::bytes(None, "exporting");
    if is_standard(out) {
        if std::io::stdout().is_terminal() {
            return Err(Error::command("a CAR file is not for a terminal")("name a file with --out"));
        }
        let stdout = standard(std::io::stdout().as_fd())?;
        return progress::show(&bar, write(data_dir, stdout, out, &bar)).await.map(drop);
    }
    // Written beside and renamed, so that a backup of yesterday is not lost to a disk that is full today.
    let mut beside = out.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let file = tokio::fs::File::create(&beside).await.map_err(Error::file(&beside, "created"))?;
    let written = progress::show(&bar, write(data_dir, file, out, &bar)).await;
    let renamed = match written {
        Ok(file) => file.sync_all().await.and_then(|()| std::fs::rename(&beside, out)),
        Err(error) => {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(&beside);
            return Err(error);
        }
    };
    renamed.map_err(Error::file(out, "written"))
}

async fn write<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    to: W,
    name: &Path,
    bar: &ProgressBar,
) -> Result<W, Error> {
    const FAILED: &str = "the repo cannot be exported";
    let mut car = atcr_hold::export_repo(data_dir).await.map_err(Error::command(FAILED))?;
    let mut to = BufWriter::with_capacity(256 * 1024, to);
    while let Some(piece) = car.next().await {
        let piece = piece.map_err(Error::command(FAILED))?;
        to.write_all(&piece).await.map_err(Error::file(name, "written"))?;
        bar.inc(piece.len() as u64);
    }
    to.flush().await.map_err(Error::file(name, "written"))?;
    Ok(to.into_inner())
}

async fn import(settings: Settings, files: &[PathBuf]) -> Result<(), Error> {
    let mut import = Import::new();
    let mut repos = Vec::new();
    // Before the hold is opened, which makes a new one: a damaged file has made nothing then.
    for path in files {
        let did = if is_standard(path) {
            read(&mut import, path, standard(std::io::stdin().as_fd())?, None).await?
        } else {
            let file = tokio::fs::File::open(path).await.map_err(Error::file(path, "read"))?;
            let size = file.metadata().await.map_err(Error::file(path, "read"))?.len();
            read(&mut import, path, file, Some(size)).await?
        };
        repos.push((path, did));
    }
    let hold = settings.open().await?;
    for (path, did) in repos.iter().filter(|(_, did)| did != hold.did()) {
        eprintln!("{}: the repo of {did}; its records become records of {}", path.display(), hold.did());
    }
    let bar = progress::bytes(None, "writing");
    let imported = progress::show(&bar, hold.repos().import(hold.did(), import)).await;
    let Imported { commit, created, updated, unchanged } =
        imported.map_err(Error::command("the files cannot be taken over, and nothing was changed"))?;
    let commit = match commit {
        Some(head) => format!("commit {}", head.rev),
        None => "no commit".to_owned(),
    };
    eprintln!("{created} records made, {updated} replaced, {unchanged} as they were; {commit}");
    Ok(())
}

async fn read(
    import: &mut Import,
    path: &Path,
    file: impl AsyncRead + Unpin + Send,
    size: Option<u64>,
) -> Result<Did, Error> {
    let bar = progress::bytes(size, "reading");
    let read = import.read(bar.wrap_async_read(file), CarLimits::default());
    let name = if is_standard(path) { "standard input".into() } else { path.to_string_lossy() };
    let what = format!("{name} cannot be taken over, and nothing was changed");
    Ok(progress::show(&bar, read).await.map_err(Error::command(what))?.did)
}
