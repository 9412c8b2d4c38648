//! A private Postgres for development and for tests: finds the programs, creates a cluster, starts and stops it.
//!
//! It only listens on a Unix socket, runs in its own process group and stops when this process ends for any reason.
//! It never installs or downloads anything, and only uses the cluster in the given folder. Next to the data folder it
//! keeps `<folder>.log` and `<folder>.lock`.

mod account;
mod cluster;
mod find;
mod server;
mod watchdog;

use std::io;
use std::path::{Path, PathBuf};

pub use server::LocalPostgres;

/// Options of a private Postgres.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's folder, made when missing. Its parent has to be writable, and as root every folder above it has
    /// to be open (`x`) for the account that the server runs as.
    pub data_dir: PathBuf,
    /// `false` disables all syncing to disk: for tests with disposable data.
    pub durable: bool,
    /// Server settings on top of ours, as `name` and `value`; the last one wins.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A durable server in `data_dir` with no settings of its own.
    pub fn durable(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), durable: true, settings: Vec::new() }
    }

    /// A server for tests in `data_dir`: fast, but not crash-safe.
    pub fn throwaway(data_dir: impl Into<PathBuf>) -> Self {
        Self { durable: false, ..Self::durable(data_dir) }
    }
}

/// Why a private Postgres can't run. Retrying without a change never helps.
#[derive(Debug, thiserror::Error)]
pub enum LocalPostgresError {
    /// No Postgres programs anywhere we look.
    #[error("{NOT_INSTALLED}", NOT_INSTALLED = find::NOT_INSTALLED)]
    NotInstalled,
    /// `PG_BIN` names a folder without the programs.
    #[error("PG_BIN is {path}, but it contains no working `initdb` and `postgres`")]
    WrongPgBin {
        /// The value of `PG_BIN`.
        path: PathBuf,
    },
    /// The folder was made by a Postgres of another major version.
    #[error(
        "{data_dir} was created by Postgres {made_by}, but only version {installed} is installed; install Postgres {made_by}, \
         or choose another data folder, or delete this one to start over"
    )]
    OtherVersion {
        /// The cluster's folder.
        data_dir: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: String,
        /// The major versions found.
        installed: String,
    },
    /// The folder contains something else.
    #[error("{data_dir} is not empty and contains no Postgres cluster; choose another data folder")]
    NotACluster {
        /// The folder.
        data_dir: PathBuf,
    },
    /// Another living process runs its server here.
    #[error("{data_dir} is in use by another process; stop that one, or choose another data folder")]
    InUse {
        /// The cluster's folder.
        data_dir: PathBuf,
    },
    /// As root: there is no account to run the server as.
    #[error(
        "Postgres refuses to run as root, and this system has neither a `postgres` nor a `nobody` account"
    )]
    NoAccount,
    /// As root: the server's account has no access to the folder.
    #[error(
        "account {account} has no access to {folder}; choose another data folder (such as one in /var/lib or /tmp), or \
         allow access with `chmod o+x {folder}`"
    )]
    Unreachable {
        /// The server's account.
        account: String,
        /// The first inaccessible folder.
        folder: PathBuf,
    },
    /// No folder with a path short enough for a Unix socket.
    #[error("no folder with a path short enough for a Unix socket; set TMPDIR to a short one such as /tmp")]
    NoSocketFolder,
    /// `initdb` failed.
    #[error("initdb failed in {data_dir}:\n{output}")]
    Initdb {
        /// The cluster's folder.
        data_dir: PathBuf,
        /// What it said.
        output: String,
    },
    /// The server ended, or was not ready in time.
    #[error("Postgres did not start in {data_dir}; the end of its log {log}:\n{last_lines}")]
    Start {
        /// The cluster's folder.
        data_dir: PathBuf,
        /// The whole log.
        log: PathBuf,
        /// Its last lines.
        last_lines: String,
    },
    /// The server outlived every signal.
    #[error("Postgres (process {pid}) in {data_dir} did not stop")]
    Stop {
        /// The cluster's folder.
        data_dir: PathBuf,
        /// The server's process.
        pid: i32,
    },
    /// An I/O error.
    #[error("can't {action} {path}")]
    Io {
        /// The action.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Adds the action and the path to an I/O error.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalPostgresError {
    let path = path.to_owned();
    move |source| LocalPostgresError::Io { action, path, source }
}

#[cfg(test)]
mod tests;
