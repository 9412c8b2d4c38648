//! Against the Postgres that is installed; run as root and as an ordinary user.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use sqlx::{Connection, PgConnection, Row};

use super::*;

/// A folder that the server's account may enter too, whatever the umask.
fn open_folder() -> tempfile::TempDir {
    let open = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("herald-pg").permissions(open).tempdir().unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn query(url: &str, sql: &'static str) -> Result<String, sqlx::Error> {
    run(async {
        let mut connection = PgConnection::connect(url).await?;
        let row = sqlx::raw_sql(sql).fetch_optional(&mut connection).await?;
        Ok(row.map(|row| row.get::<String, _>(0)).unwrap_or_default())
    })
}

#[test]
fn a_new_server_takes_connections_and_keeps_its_data_through_a_restart() {
    let folder = open_folder();
    let options = Options::throwaway(folder.path().join("nested/data"));
    let server = LocalPostgres::start(&options).unwrap();
    let major = server.version().split('.').next().unwrap().to_owned();
    assert!(query(&server.url(), "SELECT version()").unwrap().contains(&major));
    assert_eq!(query(&server.url(), "SHOW listen_addresses").unwrap(), "");
    query(&server.url(), "CREATE DATABASE \"it's 1\"").unwrap();
    let other = server.url_of("it's 1");
    query(&other, "CREATE TABLE kept AS SELECT 'yes' AS answer").unwrap();
    server.stop().unwrap();
    assert!(query(&other, "SELECT 1").is_err(), "it has stopped");

    let again = LocalPostgres::start(&options).unwrap();
    assert_eq!(query(&again.url_of("it's 1"), "SELECT answer FROM kept").unwrap(), "yes");
}

#[test]
fn durable_servers_sync_and_own_settings_win() {
    let folder = open_folder();
    let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let options = Options { settings, ..Options::durable(folder.path().join("data")) };
    let server = LocalPostgres::start(&options).unwrap();
    assert_eq!(query(&server.url(), "SHOW fsync").unwrap(), "on");
    assert_eq!(query(&server.url(), "SHOW work_mem").unwrap(), "7MB");
    assert_eq!(query(&server.url(), "SHOW server_encoding").unwrap(), "UTF8");
}

#[test]
fn a_dropped_server_stops() {
    let folder = open_folder();
    let server = LocalPostgres::start(&Options::throwaway(folder.path().join("data"))).unwrap();
    let url = server.url();
    drop(server);
    assert!(query(&url, "SELECT 1").is_err());
    assert!(!folder.path().join("data/postmaster.pid").exists());
}

#[test]
fn a_second_process_does_not_take_over_a_living_server() {
    let folder = open_folder();
    let options = Options::throwaway(folder.path().join("data"));
    let server = LocalPostgres::start(&options).unwrap();
    assert!(matches!(LocalPostgres::start(&options), Err(LocalPostgresError::InUse { .. })));
    assert!(query(&server.url(), "SELECT version()").is_ok());
}

#[test]
fn a_server_left_behind_without_a_watchdog_is_stopped_by_the_next_start() {
    let folder = open_folder();
    let options = Options::throwaway(folder.path().join("data"));
    let mut left = LocalPostgres::start(&options).unwrap();
    let left_pid = left.child.as_ref().unwrap().id();
    left.watchdog.kill();
    left.lock.unlock().unwrap();

    let next = LocalPostgres::start(&options).unwrap();
    assert_ne!(next.child.as_ref().unwrap().id(), left_pid);
    assert!(query(&next.url(), "SELECT version()").is_ok());
    assert!(!matches!(left.child.as_mut().unwrap().try_wait(), Ok(None)), "the old one has ended");
}

#[test]
fn a_pid_file_that_names_a_stranger_is_cleared_and_the_stranger_lives() {
    let folder = open_folder();
    let options = Options::throwaway(folder.path().join("data"));
    LocalPostgres::start(&options).unwrap().stop().unwrap();
    let stranger = i32::try_from(std::process::id()).unwrap();
    std::fs::write(options.data_dir.join("postmaster.pid"), format!("{stranger}\n")).unwrap();
    let server = LocalPostgres::start(&options).unwrap();
    assert!(query(&server.url(), "SELECT version()").is_ok());
}

/// Not a test of its own: the process that `a_killed_process_leaves_no_server` kills.
#[test]
#[ignore = "started by a_killed_process_leaves_no_server"]
fn hold_a_server_until_killed() {
    let Ok(data_dir) = std::env::var("HELD_DATA_DIR") else { return };
    let server = LocalPostgres::start(&Options::throwaway(data_dir)).unwrap();
    println!("\nurl={}", server.url());
    let _ = io::stdin().read_line(&mut String::new());
}

#[test]
fn a_killed_process_leaves_no_server() {
    let folder = open_folder();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::hold_a_server_until_killed", "--ignored", "--nocapture"])
        .env("HELD_DATA_DIR", folder.path().join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(holder.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = said.find_map(|line| line.strip_prefix("url=").map(str::to_owned)).unwrap();
    run(async {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        holder.kill().unwrap();
        holder.wait().unwrap();
        // Without the watchdog this would last an hour.
        let cut_off = sqlx::raw_sql("SELECT pg_sleep(3600)").execute(&mut connection).await;
        assert!(cut_off.is_err(), "the server ended under the query");
    });
    // The folder is free for the next one, also while the old server is still on its way out.
    LocalPostgres::start(&Options::throwaway(folder.path().join("data"))).unwrap().stop().unwrap();
}

#[test]
fn a_long_path_gets_its_socket_elsewhere() {
    let folder = open_folder();
    let deep = folder.path().join("a-rather-long-folder-name".repeat(4)).join("data");
    let server = LocalPostgres::start(&Options::throwaway(&deep)).unwrap();
    assert!(query(&server.url(), "SELECT version()").is_ok());
}

#[test]
fn a_cluster_of_another_major_version_is_refused_by_name() {
    let folder = open_folder();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = LocalPostgres::start(&Options::throwaway(&data)).unwrap_err();
    assert!(error.to_string().contains("created by Postgres 9, but only version"), "{error}");
}

#[test]
fn a_server_that_does_not_start_shows_the_end_of_its_log() {
    let folder = open_folder();
    let settings = vec![("shared_buffers".to_owned(), "lots".to_owned())];
    let options = Options { settings, ..Options::throwaway(folder.path().join("data")) };
    let error = LocalPostgres::start(&options).unwrap_err().to_string();
    assert!(error.contains("invalid value for parameter \"shared_buffers\""), "{error}");
}

#[test]
fn root_is_told_about_a_folder_that_the_servers_account_cannot_enter() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let private = std::fs::Permissions::from_mode(0o700);
    let closed = tempfile::Builder::new().permissions(private).tempdir().unwrap();
    let error = LocalPostgres::start(&Options::throwaway(closed.path().join("data"))).unwrap_err();
    let LocalPostgresError::Unreachable { folder, .. } = &error else { panic!("{error}") };
    assert_eq!(folder, closed.path());
}
