//! The data folder of `herald dev`, with the keys generated at the first start.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::SecretString;

use crate::domain::id::IdSource;

/// The data folder.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    /// Opens or creates the folder: the given one, one in the user's state folder, or for root one in `/var/lib`.
    pub fn open(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = match given {
            Some(path) => path,
            None => default_folder()?,
        };
        std::fs::create_dir_all(&path).with_context(|| format!("can't create {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("can't find {}", path.display()))?;
        if nix::unistd::Uid::effective().is_root() {
            // Postgres does not run as root: its own account needs access.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))?;
        }
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database's folder.
    pub fn postgres(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// The sandbox's file.
    pub fn sandbox(&self) -> PathBuf {
        self.path.join("sandbox.jsonl")
    }

    /// The root of all encryption keys; generated at the first start.
    pub fn secret_key(&self) -> anyhow::Result<SecretString> {
        self.secret("secret_key", "")
    }

    /// The development key; generated at the first start.
    pub fn dev_key(&self) -> anyhow::Result<SecretString> {
        self.secret("dev_key", "hk_test_")
    }

    /// What the sandbox sends with the outcomes that it reports; generated at the first start.
    pub fn stream_secret(&self) -> anyhow::Result<SecretString> {
        self.secret("stream_secret", "")
    }

    fn secret(&self, name: &str, prefix: &str) -> anyhow::Result<SecretString> {
        let path = self.path.join(name);
        if let Ok(text) = std::fs::read_to_string(&path) {
            return Ok(SecretString::from(text.trim()));
        }
        let random = IdSource::random().secret_text();
        let text = format!("{prefix}{random}");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("can't write {}", path.display()))?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(SecretString::from(text))
    }

    /// Deletes the database.
    pub fn forget_database(&self) -> anyhow::Result<()> {
        let path = self.postgres();
        if !path.exists() {
            return Ok(());
        }
        if path.join("postmaster.pid").exists() {
            bail!("a Postgres is still running in {}: stop the other `herald dev` first", path.display());
        }
        std::fs::remove_dir_all(&path).with_context(|| format!("can't remove {}", path.display()))
    }

    /// Deletes the sandbox's messages.
    pub fn forget_messages(&self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.sandbox()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).context("can't delete the sandbox's messages"),
        }
    }
}

fn default_folder() -> anyhow::Result<PathBuf> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/lib/herald-dev"));
    }
    if let Some(state) =
        std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute())
    {
        return Ok(state.join("herald"));
    }
    match std::env::var_os("HOME").map(PathBuf::from) {
        Some(home) => Ok(home.join(".local/state/herald")),
        None => bail!("there is no home folder to keep data in: choose a folder with --data"),
    }
}
