//! A shell that stops the server after we exit.
//!
//! It waits on a pipe that only this process holds open. When the kernel closes the pipe, even after SIGKILL, the shell
//! sends the server a fast shutdown and, ten seconds later, an immediate one.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use super::account::Account;
use super::{LocalPostgresError, io_error};

/// `$1` is the server's process, `$2` its folder. A line on the pipe means that it is no longer needed. The pid file must
/// contain the same process, so that a reused process id is never signalled.
const SCRIPT: &str = r#"
read -r _ && exit 0
tries=0
while [ "$tries" -lt 150 ] && kill -0 "$1" 2>/dev/null; do
  pid=
  { read -r pid <"$2/postmaster.pid"; } 2>/dev/null
  if [ "$pid" = "$1" ]; then
    if [ "$tries" -lt 100 ]; then kill -INT "$1"; else kill -QUIT "$1"; fi
  fi
  tries=$((tries + 1))
  sleep 0.1
done 2>/dev/null
"#;

/// The waiting shell.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Watches over the server `pid` in `data_dir`, as the server's own account.
    ///
    /// # Errors
    /// [`LocalPostgresError::Io`] when there is no `/bin/sh`.
    pub(super) fn start(account: &Account, pid: u32, data_dir: &Path) -> Result<Self, LocalPostgresError> {
        let shell = Path::new("/bin/sh");
        let mut command = account.command(shell);
        command.args(["-c", SCRIPT, "herald-watchdog"]).arg(pid.to_string()).arg(data_dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(io_error("run", shell))
    }

    /// Dismisses it: the server has stopped.
    pub(super) fn dismiss(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // The shell may already have exited.
            let _ = pipe.write_all(b"stopped\n");
        }
        let _ = self.0.wait();
    }

    /// Kills it, as if it had never been started.
    #[cfg(test)]
    pub(super) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
