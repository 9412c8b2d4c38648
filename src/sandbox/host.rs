//! Which names the sandbox answers to. A page on the web can have a name of its own point to this machine and would
//! then
//! read what the sandbox shows (DNS rebinding); an address or a name that was allowed is never such a name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Sandbox;

/// Accepts requests to loopback names, IP addresses, and allowed names.
pub(super) async fn check(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    let named = request.headers().get(header::HOST).map(|value| value.to_str().unwrap_or_default());
    // Every browser sends it.
    if named.is_none_or(|host| is_known(host, &sandbox.options.hosts)) {
        return next.run(request).await;
    }
    let text = "the sandbox only accepts localhost and IP addresses; allow another name with --host NAME";
    (StatusCode::MISDIRECTED_REQUEST, Json(json!({"errors": [text]}))).into_response()
}

fn is_known(host: &str, allowed: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|digit| digit.is_ascii_digit()) => {
            name
        }
        _ => host,
    };
    let is_address = name.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok()
        || name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<IpAddr>().ok()).is_some();
    let is_allowed = |one: &String| one.eq_ignore_ascii_case(name);
    is_address || name.eq_ignore_ascii_case("localhost") || allowed.iter().any(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_allowed_names_are_known_and_others_are_not() {
        let allowed = ["sandbox".to_owned()];
        for known in [
            "localhost",
            "localhost:8081",
            "127.0.0.1:8081",
            "10.1.2.3",
            "[::1]:8081",
            "[::1]",
            "Sandbox:8081",
        ] {
            assert!(is_known(known, &allowed), "{known}");
        }
        for unknown in
            ["evil.example", "evil.example:8081", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert!(!is_known(unknown, &allowed), "{unknown}");
        }
        assert!(!is_known("sandbox:8081", &[]));
    }
}
