use std::io::Write as _;
use std::path::{Path, PathBuf};

use atcr_core::crypto::{Curve, PublicKey, SigningKey};
use atcr_hold::identity::{self, IdentityReport, UpdateOptions};
use atcr_pds::plc::Operation;
use clap::Subcommand;

use super::Settings;
use crate::cli::ConfigFile;
use crate::config::HoldConfig;
use crate::{Error, logging};

/// `atcr-hold identity`: looking at an identity, and mending it.
#[derive(Debug, Subcommand)]
pub enum IdentityCommand {
    /// Shows the DID, its document, the keys, and where the PLC directory says otherwise than the configuration.
    ///
    /// Changes nothing and may be called while the hold runs.
    Show {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Brings the PLC directory's entry up to date with the configuration and the keys.
    ///
    /// The hold does the same at each start. By hand it is done when the key that signs does not lie on the machine,
    /// or when a rotation key has to go. The hold must not run; followers are told at its next start.
    Update {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// Signs with the key in this file, such as the operator's recovery key, instead of the rotation key.
        #[arg(long, value_name = "FILE")]
        sign_with: Option<PathBuf>,
        /// Takes a rotation key out, one that was lost or stolen: a did:key. May be given again.
        #[arg(long, value_name = "DID_KEY")]
        drop_rotation_key: Vec<String>,
    },
    /// Submits an operation that was signed elsewhere to the PLC directory.
    Submit {
        /// What the hold is configured with.
        #[command(flatten)]
        config: ConfigFile,
        /// The operation as JSON with its `sig`.
        operation: PathBuf,
    },
    /// Makes a key: the secret goes to a new file, the public key to standard output.
    ///
    /// For a recovery key, which does not belong on the hold's machine, and for a new rotation key.
    Keygen {
        /// The file; it must not exist.
        file: PathBuf,
    },
}

impl IdentityCommand {
    /// Does it.
    pub fn run(self) -> Result<(), Error> {
        logging::start("warn", logging::LogFormat::Text);
        match self {
            Self::Show { config, json } => {
                let hold = settings(&config)?;
                let report = crate::block_on(async {
                    identity::inspect(&hold).await.map_err(Error::command("the identity cannot be shown"))
                })?;
                print(&report, json)
            }
            Self::Update { config, sign_with, drop_rotation_key } => {
                let hold = settings(&config)?;
                let mut options = UpdateOptions::default();
                options.sign_with = sign_with.as_deref().map(secret_key).transpose()?;
                options.drop_rotation_keys =
                    drop_rotation_key.iter().map(|key| did_key(key)).collect::<Result<_, _>>()?;
                let report = crate::block_on(async {
                    identity::update(&hold, options)
                        .await
                        .map_err(Error::command("the identity is not updated"))
                })?;
                print(&report, false)
            }
            Self::Submit { config, operation } => {
                let hold = settings(&config)?;
                let json = std::fs::read(&operation).map_err(Error::file(&operation, "read"))?;
                let operation: Operation = serde_json::from_slice(&json).map_err(Error::command(format!(
                    "{} is not a signed PLC operation",
                    operation.display()
                )))?;
                let report = crate::block_on(async {
                    let submitted = identity::submit(&hold, &operation).await;
                    submitted.map_err(Error::command("the operation is not in effect"))
                })?;
                print(&report, false)
            }
            Self::Keygen { file } => keygen(&file),
        }
    }
}

fn settings(config: &ConfigFile) -> Result<atcr_hold::HoldConfig, Error> {
    Ok(Settings::new(config.load::<HoldConfig>()?)?.hold)
}

fn secret_key(path: &Path) -> Result<SigningKey, Error> {
    let key = identity::read_key(path).map_err(Error::command("the key cannot be used"))?;
    key.ok_or_else(|| Error::file(path, "read")(std::io::ErrorKind::NotFound.into()))
}

fn did_key(text: &str) -> Result<String, Error> {
    PublicKey::from_did_key(text).map_err(Error::command(format!("{text} is not a did:key")))?;
    Ok(text.to_owned())
}

fn keygen(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = SigningKey::generate(Curve::K256).map_err(Error::command("no key can be made"))?;
    let mut options = std::fs::OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        writeln!(file, "{}", key.to_multikey())?;
        file.sync_all()
    });
    written.map_err(Error::file(path, "written"))?;
    eprintln!("the secret key is in {}; keep it where the hold's machine cannot lose it", path.display());
    out(&format!("{}\n", key.public_key().to_did_key()))
}

fn print(report: &IdentityReport, json: bool) -> Result<(), Error> {
    if json {
        let json = serde_json::to_string_pretty(report).map_err(Error::command("the report"))?;
        return out(&format!("{json}\n"));
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<13} {value}\n"));
    let did = report.did.as_ref().map_or("none yet; it is made at the first start", |did| did.as_str());
    line("DID", did);
    line("public URL", report.public_url.as_str());
    line("handle", report.handle.as_ref().map_or("none: the URL has a port", |handle| handle.as_str()));
    line("signing key", report.signing_key.as_deref().unwrap_or("none yet; it is made at the first start"));
    if let Some(plc) = &report.plc {
        line("rotation key", plc.rotation_key.as_deref().unwrap_or("not on this machine"));
        for (n, key) in plc.state.iter().flat_map(|state| state.rotation_keys.iter().enumerate()) {
            let name = if n == 0 { "may sign" } else { "" };
            let here = if plc.rotation_key.as_ref() == Some(key) { " (here)" } else { "" };
            line(name, &format!("{key}{here}"));
        }
        if let Some(problem) = &plc.problem {
            line("directory", problem);
        }
        let agrees = plc.state.is_some() && plc.differences.is_empty();
        if agrees {
            line("directory", "up to date");
        }
        for difference in &plc.differences {
            line("drift", &difference.to_string());
        }
        if let Some(operation) = &plc.operation {
            let how = if plc.may_sign {
                "`atcr-hold identity update`, or the next start, signs this operation:"
            } else {
                "no key here may sign; this operation has to be signed elsewhere and submitted:"
            };
            text.push_str(&format!("\n{how}\n{operation:#}\n"));
        }
    }
    if let Some(document) = &report.document {
        text.push_str(&format!("\n{document:#}\n"));
    }
    out(&text)
}

fn out(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::file("standard output", "written"))
}
