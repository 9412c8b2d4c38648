//! The cluster on disk, and `initdb`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::account::Account;
use super::find::Programs;
use super::{LocalPostgresError, Options, io_error};

/// The major version of the cluster in `data_dir`; `None` when the folder is empty or missing.
///
/// # Errors
/// [`LocalPostgresError::NotACluster`] when it holds something else, [`LocalPostgresError::Io`] when it can't be read.
pub(super) fn version_of(data_dir: &Path) -> Result<Option<String>, LocalPostgresError> {
    match fs::read_to_string(data_dir.join("PG_VERSION")) {
        Ok(version) => return Ok(Some(version.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", &data_dir.join("PG_VERSION"))(error)),
    }
    match fs::read_dir(data_dir).map(Iterator::count) {
        Ok(0) => Ok(None),
        Ok(_) => Err(LocalPostgresError::NotACluster { data_dir: data_dir.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", data_dir)(error)),
    }
}

/// Creates the cluster. It is created next to its final location and moved when complete, so that a killed `initdb`
/// never leaves something that looks like a cluster.
///
/// # Errors
/// [`LocalPostgresError::Initdb`] with what it said, or [`LocalPostgresError::Io`].
pub(super) fn create(
    options: &Options,
    programs: &Programs,
    account: &Account,
) -> Result<(), LocalPostgresError> {
    let data_dir = &options.data_dir;
    let unfinished = beside(data_dir, "initdb");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io_error("remove", &unfinished))?;
    }
    account.make_private_folder(&unfinished)?;
    // Old systems lack C.UTF-8; C sorts the same way and differs only in what it calls a letter.
    let mut made = initdb(&unfinished, options.durable, programs, account, "C.UTF-8");
    if matches!(&made, Err(LocalPostgresError::Initdb { output, .. }) if output.contains("locale")) {
        made = initdb(&unfinished, options.durable, programs, account, "C");
    }
    made?;
    fs::rename(&unfinished, data_dir).map_err(io_error("move the new cluster to", data_dir))
}

fn initdb(
    folder: &Path,
    durable: bool,
    programs: &Programs,
    account: &Account,
    locale: &str,
) -> Result<(), LocalPostgresError> {
    let mut command = account.command(&programs.initdb);
    command.arg("-D").arg(folder).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", locale]);
    if !durable {
        command.arg("--no-sync");
    }
    let answer = command.output().map_err(io_error("run", &programs.initdb))?;
    if answer.status.success() {
        return Ok(());
    }
    let output =
        format!("{}{}", String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    Err(LocalPostgresError::Initdb { data_dir: folder.to_owned(), output })
}

/// The file `<folder>.<suffix>` next to a folder.
pub(super) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    folder.with_file_name(name)
}

/// The content of `postmaster.pid`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub pid: i32,
    /// Whether the server accepts connections.
    pub ready: bool,
}

impl PidFile {
    /// Reads the pid file of the cluster in `data_dir`; `None` when there is none, or it is not written yet.
    pub(super) fn find(data_dir: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data_dir.join("postmaster.pid")).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        // The eighth line is the state, from Postgres 10 on.
        Some(Self { pid, ready: lines.nth(6).is_some_and(|state| state.trim() == "ready") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_ready_only_when_its_eighth_line_says_so() {
        let lines = "4711\n/data\n1732444444\n5432\n/run\n\n  12345 7\n";
        assert_eq!(PidFile::parse(lines), Some(PidFile { pid: 4711, ready: false }));
        let ready = format!("{lines}ready   \n");
        assert_eq!(PidFile::parse(&ready), Some(PidFile { pid: 4711, ready: true }));
        assert_eq!(PidFile::parse(&format!("{lines}starting\n")).map(|file| file.ready), Some(false));
        assert_eq!(PidFile::parse(""), None);
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        assert_eq!(version_of(&parent.path().join("missing")).unwrap(), None);
        assert_eq!(version_of(parent.path()).unwrap(), None);
        fs::write(parent.path().join("holiday.jpg"), "x").unwrap();
        assert!(matches!(version_of(parent.path()), Err(LocalPostgresError::NotACluster { .. })));
    }
}
