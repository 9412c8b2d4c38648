//! Loading: the defaults, a file, the environment, and a command's flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use config::{Config, File, FileFormat};

use super::settings::Settings;

const DEFAULTS: &str = include_str!("default.toml");
const PREFIX: &str = "HERALD_";
/// Variables read by the commands themselves, which are not settings.
const NOT_SETTINGS: [&str; 6] =
    ["HERALD_URL", "HERALD_KEY", "HERALD_CONFIG", "HERALD_DATA", "HERALD_CRASH_POINT", "HERALD_CRASH_AFTER"];

/// What is wrong with the configuration, in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An unknown key.
    #[error("{place}: unknown setting `{key}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file or variable.
        place: String,
        /// The key as given.
        key: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// A `…_FILE` variable without a value.
    #[error("{name} is empty: set it to the path of a file, or unset it")]
    EmptyFileVariable {
        /// The variable.
        name: String,
    },
    /// A file named by a `…_FILE` variable that can't be read.
    #[error("can't read {path}, which {name} names", path = path.display())]
    UnreadableSecret {
        /// The variable.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An address without a port, or not an address at all.
    #[error("`{key}`: `{value}` is not an address with a port; write 127.0.0.1:8080")]
    NotAnAddress {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A file that can't be read.
    #[error("can't read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value out of range.
    #[error("`{key}` must be {rule}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The allowed range.
        rule: &'static str,
    },
    /// A value with the wrong type.
    #[error("{0}")]
    Invalid(#[from] config::ConfigError),
}

/// Collects the sources of settings, lowest precedence first.
#[derive(Debug, Default)]
pub struct Loader {
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    overrides: BTreeMap<String, String>,
}

impl Loader {
    /// `herald.toml` in the working folder (or `HERALD_CONFIG`), then this process's environment.
    pub fn from_process() -> Self {
        let environment: BTreeMap<String, String> = std::env::vars().collect();
        let file = environment.get("HERALD_CONFIG").map(PathBuf::from);
        let file = file.or_else(|| Some(PathBuf::from("herald.toml")).filter(|path| path.exists()));
        Self { file, environment, overrides: BTreeMap::new() }
    }

    /// Adds a variable: for tests and child processes.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets a value with the highest precedence. `key` is dotted: `onesignal.base_url`.
    #[must_use]
    pub fn flag(mut self, key: &str, value: impl Into<String>) -> Self {
        self.overrides.insert(key.to_owned(), value.into());
        self
    }

    /// Variables that have no effect because a `…_FILE` variable for the same setting takes precedence.
    pub fn overridden_variables(&self) -> Vec<String> {
        let names = self.environment.keys().filter_map(|name| name.strip_suffix("_FILE"));
        names
            .filter(|name| name.starts_with(PREFIX) && self.environment.contains_key(*name))
            .map(str::to_owned)
            .collect()
    }

    /// Reads everything and checks it.
    ///
    /// # Errors
    /// [`ConfigError`] names the place and the key; only the person who set it can fix it.
    pub fn load(self) -> Result<Settings, ConfigError> {
        let known = known_keys()?;
        let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = &self.file {
            let text = read(path)?;
            let source = File::from_str(&text, FileFormat::Toml);
            for key in flat_keys(&text)? {
                check_known(&known, &key, &path.display().to_string())?;
            }
            builder = builder.add_source(source);
        }
        for (key, value) in self.environment_values(&known)? {
            builder = builder.set_override(key, value)?;
        }
        for (key, value) in self.overrides {
            check_known(&known, &key, "command line")?;
            builder = builder.set_override(key, value)?;
        }
        let values = builder.build()?;
        if let Ok(value) = values.get_string("listen")
            && value.parse::<SocketAddr>().is_err()
        {
            return Err(ConfigError::NotAnAddress { key: "listen", value });
        }
        let settings = values.try_deserialize()?;
        super::limits::check(&settings)?;
        Ok(settings)
    }

    fn environment_values(&self, known: &[String]) -> Result<Vec<(String, String)>, ConfigError> {
        let mut found = Vec::new();
        for (name, value) in &self.environment {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if NOT_SETTINGS.contains(&name.as_str()) {
                continue;
            }
            let key = rest.to_lowercase().replace("__", ".");
            if let Some(secret) = key.strip_suffix("_file").filter(|secret| known.iter().any(|k| k == secret))
            {
                if value.trim().is_empty() {
                    return Err(ConfigError::EmptyFileVariable { name: name.clone() });
                }
                let text = std::fs::read_to_string(value).map_err(|source| {
                    ConfigError::UnreadableSecret { name: name.clone(), path: value.into(), source }
                })?;
                found.push((secret.to_owned(), text.trim_end().to_owned()));
            } else {
                check_known(known, &key, name)?;
                found.push((key, value.clone()));
            }
        }
        Ok(found)
    }
}

/// `default.toml`: the reference of all settings.
pub fn reference() -> &'static str {
    DEFAULTS
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

fn known_keys() -> Result<Vec<String>, ConfigError> {
    flat_keys(DEFAULTS)
}

fn flat_keys(text: &str) -> Result<Vec<String>, ConfigError> {
    let table: toml::Table =
        toml::from_str(text).map_err(|error| config::ConfigError::Message(error.to_string()))?;
    let mut keys = Vec::new();
    for (key, value) in &table {
        match value {
            toml::Value::Table(inner) => keys.extend(inner.keys().map(|k| format!("{key}.{k}"))),
            _ => keys.push(key.clone()),
        }
    }
    Ok(keys)
}

fn check_known(known: &[String], key: &str, place: &str) -> Result<(), ConfigError> {
    if known.iter().any(|k| k == key) {
        return Ok(());
    }
    let nearest = known.iter().min_by_key(|k| strsim::damerau_levenshtein(k, key)).cloned();
    Err(ConfigError::UnknownKey { place: place.to_owned(), key: key.to_owned(), nearest })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_defaults_load_and_a_variable_overrides_them() {
        let settings = Loader::default()
            .variable("HERALD_LISTEN", "127.0.0.1:9000")
            .variable("HERALD_ONESIGNAL__CALLS_PER_SECOND", "6000")
            .load()
            .unwrap();
        assert_eq!(settings.listen.port(), 9000);
        assert_eq!(settings.onesignal.calls_per_second, 6000);
        assert_eq!(settings.delivery.lease, Duration::from_secs(45));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest() {
        let error = Loader::default().variable("HERALD_DATABASE_ULR", "x").load().unwrap_err();
        assert!(error.to_string().contains("did you mean `database_url`"), "{error}");
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let settings =
            Loader::default().variable("HERALD_SECRET_KEY_FILE", path.to_str().unwrap()).load().unwrap();
        assert_eq!(settings.secret_key.expose_secret(), "s3cret");
    }
}
