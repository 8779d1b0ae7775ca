use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::login::How;
use super::protocol::Action;
use super::{HelperError, ServerName, accounts, diagnose, docker_config, kubelet, login, protocol, update};

const AFTER: &str = "\
Environment:
  ATCR_CREDENTIALS_DIR  where credentials are kept, instead of ~/.atcr
  ATCR_ACCOUNT          the account to use, where several are signed in
  ATCR_KEYRING          off keeps secrets in the file of credentials, also where a keyring is
  DOCKER_CONFIG         the folder of Docker's config.json, instead of ~/.docker

In CI, without any login:
  ATCR_REGISTRY         the registry that the secret is for; it is given to no other one
  ATCR_TOKEN            a device secret or refresh token of the registry; or
  ATCR_USERNAME, ATCR_APP_PASSWORD
                        a handle and an app password

Secrets are kept in the keyring of a Linux desktop, where it is unlocked; else in a file for its owner alone (0600).";

/// Signs docker, podman and other clients in at atcr registries, with the account of the AT Protocol that you have.
#[derive(Debug, Parser)]
#[command(name = "docker-credential-atcr", version, disable_version_flag = true, after_help = AFTER)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Signs in at a registry: in a browser, or with an app password.
    Login {
        /// The registry, as in docker pull.
        registry: String,
        /// Only prints the page to open.
        #[arg(long)]
        no_browser: bool,
        /// What to call this machine in the list of your devices. Its host name when not given.
        #[arg(long, conflicts_with = "app_password")]
        device_name: Option<String>,
        /// Reads an app password from standard input.
        #[arg(long, requires = "username")]
        app_password: bool,
        /// The handle that the app password is for.
        #[arg(long, short, requires = "app_password")]
        username: Option<String>,
    },
    /// Forgets an account, here and at the registry.
    Logout {
        /// The registry.
        registry: String,
        /// The account; the one in use when not given.
        account: Option<String>,
        /// All accounts.
        #[arg(long, conflicts_with = "account")]
        all: bool,
    },
    /// Who is signed in where.
    Status {
        /// Only this registry.
        registry: Option<String>,
    },
    /// Uses another account from now on.
    Switch {
        /// The registry.
        registry: String,
        /// The account; may be left out where there are two.
        account: Option<String>,
    },
    /// Lets docker ask this helper about registries (credHelpers in config.json).
    ConfigureDocker {
        /// The registries.
        #[arg(required = true)]
        registries: Vec<String>,
        /// No longer.
        #[arg(long)]
        remove: bool,
    },
    /// Looks for what stands in the way of a push.
    Diagnose {
        /// Only this registry.
        registry: Option<String>,
    },
    /// Whether a registry knows a newer version of this program. Nothing is installed.
    Update {
        /// Only this registry.
        registry: Option<String>,
    },
    /// For the kubelet: answers a CredentialProviderRequest (v1) on standard input.
    Kubelet,
    /// For clients: the credentials for the registry on standard input.
    Get,
    /// For clients: keeps the credentials on standard input.
    Store,
    /// For clients: forgets those for the registry on standard input.
    Erase,
    /// For clients: the registries with credentials, and the user names.
    List,
    /// Prints the version.
    Version,
}

/// Does what the command line asks.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Get => return protocol::run(Action::Get),
        Command::Store => return protocol::run(Action::Store),
        Command::Erase => return protocol::run(Action::Erase),
        Command::List => return protocol::run(Action::List),
        Command::Kubelet => return kubelet::run(),
        Command::Version => {
            println!("docker-credential-atcr (atcr-bin) v{}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Login { registry, no_browser, device_name, app_password: _, username } => {
            let how = match username {
                Some(username) => How::AppPassword { username },
                None => How::Browser { open: !no_browser, device_name },
            };
            ServerName::parse(&registry).and_then(|server| login::login(&server, how))
        }
        Command::Logout { registry, account, all } => {
            ServerName::parse(&registry).and_then(|server| login::logout(&server, account.as_deref(), all))
        }
        Command::Status { registry } => optional(registry).and_then(|only| accounts::status(only.as_ref())),
        Command::Switch { registry, account } => {
            ServerName::parse(&registry).and_then(|server| accounts::switch(&server, account.as_deref()))
        }
        Command::ConfigureDocker { registries, remove } => registries
            .iter()
            .map(|registry| ServerName::parse(registry))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|servers| docker_config::configure(&servers, remove)),
        Command::Update { registry } => optional(registry).and_then(|only| update::update(only.as_ref())),
        Command::Diagnose { registry } => {
            optional(registry).and_then(|only| diagnose::diagnose(only.as_ref()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn optional(registry: Option<String>) -> Result<Option<ServerName>, HelperError> {
    registry.map(|registry| ServerName::parse(&registry)).transpose()
}
