//! The configuration of the Docker command line, which podman, crane, oras and regctl read too.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::credentials::{home, replace};
use super::{HelperError, ServerName};

/// The part of a helper's name that stands in the configuration.
const HELPER: &str = "atcr";

fn path() -> Result<PathBuf, HelperError> {
    let folder = std::env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = folder.or_else(|| Some(home()?.join(".docker")));
    Ok(folder.ok_or(HelperError::NoHome)?.join("config.json"))
}

fn load(path: &PathBuf) -> Result<Map<String, Value>, HelperError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(HelperError::file(path, "read")(error)),
    };
    let damaged =
        |reason: String| HelperError::Refused(format!("{} is not changed: {reason}", path.display()));
    match serde_json::from_str(&text) {
        _ if text.trim().is_empty() => Ok(Map::new()),
        Ok(Value::Object(config)) => match config.get("credHelpers") {
            None | Some(Value::Object(_)) => Ok(config),
            Some(_) => Err(damaged("its credHelpers is not an object".to_owned())),
        },
        Ok(_) => Err(damaged("it is not a JSON object".to_owned())),
        Err(error) => Err(damaged(error.to_string())),
    }
}

/// Lets Docker ask this helper about these registries, or no longer. Everything else in the file stays.
pub(super) fn configure(servers: &[ServerName], remove: bool) -> Result<(), HelperError> {
    let path = path()?;
    let mut config = load(&path)?;
    let before = config.clone();
    let helpers = config.entry("credHelpers").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(helpers) = helpers else {
        return Err(HelperError::Refused("credHelpers is not an object".to_owned()));
    };
    for server in servers {
        if remove {
            if helpers.get(server.as_str()).and_then(Value::as_str) == Some(HELPER) {
                helpers.remove(server.as_str());
            }
        } else {
            helpers.insert(server.as_str().to_owned(), Value::from(HELPER));
        }
    }
    if helpers.is_empty() {
        config.remove("credHelpers");
    }
    if config == before {
        println!("{} is as it should be.", path.display());
        return Ok(());
    }
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    std::fs::create_dir_all(&folder).map_err(HelperError::file(&folder, "created"))?;
    // People keep this file elsewhere and link to it.
    let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    let mode = std::fs::metadata(&real)
        .map_or(0o600, |metadata| std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777);
    let mut text = serde_json::to_vec_pretty(&Value::Object(config))
        .map_err(|e| HelperError::file(&path, "written")(e.into()))?;
    text.push(b'\n');
    replace(&real, &text, mode)?;
    println!("{} is changed.", path.display());
    Ok(())
}

/// Whether Docker asks this helper about a registry.
pub(super) fn uses_helper(server: &ServerName) -> bool {
    let config = path().and_then(|path| load(&path)).unwrap_or_default();
    let helper = config.get("credHelpers").and_then(|helpers| helpers.get(server.as_str()));
    let helper = helper.or_else(|| config.get("credsStore")).and_then(Value::as_str);
    helper == Some(HELPER)
}
