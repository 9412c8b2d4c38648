//! The account of the server: Postgres refuses to run as root.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User};

use super::{LocalPostgresError, io_error};

/// The account that runs initdb and the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Account {
    /// The current user.
    Own,
    /// An account that root switches to.
    Other { name: String, uid: Uid, gid: Gid },
}

impl Account {
    /// The current user, unless root: then the owner of the existing cluster, else `postgres`, else `nobody`.
    ///
    /// # Errors
    /// [`LocalPostgresError::NoAccount`] when root finds none of them.
    pub(super) fn choose(data_dir: &Path) -> Result<Self, LocalPostgresError> {
        if !Uid::effective().is_root() {
            return Ok(Self::Own);
        }
        let owner =
            fs::metadata(data_dir.join("PG_VERSION")).ok().map(|version| Uid::from_raw(version.uid()));
        let owner = owner.filter(|uid| !uid.is_root()).and_then(|uid| User::from_uid(uid).ok().flatten());
        let named = |name: &str| User::from_name(name).ok().flatten();
        owner
            .or_else(|| named("postgres"))
            .or_else(|| named("nobody"))
            .map(|user| Self::Other { name: user.name, uid: user.uid, gid: user.gid })
            .ok_or(LocalPostgresError::NoAccount)
    }

    /// A command that runs as this account, in its own process group (so that Ctrl-C only reaches us), in a folder that
    /// everyone can access, and without the `PG…` variables of our environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.process_group(0).current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        if let Self::Other { uid, gid, .. } = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// Creates `folder` with access only for this account.
    ///
    /// # Errors
    /// [`LocalPostgresError::Io`], also if it already exists.
    pub(super) fn make_private_folder(&self, folder: &Path) -> Result<(), LocalPostgresError> {
        fs::DirBuilder::new().mode(0o700).create(folder).map_err(io_error("create the folder", folder))?;
        if let Self::Other { uid, gid, .. } = self {
            std::os::unix::fs::chown(folder, Some(uid.as_raw()), Some(gid.as_raw()))
                .map_err(io_error("change the owner of", folder))?;
        }
        Ok(())
    }

    /// Checks that this account can enter `folder` and every folder above it.
    ///
    /// # Errors
    /// [`LocalPostgresError::Unreachable`] names the outermost folder that is closed.
    pub(super) fn check_reach(&self, folder: &Path) -> Result<(), LocalPostgresError> {
        let Self::Other { name, uid, gid } = self else { return Ok(()) };
        let mut ancestors: Vec<&Path> = folder.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            let Ok(found) = fs::metadata(ancestor) else { continue };
            let class = match (found.uid() == uid.as_raw(), found.gid() == gid.as_raw()) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if found.permissions().mode() & class == 0 {
                return Err(LocalPostgresError::Unreachable {
                    account: name.clone(),
                    folder: ancestor.to_owned(),
                });
            }
        }
        Ok(())
    }
}
