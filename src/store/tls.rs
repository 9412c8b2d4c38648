//! How connections to the database are secured.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// How the connection to the database is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseTls {
    /// It does not leave this machine.
    Local,
    /// Encrypted, with the server's certificate verified.
    Verified,
    /// The URL asks for less: traffic can be read or changed, or the server impersonated.
    Unverified,
}

/// The options with TLS verified, unless the database is on this machine or the URL itself specifies TLS.
pub fn verified(options: PgConnectOptions, url: &str) -> (PgConnectOptions, DatabaseTls) {
    if is_local(&options) {
        return (options, DatabaseTls::Local);
    }
    let options = if names_mode(url) { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
    let tls = match options.get_ssl_mode() {
        PgSslMode::VerifyFull => DatabaseTls::Verified,
        _ => DatabaseTls::Unverified,
    };
    (options, tls)
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the URL or the environment specifies TLS.
fn names_mode(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let is_mode = |pair: &str| pair.starts_with("sslmode=") || pair.starts_with("ssl-mode=");
    query.split('&').any(is_mode) || std::env::var_os("PGSSLMODE").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(url: &str) -> DatabaseTls {
        verified(url.parse().unwrap(), url).1
    }

    #[test]
    fn a_database_elsewhere_proves_who_it_is_unless_the_address_says_otherwise() {
        for (url, expected) in [
            ("postgres://herald@db.example/herald", DatabaseTls::Verified),
            ("postgres://herald@10.0.0.5/herald", DatabaseTls::Verified),
            ("postgres://herald@db.example/herald?sslrootcert=/etc/ca.pem", DatabaseTls::Verified),
            ("postgres://herald@db.example/herald?sslmode=verify-full", DatabaseTls::Verified),
            ("postgres://herald@db.example/herald?sslmode=require", DatabaseTls::Unverified),
            ("postgres://herald@db.example/herald?sslmode=disable", DatabaseTls::Unverified),
            ("postgres://herald@localhost/herald", DatabaseTls::Local),
            ("postgres://herald@127.0.0.1:5433/herald", DatabaseTls::Local),
            ("postgres://herald@[::1]/herald", DatabaseTls::Local),
            ("postgres://herald@localhost.evil.example/herald", DatabaseTls::Verified),
            ("postgres:///herald?host=/run/postgresql", DatabaseTls::Local),
        ] {
            assert_eq!(tls(url), expected, "{url}");
        }
    }
}
