//! Starts a Postgres in a folder, prints its address, and stops it when Enter is pressed.

use local_postgres::{LocalPostgres, LocalPostgresError, Options};

fn main() -> Result<(), LocalPostgresError> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "/tmp/local-postgres-example".to_owned());
    let server = LocalPostgres::start(&Options::durable(folder))?;
    println!("Postgres {} answers at {}", server.version(), server.url());
    println!("press Enter to stop it");
    let _ = std::io::stdin().read_line(&mut String::new());
    server.stop()
}
