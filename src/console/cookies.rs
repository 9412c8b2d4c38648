//! The console's cookies: purpose, lifetime and `SameSite` policy.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use chrono::TimeDelta;
use secrecy::ExposeSecret;

use super::Console;
use crate::access::{LoggedIn, NewSession};
use crate::domain::clock::Timestamp;

/// A cookie of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// The session.
    Session,
    /// A flash message for the next page.
    Notice,
    /// A browser with a previous login: its failed logins are counted separately.
    Browser,
    /// A login that still requires the second factor.
    Pending,
    /// A login in progress at the provider.
    Provider,
}

/// Lifetime of the cookie of known browsers.
const BROWSER_STAYS: TimeDelta = TimeDelta::days(180);
/// Lifetime of a flash message.
const NOTICE_STAYS: TimeDelta = TimeDelta::minutes(1);
/// How long a login at the provider may take.
const PROVIDER_STAYS: TimeDelta = TimeDelta::minutes(10);

impl Cookie {
    /// Its name. With https, the `__Host-` prefix prevents other hosts of the domain from setting it.
    fn name(self, console: &Console) -> &'static str {
        match (self, console.is_secure()) {
            (Self::Session, true) => "__Host-herald",
            (Self::Session, false) => "herald",
            (Self::Notice, true) => "__Host-herald_notice",
            (Self::Notice, false) => "herald_notice",
            (Self::Browser, true) => "__Host-herald_browser",
            (Self::Browser, false) => "herald_browser",
            (Self::Pending, true) => "__Host-herald_pending",
            (Self::Pending, false) => "herald_pending",
            (Self::Provider, true) => "__Host-herald_provider",
            (Self::Provider, false) => "herald_provider",
        }
    }

    /// The provider redirects the browser from its own site, where strict cookies are omitted. This cookie grants
    /// nothing by itself.
    fn same_site(self) -> &'static str {
        if self == Self::Provider { "Lax" } else { "Strict" }
    }

    /// Its value in a request.
    pub fn of<'a>(self, console: &Console, headers: &'a HeaderMap) -> Option<&'a str> {
        find(headers, self.name(console)).filter(|value| !value.is_empty())
    }

    /// Sets it.
    pub fn set(self, console: &Console, response: &mut Response, value: &str, stays: TimeDelta) {
        let (name, site) = (self.name(console), self.same_site());
        let secure = if console.is_secure() { "; Secure" } else { "" };
        let age = stays.num_seconds().max(0);
        let text = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite={site}{secure}");
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }

    /// Deletes it.
    pub fn clear(self, console: &Console, response: &mut Response) {
        self.set(console, response, "", TimeDelta::zero());
    }
}

fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Sets the session cookie.
pub(super) fn set_session(console: &Console, response: &mut Response, session: &NewSession) {
    let left = |until: Timestamp| until - console.clock.now();
    Cookie::Session.set(console, response, session.token.expose_secret(), left(session.ends_at));
    if let Some(browser) = &session.browser {
        Cookie::Browser.set(console, response, browser.expose_secret(), BROWSER_STAYS);
    }
    Cookie::Pending.clear(console, response);
}

/// Sets the cookies for the result of a login.
pub(super) fn set_logged_in(console: &Console, response: &mut Response, logged_in: &LoggedIn) {
    match logged_in {
        LoggedIn::Session(session) => set_session(console, response, session),
        LoggedIn::NeedsCode(pending) => {
            let stays = pending.ends_at - console.clock.now();
            Cookie::Pending.set(console, response, pending.token.expose_secret(), stays);
        }
    }
}

/// Sets a flash message.
pub(super) fn set_notice(console: &Console, response: &mut Response, text: &str) {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    Cookie::Notice.set(console, response, &text, NOTICE_STAYS);
}

/// The flash message of the previous page.
pub(super) fn notice(console: &Console, headers: &HeaderMap) -> Option<String> {
    let text = Cookie::Notice.of(console, headers)?;
    let (text, _) = url::form_urlencoded::parse(text.as_bytes()).next()?;
    Some(text.into_owned())
}

/// Stores the state of a login at the provider.
pub(super) fn set_provider(console: &Console, response: &mut Response, state: &str) {
    Cookie::Provider.set(console, response, state, PROVIDER_STAYS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("xherald=1; herald=abc; herald2=x"));
        assert_eq!(find(&headers, "herald"), Some("abc"));
        assert_eq!(find(&headers, "none"), None);
    }
}
