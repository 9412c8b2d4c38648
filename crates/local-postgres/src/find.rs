//! Finding Postgres' programs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::LocalPostgresError;

/// What to do when there is none.
pub(super) const NOT_INSTALLED: &str = "no Postgres found (looked in $PG_BIN, $PATH and the usual folders); install it (apt install postgresql, brew \
     install postgresql@17, dnf install postgresql-server), or set PG_BIN to the folder of its programs";

/// The programs of one installed Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub initdb: PathBuf,
    pub postgres: PathBuf,
    /// Such as `15.18`.
    pub version: String,
}

impl Programs {
    /// Such as `15`.
    pub(super) fn major(&self) -> &str {
        let end = self.version.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.version.len());
        &self.version[..end]
    }

    /// The programs in `folder`, if both exist and report their version.
    fn in_folder(folder: &Path) -> Option<Self> {
        // Debian and others link single programs into a folder of the PATH; their siblings are where the link leads.
        let initdb = folder.join("initdb").canonicalize().ok()?;
        let postgres = initdb.parent()?.join("postgres");
        let answer = Command::new(&postgres).arg("--version").output().ok()?;
        let version = parse_version(&String::from_utf8_lossy(&answer.stdout))?;
        Some(Self { initdb, postgres, version })
    }
}

/// Finds the programs to use, of major version `wanted` when a cluster is there already, else the first that is found.
///
/// # Errors
/// [`LocalPostgresError::NotInstalled`], [`LocalPostgresError::WrongPgBin`], and for a cluster in `data_dir` that none
/// of the installed versions can open [`LocalPostgresError::OtherVersion`].
pub(super) fn programs(data_dir: &Path, wanted: Option<&str>) -> Result<Programs, LocalPostgresError> {
    let mut seen: Vec<Programs> = Vec::new();
    for folder in folders()? {
        let Some(found) = Programs::in_folder(&folder) else { continue };
        if wanted.is_none_or(|wanted| wanted == found.major()) {
            return Ok(found);
        }
        seen.push(found);
    }
    let (Some(wanted), false) = (wanted, seen.is_empty()) else {
        return Err(LocalPostgresError::NotInstalled);
    };
    let mut majors: Vec<&str> = seen.iter().map(Programs::major).collect();
    majors.dedup();
    Err(LocalPostgresError::OtherVersion {
        data_dir: data_dir.to_owned(),
        made_by: wanted.to_owned(),
        installed: majors.join(", "),
    })
}

/// Where to search, best first. If `PG_BIN` is set, only that is used.
fn folders() -> Result<Vec<PathBuf>, LocalPostgresError> {
    if let Some(path) = std::env::var_os("PG_BIN").filter(|path| !path.is_empty()).map(PathBuf::from) {
        return match Programs::in_folder(&path) {
            Some(_) => Ok(vec![path]),
            None => Err(LocalPostgresError::WrongPgBin { path }),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(versioned("/usr/lib/postgresql", "", "bin"));
    folders.extend(versioned("/opt/homebrew/opt", "postgresql@", "bin"));
    folders.extend(versioned("/usr/local/opt", "postgresql@", "bin"));
    folders.extend(versioned("/usr", "pgsql-", "bin"));
    folders.extend(versioned("/Applications/Postgres.app/Contents/Versions", "", "bin"));
    Ok(folders)
}

/// The folders `<parent>/<prefix><version>/<rest>`, newest version first.
fn versioned(parent: &str, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((version_number(&entry.file_name(), prefix)?, entry.path().join(rest))))
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn version_number(name: &OsStr, prefix: &str) -> Option<u32> {
    name.to_str()?.strip_prefix(prefix)?.parse().ok()
}

/// `15.18` out of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(said: &str) -> Option<String> {
    let version = said.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_distributions_print() {
        for (said, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18"),
            ("postgres (PostgreSQL) 17.2 (Homebrew)\n", "17.2"),
            ("postgres (PostgreSQL) 18beta1\n", "18beta1"),
        ] {
            assert_eq!(parse_version(said).as_deref(), Some(version));
        }
        assert_eq!(parse_version("mysqld  Ver 8.0"), None);
    }

    #[test]
    fn the_major_version_is_the_leading_number() {
        let programs = |version: &str| Programs {
            initdb: PathBuf::new(),
            postgres: PathBuf::new(),
            version: version.to_owned(),
        };
        assert_eq!(programs("15.18").major(), "15");
        assert_eq!(programs("18beta1").major(), "18");
    }

    #[test]
    fn folders_of_versions_come_newest_first() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["postgresql@9", "postgresql@17", "postgresql@14", "node@22", "postgresql@x"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let found = versioned(parent.path().to_str().unwrap(), "postgresql@", "bin");
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(parent.path()).unwrap()).collect();
        assert_eq!(names, ["postgresql@17/bin", "postgresql@14/bin", "postgresql@9/bin"].map(Path::new));
    }
}
