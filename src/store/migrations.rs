//! The files of `migrations/`, in the binary. They are listed here because sqlx's macro that reads the folder would
//! compile sqlx, rustls and tokio a second time, for the compiler.

use std::sync::LazyLock;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

macro_rules! files {
    ($($name:literal,)+) => {
        &[$(($name, include_str!(concat!("../../migrations/", $name)))),+]
    };
}

/// Every file, with its content. A new file belongs at the end.
const FILES: &[(&str, &str)] = files![
    "0001_catalog.sql",
    "0002_events.sql",
    "0003_catalog_life_cycle.sql",
    "0004_webhooks.sql",
    "0005_pacing.sql",
    "0006_order.sql",
    "0007_digests.sql",
    "0008_fenced_workers.sql",
    "0009_team.sql",
    "0010_console.sql",
    "0011_security.sql",
    "0012_log_in.sql",
    "0014_roles.sql",
    "0016_ingestion.sql",
    "0017_alias_labels.sql",
    "0018_database_watch.sql",
    "0019_provider_account.sql",
    "0020_sealing_key.sql",
    "0021_people.sql",
    "0022_outcomes.sql",
    "0023_connectors.sql",
    "0024_erasures.sql",
    "0025_deleted_rules.sql",
];

/// Every migration, in order.
pub(super) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| Migrator::with_migrations(FILES.iter().filter_map(read).collect()));

/// The migration in a file: its version and its description are parts of the file's name.
fn read((name, sql): &(&'static str, &'static str)) -> Option<Migration> {
    let (version, description) = name.strip_suffix(".sql")?.split_once('_')?;
    let description = description.replace('_', " ").into();
    Some(Migration::new(version.parse().ok()?, description, MigrationType::Simple, sql.into_sql_str(), false))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_a_migration() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, names, "list each file of `migrations/` in src/store/migrations.rs");
        let versions: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        let numbers: Vec<i64> = names.iter().map(|name| name[..4].parse().unwrap()).collect();
        assert_eq!(versions, numbers);
    }
}
