//! The caller of a request: address, browser, and origin page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::Console;
use super::cookies::Cookie;
use super::failure::Failure;
use crate::access::Client;

/// The caller of a request, set by the guard.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Its address, according to trusted proxies.
    pub address: IpAddr,
    browser: Option<String>,
    session: Option<String>,
}

impl Caller {
    /// The caller of a request.
    pub fn of(console: &Console, request: &Request) -> Self {
        let headers = request.headers();
        let text = |cookie: Cookie| cookie.of(console, headers).map(str::to_owned);
        Self {
            address: address(console, request),
            browser: text(Cookie::Browser),
            session: text(Cookie::Session),
        }
    }

    /// The caller in the form that login needs.
    pub fn client(&self) -> Client<'_> {
        Client { address: self.address, browser: self.browser.as_deref(), session: self.session.as_deref() }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Every page has passed its guard.
        parts.extensions.get::<Self>().cloned().ok_or(Failure::Internal)
    }
}

fn address(console: &Console, request: &Request) -> IpAddr {
    let peer = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
    let proxies = &console.proxies;
    let values: Vec<&str> = request
        .headers()
        .get_all(proxies.header())
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    proxies.client(peer, values.into_iter())
}

/// Whether a form comes from the console. Browsers send the page's origin, and whether it is the same as the form's
/// target. If `console.public_url` is set, no other origin is accepted, regardless of `Host`.
pub(super) fn is_from_here(console: &Console, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (site, origin) = (text("sec-fetch-site"), text(header::ORIGIN.as_str()));
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    match (&console.public_url, origin) {
        (Some(url), Some(origin)) => url.origin().ascii_serialization() == origin,
        (Some(_), None) => false,
        (None, Some(origin)) => {
            let name = origin.split_once("://").map(|(_, name)| name);
            name.is_some() && name == host(headers)
        }
        (None, None) => site.is_some(),
    }
}

pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether a `Host` names this machine, with any port.
pub(super) fn is_local(host: &str) -> bool {
    let name = if host.starts_with('[') {
        host.split_once(']').map_or(host, |(name, _)| &name[1..])
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether the request follows a link on another site, so that the browser omitted strict cookies.
pub(super) fn follows_foreign_link(headers: &HeaderMap) -> bool {
    let is = |name, wanted: &[u8]| headers.get(name).is_some_and(|value| value.as_bytes() == wanted);
    is("sec-fetch-site", b"cross-site") && is("sec-fetch-mode", b"navigate")
}

/// A redirect target within the console, never on another site.
pub(super) fn own_place(next: &str) -> &str {
    let is_ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && !next.contains(char::is_control);
    if is_ours { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_s_names_are_local() {
        for local in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "127.0.0.1"] {
            assert!(is_local(local), "{local}");
        }
        for other in
            ["evil.example", "localhost.evil.example:8080", "10.0.0.1:8080", "", "127.0.0.1.evil.example"]
        {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn a_log_in_never_leads_to_another_site() {
        assert_eq!(own_place("/deliveries/dlv_1?x=y"), "/deliveries/dlv_1?x=y");
        for bad in [
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "",
            "javascript:alert(1)",
            "/\t/evil",
            "/\0",
            "/\u{1}",
            "/\u{b}",
            "/\u{7f}",
            "/\u{85}",
        ] {
            assert_eq!(own_place(bad), "/", "{bad}");
        }
    }
}
