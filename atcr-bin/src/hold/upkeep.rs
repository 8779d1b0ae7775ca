use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use atcr_hold::upkeep::{Destination, Finding, Migrated, ScrubOptions, Scrubbed, Trouble, Upkeep};
use clap::Subcommand;
use indicatif::ProgressBar;

use super::StorageSettings;
use crate::cli::ConfigFile;
use crate::config::{self, HoldConfig, Size};
use crate::{Error, logging, progress};

/// `atcr-hold storage`: the blobs of a hold.
#[derive(Debug, Subcommand)]
pub enum StorageCommand {
    /// Hashes every blob as it is in the storage, and locks away those that went bad.
    ///
    /// The hold may run meanwhile. When it is broken off it goes on where it was. It exits 1 when something is wrong.
    Scrub {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// How many bytes are read a second, such as `50 MB`. Without it, as fast as it goes.
        #[arg(long, value_name = "SIZE", value_parser = rate)]
        rate: Option<NonZeroU64>,
        /// Begins anew, though another scrub was broken off.
        #[arg(long)]
        restart: bool,
        /// Forgets blobs whose bytes are gone. Not before you know that it is the right storage.
        #[arg(long)]
        forget_missing: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Brings all blobs to another storage, or into another layout, and the hold with them.
    ///
    /// To another storage they are copied while the hold runs; when the hold is stopped, this takes what came since and
    /// switches the hold over. The old storage stays as it is. When it is broken off it goes on where it was.
    Migrate {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// The configuration that the hold is to have afterwards: its section `storage` counts, without the environment.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// How many bytes are read a second, such as `50 MB`. Without it, as fast as it goes.
        #[arg(long, value_name = "SIZE", value_parser = rate)]
        rate: Option<NonZeroU64>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(text.parse::<Size>()?.0).ok_or_else(|| "0 bytes a second would never end".to_owned())
}

impl StorageCommand {
    /// Does it.
    pub fn run(self) -> Result<(), Error> {
        logging::start("error", logging::LogFormat::Text);
        match self {
            Self::Scrub { config, rate, restart, forget_missing, json } => {
                let mut options = ScrubOptions::default();
                (options.rate, options.restart, options.forget_missing) = (rate, restart, forget_missing);
                crate::block_on(scrub(config.load()?, options, json))
            }
            Self::Migrate { config, to, rate, json } => {
                crate::block_on(migrate(config.load()?, &to, rate, json))
            }
        }
    }
}

async fn scrub(config: HoldConfig, options: ScrubOptions, json: bool) -> Result<(), Error> {
    const FAILED: &str = "the blobs cannot be hashed";
    let data_dir = config.database.path;
    let storage = StorageSettings::new(config.storage, &data_dir)?.open_any(&data_dir).await?;
    let upkeep = Upkeep::open(&data_dir, storage).await.map_err(Error::command(FAILED))?;
    let bar = progress::bytes(Some(0), "hashing");
    let scrubbed = progress::show(&bar, upkeep.scrub(options, &advance(&bar))).await;
    let scrubbed = scrubbed.map_err(Error::command(FAILED))?;
    if json {
        print(&to_json(&scrubbed)?)?;
    } else {
        let Scrubbed { blobs, before, findings, .. } = &scrubbed;
        let earlier = if *before > 0 { format!(", {before} of them before") } else { String::new() };
        print(&format!("{}{blobs} blobs hashed{earlier}; {} wrong\n", table(findings), findings.len()))?;
    }
    refuse_findings(&scrubbed.findings)
}

async fn migrate(config: HoldConfig, to: &Path, rate: Option<NonZeroU64>, json: bool) -> Result<(), Error> {
    const FAILED: &str = "the blobs cannot be brought to the other storage";
    let data_dir = config.database.path;
    let from = StorageSettings::new(config.storage, &data_dir)?;
    let wanted: HoldConfig = config::load(Some(to), [])?;
    let wanted = StorageSettings::new(wanted.storage, &data_dir)?;
    let name = wanted.name(&data_dir);
    let same = from.name(&data_dir) == name;
    let mut destination = Destination::new(wanted.open_any(&data_dir).await?, name);
    (destination.same, destination.rate) = (same, rate);
    let storage = from.open_any(&data_dir).await?;
    let upkeep = Upkeep::open(&data_dir, storage).await.map_err(Error::command(FAILED))?;
    let bar = progress::bytes(Some(0), "moving");
    let migrated = progress::show(&bar, upkeep.migrate(&destination, &advance(&bar))).await;
    let migrated = migrated.map_err(Error::command(FAILED))?;
    if json {
        print(&to_json(&migrated)?)?;
    } else {
        let Migrated { blobs, findings, .. } = &migrated;
        print(&format!("{}{blobs} blobs moved\n", table(findings)))?;
    }
    refuse_findings(&migrated.findings)?;
    if migrated.running {
        let why = "stop it and call this again: it takes what came since, and switches the hold over";
        return Err(Error::command("all blobs are there, but the hold runs")(why));
    }
    eprintln!(
        "the hold has its blobs there from now on: start it with the section `storage` of {}",
        to.display()
    );
    Ok(())
}

fn advance(bar: &ProgressBar) -> impl Fn(u64, u64) + Send + Sync + use<> {
    let bar = bar.clone();
    move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    }
}

fn table(findings: &[Finding]) -> String {
    let line = |Finding { digest, key, trouble, .. }: &Finding| match trouble {
        Trouble::Wrong { actual } => format!("WRONG       {digest}  {key} is {actual}\n"),
        Trouble::Missing => format!("MISSING     {digest}  {key}\n"),
        Trouble::Unreadable { reason } => format!("UNREADABLE  {digest}  {key}: {reason}\n"),
        other => format!("{digest}  {key}: {other:?}\n"),
    };
    findings.iter().map(line).collect()
}

fn refuse_findings(findings: &[Finding]) -> Result<(), Error> {
    if findings.is_empty() {
        return Ok(());
    }
    let what = format!("{} blobs are not as they should be", findings.len());
    Err(Error::Command { what, source: "push the images that name them again".into() })
}

fn to_json(value: &impl serde::Serialize) -> Result<String, Error> {
    let json = serde_json::to_string_pretty(value);
    Ok(json.map_err(Error::command("the outcome cannot be written as JSON"))? + "\n")
}

fn print(text: &str) -> Result<(), Error> {
    std::io::stdout().write_all(text.as_bytes()).map_err(Error::file("standard output", "written"))
}
