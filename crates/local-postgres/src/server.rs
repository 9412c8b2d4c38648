//! The running server: start, ready, stop.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account::Account;
use super::cluster::{self, PidFile, beside};
use super::find::{self, Programs};
use super::watchdog::Watchdog;
use super::{LocalPostgresError, Options, io_error};

/// Long enough for the recovery of a development database on a slow disk.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// How long to wait after each signal before the next, stronger one.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(5);
const PORT: u16 = 5432;
/// The longest socket path is 104 bytes on macOS and 108 on Linux, including `/.s.PGSQL.5432`.
const SOCKET_FOLDER_LIMIT: usize = 88;
const LOG_TAIL_BYTES: u64 = 4096;

/// A running private server. Dropping it stops it on a best-effort basis; [`LocalPostgres::stop`] reports errors.
#[derive(Debug)]
pub struct LocalPostgres {
    pub(super) data_dir: PathBuf,
    version: String,
    socket: SocketFolder,
    /// `None` once it has stopped.
    pub(super) child: Option<Child>,
    pub(super) watchdog: Watchdog,
    /// Held until we exit, so that a second process neither shares nor stops this server.
    pub(super) lock: File,
}

impl LocalPostgres {
    /// Starts the server in `options.data_dir`, making the cluster when the folder is empty, and returns when it takes
    /// connections. A server that a killed process left there is stopped first.
    ///
    /// Blocks for as long as it takes (a second or two for a new cluster); from async code use `spawn_blocking`.
    ///
    /// # Errors
    /// See [`LocalPostgresError`]; each message says what to do.
    pub fn start(options: &Options) -> Result<Self, LocalPostgresError> {
        let options = &Options { data_dir: absolute(&options.data_dir)?, ..options.clone() };
        let data_dir = &options.data_dir;
        let lock = lock(data_dir)?;
        let made_by = cluster::version_of(data_dir)?;
        let programs = find::programs(data_dir, made_by.as_deref())?;
        let account = Account::choose(data_dir)?;
        account.check_reach(data_dir.parent().unwrap_or(data_dir))?;
        if made_by.is_some() {
            stop_leftover(data_dir)?;
        } else {
            cluster::create(options, &programs, &account)?;
        }
        let socket = SocketFolder::choose(data_dir, &account)?;
        let mut child = spawn(options, &programs, &account, &socket)?;
        let watchdog = match Watchdog::start(&account, child.id(), data_dir) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                stop_child(&mut child, data_dir)?;
                return Err(error);
            }
        };
        let mut server = Self {
            data_dir: data_dir.clone(),
            version: programs.version,
            socket,
            child: Some(child),
            watchdog,
            lock,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The URL of the database `postgres`, in sqlx's form for a Unix socket.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of another database of this server; it need not exist yet.
    pub fn url_of(&self, database: &str) -> String {
        let host = percent_encode(&self.socket.path().to_string_lossy());
        format!("postgres://postgres@{host}:{PORT}/{}?sslmode=disable", percent_encode(database))
    }

    /// The server's version, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Stops the server: open transactions are rolled back, what was committed is kept. Blocks until it has ended.
    ///
    /// # Errors
    /// [`LocalPostgresError::Stop`] when it outlives every signal.
    pub fn stop(mut self) -> Result<(), LocalPostgresError> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), LocalPostgresError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let stopped = stop_child(&mut child, &self.data_dir);
        self.watchdog.dismiss();
        // Closing the file would be enough; an explicit unlock shows the order: first stopped, then unlocked.
        let _ = self.lock.unlock();
        stopped
    }

    fn wait_until_ready(&mut self) -> Result<(), LocalPostgresError> {
        let patience = Instant::now() + START_PATIENCE;
        let own_pid = self.child.as_ref().map_or(0, pid_of);
        loop {
            if PidFile::find(&self.data_dir).is_some_and(|file| file.ready && file.pid == own_pid) {
                return Ok(());
            }
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > patience {
                let log = beside(&self.data_dir, "log");
                let last_lines = last_lines(&log);
                return Err(LocalPostgresError::Start { data_dir: self.data_dir.clone(), log, last_lines });
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::warn!("could not stop the private Postgres: {error}");
        }
    }
}

/// The folder's absolute path, its parent made when missing and free of links (Postgres compares paths as text).
fn absolute(data_dir: &Path) -> Result<PathBuf, LocalPostgresError> {
    let full = std::path::absolute(data_dir).map_err(io_error("find", data_dir))?;
    let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
        return Err(LocalPostgresError::NotACluster { data_dir: full });
    };
    fs::create_dir_all(parent).map_err(io_error("create the folder", parent))?;
    let parent = parent.canonicalize().map_err(io_error("find", parent))?;
    Ok(parent.join(name))
}

/// Acquires the lock that marks this folder's server as owned by a running process. The kernel releases it when we exit.
fn lock(data_dir: &Path) -> Result<File, LocalPostgresError> {
    let path = beside(data_dir, "lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LocalPostgresError::InUse { data_dir: data_dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

fn spawn(
    options: &Options,
    programs: &Programs,
    account: &Account,
    socket: &SocketFolder,
) -> Result<Child, LocalPostgresError> {
    let log_path = beside(&options.data_dir, "log");
    let log =
        File::options().create(true).append(true).open(&log_path).map_err(io_error("open", &log_path))?;
    let log_again = log.try_clone().map_err(io_error("open", &log_path))?;
    let mut command = account.command(&programs.postgres);
    command.arg("-D").arg(&options.data_dir).arg("-p").arg(PORT.to_string()).arg("-k").arg(socket.path());
    for (name, value) in settings(options) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command.stdout(Stdio::from(log)).stderr(Stdio::from(log_again));
    command.spawn().map_err(io_error("run", &programs.postgres))
}

/// Our settings, then the caller's.
fn settings(options: &Options) -> impl Iterator<Item = (&str, &str)> {
    const ALWAYS: [(&str, &str); 5] = [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("logging_collector", "off"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
    ];
    const THROWAWAY: [(&str, &str); 8] = [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("autovacuum", "off"),
        ("shared_buffers", "128MB"),
        ("max_connections", "200"),
    ];
    let careless: &[_] = if options.durable { &[] } else { &THROWAWAY };
    let own = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    ALWAYS.into_iter().chain(careless.iter().copied()).chain(own)
}

/// The socket's folder: the cluster's, or a temporary private one with a shorter path.
#[derive(Debug)]
struct SocketFolder {
    path: PathBuf,
    temporary: bool,
}

impl SocketFolder {
    fn choose(data_dir: &Path, account: &Account) -> Result<Self, LocalPostgresError> {
        if data_dir.as_os_str().len() <= SOCKET_FOLDER_LIMIT {
            return Ok(Self { path: data_dir.to_owned(), temporary: false });
        }
        for parent in [std::env::temp_dir(), PathBuf::from("/tmp")] {
            // Never uses an existing folder: creating it fails if the name exists.
            for n in 0..100 {
                let path = parent.join(format!("herald-{}-{n}", std::process::id()));
                let fits =
                    path.as_os_str().len() <= SOCKET_FOLDER_LIMIT && account.check_reach(&parent).is_ok();
                if fits && account.make_private_folder(&path).is_ok() {
                    return Ok(Self { path, temporary: true });
                }
            }
        }
        Err(LocalPostgresError::NoSocketFolder)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        if self.temporary {
            // Only an empty temporary folder may remain.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Stops the server of a killed process, and removes a pid file whose process id was reused.
fn stop_leftover(data_dir: &Path) -> Result<(), LocalPostgresError> {
    let Some(PidFile { pid, .. }) = PidFile::find(data_dir) else { return Ok(()) };
    if serves(pid, data_dir) {
        tracing::info!("stopping a Postgres (process {pid}) left over from an earlier run");
        return stop(pid, data_dir, || !serves(pid, data_dir));
    }
    let stale = data_dir.join("postmaster.pid");
    fs::remove_file(&stale).map_err(io_error("remove", &stale))
}

/// Whether process `pid` is a living server of this folder: its command line names the folder. (One that ended but
/// was not waited for has no command line.)
fn serves(pid: i32, data_dir: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok().or_else(|| {
        let listed =
            std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
        listed.ok().map(|listed| listed.stdout)
    });
    let line = String::from_utf8_lossy(&arguments.unwrap_or_default()).replace('\0', " ");
    line.contains("postgres") && line.contains(&format!("-D {}", data_dir.display()))
}

fn stop_child(child: &mut Child, data_dir: &Path) -> Result<(), LocalPostgresError> {
    stop(pid_of(child), data_dir, || !matches!(child.try_wait(), Ok(None)))
}

/// Requests a fast shutdown, then an immediate one, then kills; waits after each.
fn stop(pid: i32, data_dir: &Path, mut ended: impl FnMut() -> bool) -> Result<(), LocalPostgresError> {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
        if ended() {
            return Ok(());
        }
        // It may exit between the check and the signal.
        let _ = kill(Pid::from_raw(pid), signal);
        let patience = Instant::now() + STOP_PATIENCE;
        while Instant::now() < patience {
            if ended() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }
    Err(LocalPostgresError::Stop { data_dir: data_dir.to_owned(), pid })
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or(0)
}

/// The end of the log, cut at a line.
fn last_lines(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok(tail)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
