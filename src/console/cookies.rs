//! The console's cookies: what each is for, how long it lives, and which requests bring it along.

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
    /// Who is logged in.
    Session,
    /// A word from one page to the next.
    Notice,
    /// A browser that somebody logged in with before: its failed log-ins are counted apart.
    Browser,
    /// A log-in that lacks the second factor.
    Pending,
    /// A log-in that is at the provider.
    Provider,
}

/// How long a browser keeps that somebody logged in with it.
const BROWSER_STAYS: TimeDelta = TimeDelta::days(180);
/// How long a word waits for the next page.
const NOTICE_STAYS: TimeDelta = TimeDelta::minutes(1);
/// How long somebody may stay at the provider.
const PROVIDER_STAYS: TimeDelta = TimeDelta::minutes(10);

impl Cookie {
    /// Its name. With https browsers themselves see to it that no other name of the domain can set it.
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

    /// The provider sends the browser back from its own site, which brings along no strict cookie. That cookie alone
    /// opens nothing.
    fn same_site(self) -> &'static str {
        if self == Self::Provider { "Lax" } else { "Strict" }
    }

    /// Its value in a request.
    pub fn of<'a>(self, console: &Console, headers: &'a HeaderMap) -> Option<&'a str> {
        find(headers, self.name(console)).filter(|value| !value.is_empty())
    }

    /// Hands it to the browser.
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

    /// Takes it out of the browser.
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

/// Hands the browser its session.
pub(super) fn set_session(console: &Console, response: &mut Response, session: &NewSession) {
    let left = |until: Timestamp| until - console.clock.now();
    Cookie::Session.set(console, response, session.token.expose_secret(), left(session.ends_at));
    if let Some(browser) = &session.browser {
        Cookie::Browser.set(console, response, browser.expose_secret(), BROWSER_STAYS);
    }
    Cookie::Pending.clear(console, response);
}

/// Hands the browser what a log-in led to.
pub(super) fn set_logged_in(console: &Console, response: &mut Response, logged_in: &LoggedIn) {
    match logged_in {
        LoggedIn::Session(session) => set_session(console, response, session),
        LoggedIn::NeedsCode(pending) => {
            let stays = pending.ends_at - console.clock.now();
            Cookie::Pending.set(console, response, pending.token.expose_secret(), stays);
        }
    }
}

/// Hands the browser a word for the next page.
pub(super) fn set_notice(console: &Console, response: &mut Response, text: &str) {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    Cookie::Notice.set(console, response, &text, NOTICE_STAYS);
}

/// The word that the page before left.
pub(super) fn notice(console: &Console, headers: &HeaderMap) -> Option<String> {
    let text = Cookie::Notice.of(console, headers)?;
    let (text, _) = url::form_urlencoded::parse(text.as_bytes()).next()?;
    Some(text.into_owned())
}

/// Keeps the state of a log-in that goes to the provider.
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
