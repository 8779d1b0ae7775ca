use std::path::Path;

use serde_json::{Map, Value};

use super::{Config, ConfigError};

/// Puts a configuration together: the defaults, over them the file, over that the environment.
///
/// A key that is not a setting is refused with the name of the nearest one. `env` are the process's variables.
pub fn load<C: Config>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<C, ConfigError> {
    let mut settings = serde_json::to_value(C::default()).map_err(|e| value_error("", &e.to_string()))?;
    let known = leaves(&settings);
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        // An empty or fully commented file is an empty document.
        let given: Option<Value> = serde_saphyr::from_str(&text)
            .map_err(|e| ConfigError::Yaml { path: path.to_owned(), message: e.to_string() })?;
        let given = given.unwrap_or_else(|| Value::Object(Map::new()));
        for (key, value) in leaves(&given) {
            // A section whose lines are all commented out.
            let section = |name: &str| name.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.'));
            if value.is_null() && known.iter().any(|(name, _)| section(name)) {
                continue;
            }
            if !known.iter().any(|(name, _)| *name == key) {
                return Err(unknown(path.display().to_string(), &key, &known));
            }
            set(&mut settings, &key, value);
        }
    }
    for (name, text) in env {
        let Some(key) = setting_of::<C>(&name, &known) else {
            if name.strip_prefix(C::ENV_PREFIX).is_some_and(|rest| rest.starts_with('_')) {
                tracing::warn!(variable = %name, "this environment variable is not a setting; it is ignored");
            }
            continue;
        };
        let (contrary, key) = key.strip_prefix('!').map_or((false, &*key), |key| (true, key));
        let default = known.iter().find(|(name, _)| name == key).map_or(&Value::Null, |(_, value)| value);
        let value = match typed(default, &text) {
            Value::Bool(value) => Value::Bool(value != contrary),
            value => value,
        };
        set(&mut settings, key, value);
    }
    // The message of serde names the place; which layer it came from does not matter to the one who mends it.
    serde_json::from_value(settings).map_err(|e| value_error("", &e.to_string()))
}

fn value_error(key: &str, reason: &str) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        value: "what it is set to".to_owned(),
        reason: reason.to_owned(),
    }
}

fn unknown(origin: String, key: &str, known: &[(String, Value)]) -> ConfigError {
    let like = |name: &str| strsim::jaro_winkler(name, key);
    let nearest = known.iter().map(|(name, _)| name).max_by(|a, b| like(a).total_cmp(&like(b)));
    let nearest = nearest.filter(|name| like(name) > 0.7).cloned();
    ConfigError::Unknown { origin, key: key.to_owned(), nearest }
}

/// Every setting with its dotted name. An empty object has no settings.
fn leaves(value: &Value) -> Vec<(String, Value)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&name, value, out);
                }
            }
            Value::Null if prefix.is_empty() => {}
            leaf => out.push((prefix.to_owned(), leaf.clone())),
        }
    }
    let mut out = Vec::new();
    walk("", value, &mut out);
    out
}

fn set(settings: &mut Value, key: &str, value: Value) {
    let slot = key.split('.').try_fold(settings, |at, part| at.get_mut(part));
    if let Some(slot) = slot {
        *slot = value;
    }
}

fn setting_of<C: Config>(variable: &str, known: &[(String, Value)]) -> Option<String> {
    if let Some((_, key)) = C::ENV_ALIASES.iter().find(|(name, _)| *name == variable) {
        return Some((*key).to_owned());
    }
    let rest = variable.strip_prefix(C::ENV_PREFIX)?.strip_prefix('_')?;
    let matches = |key: &str| key.replace('.', "_").eq_ignore_ascii_case(rest);
    known.iter().map(|(key, _)| key).find(|key| matches(key)).cloned()
}

/// A variable's text as the kind of value that the default is.
fn typed(default: &Value, text: &str) -> Value {
    let text = text.trim();
    match default {
        Value::Bool(_) => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true.into(),
            "false" | "0" | "no" | "off" => false.into(),
            _ => text.into(),
        },
        Value::Number(_) => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        Value::Array(_) => text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect(),
        _ => text.into(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{AppViewConfig, HoldConfig};

    /// The template is the documentation: it must name every setting, with its default, and no other.
    pub(in crate::config) fn template_is_complete<C: Config>() {
        let uncommented: String = C::TEMPLATE
            .lines()
            .map(|line| line.strip_prefix("#:").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let template: Value = serde_saphyr::from_str(&uncommented).unwrap();
        let names = |value: &Value| {
            leaves(value).into_iter().map(|(name, _)| name).collect::<std::collections::BTreeSet<_>>()
        };
        let defaults = serde_json::to_value(C::default()).unwrap();
        assert_eq!(names(&template), names(&defaults));
        for (name, value) in leaves(&template) {
            let default = name.split('.').try_fold(&defaults, |at, part| at.get(part)).unwrap();
            assert!(
                default.is_null() || *default == value,
                "{name}: the template says {value}, the default is {default}"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, C::TEMPLATE).unwrap();
        let loaded: C = load(Some(&path), []).unwrap();
        let loaded = serde_json::to_value(loaded).unwrap();
        for (name, default) in leaves(&defaults) {
            let value = name.split('.').try_fold(&loaded, |at, part| at.get(part)).unwrap();
            assert_eq!(*value, default, "{name}");
        }
    }

    #[test]
    fn the_templates_name_every_setting_with_its_default() {
        template_is_complete::<AppViewConfig>();
        template_is_complete::<HoldConfig>();
    }

    fn load_text<C: Config>(text: &str, env: &[(&str, &str)]) -> Result<C, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_environment_wins_over_the_file_and_old_names_are_understood() {
        let text = "server:\n  addr: ':7000'\n  base_url: https://a.example\n";
        let env = [
            ("ATCR_SERVER_BASE_URL", "https://b.example"),
            ("ATCR_DEFAULT_HOLD_DID", "did:web:hold.example"),
            ("ATCR_NONSENSE", "1"),
        ];
        let config: AppViewConfig = load_text(text, &env).unwrap();
        assert_eq!(config.server.addr, ":7000");
        assert_eq!(config.server.base_url.unwrap().as_str(), "https://b.example/");
        assert_eq!(config.server.default_hold_did.unwrap().as_str(), "did:web:hold.example");
    }

    #[test]
    fn the_storage_is_set_by_the_variables_that_others_use() {
        let env = [
            ("S3_BUCKET", "blobs"),
            ("S3_ENDPOINT", "https://s3.example"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("DISABLE_PRESIGNED_URLS", "true"),
            ("HOLD_STORAGE_LAYOUT", "distribution"),
        ];
        let storage = load_text::<HoldConfig>("", &env).unwrap().storage;
        assert_eq!(storage.bucket.as_deref(), Some("blobs"));
        assert_eq!(storage.endpoint.as_ref().unwrap().as_str(), "https://s3.example/");
        assert_eq!(storage.secret_key.as_ref().unwrap().0, "hidden");
        assert!(!storage.presign);
        assert_eq!(storage.layout, crate::config::Layout::Distribution);
        assert!(!format!("{storage:?}").contains("hidden"));
    }

    #[test]
    fn an_unknown_setting_is_refused_with_the_nearest_name() {
        let error = load_text::<AppViewConfig>("server:\n  base_urll: x\n", &[]).unwrap_err();
        assert!(error.to_string().contains("did you mean server.base_url?"), "{error}");
        let error = load_text::<HoldConfig>("sever:\n  public_url: x\n", &[]).unwrap_err();
        assert!(error.to_string().contains("did you mean server.public_url?"), "{error}");
    }

    #[test]
    fn a_wrong_value_and_broken_yaml_are_errors() {
        assert!(matches!(load_text::<AppViewConfig>("server: {addr: [", &[]), Err(ConfigError::Yaml { .. })));
        let error = load_text::<HoldConfig>("server:\n  public: maybe\n", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { .. }), "{error}");
        let error = load_text::<HoldConfig>("", &[("HOLD_REGISTRATION_OWNER_DID", "alice")]).unwrap_err();
        assert!(matches!(error, ConfigError::Value { .. }), "{error}");
    }
}
