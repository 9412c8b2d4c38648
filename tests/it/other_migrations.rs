//! A database that other migrations have created: commands say so, and say what to do.

use sqlx::{Connection, Executor};

use crate::support::database;
use crate::support::processes::{free_port, run, scratch};

/// Has a migration of the database be another one than ours.
async fn change_a_migration(url: &str) {
    let mut connection = sqlx::PgConnection::connect(url).await.expect("connected");
    connection
        .execute("UPDATE _sqlx_migrations SET checksum = 'another' WHERE version = 2")
        .await
        .expect("changed");
}

/// What a command that fails prints.
async fn error_of(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(arguments, variables).await;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{error}");
    error
}

#[tokio::test]
async fn dev_names_the_flags_that_get_past_a_data_folder_of_another_version() {
    let data = scratch("dev");
    std::fs::create_dir_all(&data).expect("a folder");
    let postgres = database::start_in(data.join("postgres"), &[]).await;
    database::migrate(&postgres.url()).await;
    change_a_migration(&postgres.url()).await;
    tokio::task::spawn_blocking(|| postgres.stop()).await.expect("asked").expect("stopped");
    let data = data.to_string_lossy().into_owned();
    let (port, sandbox_port) = (free_port().to_string(), free_port().to_string());
    let arguments = ["dev", "--port", &port, "--sandbox-port", &sandbox_port, "--data", &data];
    let error = error_of(&arguments, &[]).await;
    let remedy = format!(
        "start over with `--fresh`, which deletes all data in {data}, or choose another folder with `--data`"
    );
    assert!(error.contains("migration 2 differs") && error.contains(&remedy), "{error}");
}

#[tokio::test]
async fn migrate_serve_and_doctor_do_not_use_a_database_with_other_migrations() {
    let database = database::fresh().await;
    change_a_migration(&database).await;
    let variables = [
        ("HERALD_DATABASE_URL", &*database),
        ("HERALD_SECRET_KEY", database::SECRET_KEY),
        ("HERALD_ALLOW_UNSAFE_POSTGRES", "true"),
    ];
    for command in ["migrate", "serve"] {
        let error = error_of(&[command], &variables).await;
        assert!(
            error.contains("with other migrations (migration 2 differs): create an empty database"),
            "{command}: {error}"
        );
    }
    let doctor = run(&["doctor"], &variables).await;
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("with another migration 2"), "{text}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_not_migrated_by_an_older_one() {
    let database = database::fresh().await;
    let mut connection = sqlx::PgConnection::connect(&database).await.expect("connected");
    connection
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
             SELECT 9999, 'later', installed_on, success, checksum, execution_time
             FROM _sqlx_migrations WHERE version = 2",
        )
        .await
        .expect("written");
    let variables = [("HERALD_DATABASE_URL", &*database), ("HERALD_SECRET_KEY", database::SECRET_KEY)];
    let error = error_of(&["migrate"], &variables).await;
    assert!(error.contains("migration 9999 is unknown here): use that version or a newer one"), "{error}");
}
