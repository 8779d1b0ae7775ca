use std::fmt::Write as _;
use std::io::Write as _;

use atcr_core::egress::{Egress, EgressPolicy};
use atcr_hold::storage::FilesystemStorage;
use atcr_hold::storage::doctor::{Finding, Verdict, examine};
use clap::Args;

use super::StorageSettings;
use crate::cli::ConfigFile;
use crate::config::HoldConfig;
use crate::{Error, logging};

/// `atcr-hold doctor`: whether the storage does what the hold needs.
#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// What the hold is configured with.
    #[command(flatten)]
    config: ConfigFile,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl DoctorCommand {
    /// Tries the storage out with a small blob that is removed again, and says what is wrong. The hold may run.
    pub fn run(self) -> Result<(), Error> {
        logging::start("error", logging::LogFormat::Text);
        let config: HoldConfig = self.config.load()?;
        let data_dir = config.database.path;
        let settings = StorageSettings::new(config.storage, &data_dir)?;
        // A storage on a private address is reported, not refused.
        let egress = Egress::new(EgressPolicy::development()).map_err(Error::start("the egress gate"))?;
        let findings = crate::block_on(async {
            let Some(storage) = settings.open().await? else {
                let folder = data_dir.join("storage");
                let storage = FilesystemStorage::open(folder).await.map_err(Error::start("the storage"))?;
                return Ok(examine(&storage, &egress).await);
            };
            Ok(examine(storage.as_ref(), &egress).await)
        })?;
        let text = if self.json {
            let json = serde_json::to_string_pretty(&findings);
            json.map_err(Error::command("the findings cannot be written as JSON"))? + "\n"
        } else {
            table(&findings)
        };
        std::io::stdout().write_all(text.as_bytes()).map_err(Error::file("standard output", "written"))?;
        let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count();
        if failed == 0 {
            return Ok(());
        }
        Err(Error::Command {
            what: "the hold does not work on this storage".to_owned(),
            source: format!("{failed} of {} checks failed", findings.len()).into(),
        })
    }
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, verdict, seen, remedy, .. } in findings {
        let verdict = match verdict {
            Verdict::Ok => "ok    ",
            Verdict::Advice => "advice",
            Verdict::Failed => "FAILED",
        };
        let _ = writeln!(text, "{verdict}  {check:width$}  {seen}");
        if let Some(remedy) = remedy {
            let _ = writeln!(text, "        {:width$}  → {remedy}", "");
        }
    }
    text
}
