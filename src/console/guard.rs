//! Before every page: who asks, whether they may, and that the request comes from the console itself.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use secrecy::ExposeSecret;

use super::Console;
use super::failure::{Failure, Told};
use super::view::{NOTICE, View};
use crate::access::{KnownClient, NewSession, Person, Use};

/// A page's guard.
#[derive(Clone)]
pub(super) struct Gate {
    /// The console.
    pub console: Arc<Console>,
    /// What the person's role has to allow.
    pub needs: Option<Use>,
}

pub(super) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let console = &gate.console;
    let is_fragment = request.headers().contains_key("hx-request");
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read && !is_from_here(console, request.headers()) {
        return Failure::Forbidden("This form was sent from another site, so nothing was done.".to_owned())
            .into_response();
    }
    let Some(needs) = gate.needs else { return show_plainly(console, next.run(request).await) };
    let headers = request.headers().clone();
    let (person, fresh) = match find_person(console, &headers).await {
        Ok(Some(found)) => found,
        Ok(None) if is_fragment => return whole_page_to_log_in(),
        Ok(None) => {
            let asked = (request.method() == Method::GET).then(|| request.uri().clone());
            return to_log_in(console, asked).await;
        }
        Err(failure) => return show_plainly(console, failure.into_response()),
    };
    let view = View::new(Arc::clone(console), person, &headers);
    let mut response = if view.person.may(needs) {
        request.extensions_mut().insert(view.clone());
        next.run(request).await
    } else {
        Failure::Forbidden(format!(
            "Your role, {}, does not allow this. An admin can change it.",
            view.person.role.as_str()
        ))
        .into_response()
    };
    if let Some(told) = response.extensions().get::<Told>().cloned()
        && !is_fragment
    {
        response = view.failure(&told).await;
    }
    response.extensions_mut().insert(KnownClient);
    if let Some(session) = fresh {
        set_cookie(console, &mut response, &session);
    }
    response
}

/// Who holds the session that the request brings, or a new one where local people are let in.
async fn find_person(
    console: &Console,
    headers: &HeaderMap,
) -> Result<Option<(Person, Option<NewSession>)>, Failure> {
    if let Some(token) = cookie(headers, cookie_name(console))
        && let Some(person) = console.team.who_is(token).await?
    {
        return Ok(Some((person, None)));
    }
    // The name in the address bar has to be this machine's: a page elsewhere could have its own name point here.
    if !(console.lets_local_in && host(headers).is_some_and(is_local)) {
        return Ok(None);
    }
    let session = console.team.log_in_locally().await?;
    let person = console.team.who_is(session.token.expose_secret()).await?;
    Ok(person.map(|person| (person, Some(session))))
}

/// The page that asked for a part of itself goes to the log-in as a whole.
fn whole_page_to_log_in() -> Response {
    (StatusCode::UNAUTHORIZED, [("hx-redirect", "/log-in")]).into_response()
}

/// To the log-in, and from there to the page that was asked for.
async fn to_log_in(console: &Console, asked: Option<Uri>) -> Response {
    if console.team.needs_set_up().await.unwrap_or(false) {
        return Redirect::to("/set-up").into_response();
    }
    let asked = asked.as_ref().and_then(Uri::path_and_query).map_or("/", |whole| whole.as_str());
    if asked == "/" {
        return Redirect::to("/log-in").into_response();
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", asked).finish();
    Redirect::to(&format!("/log-in?{query}")).into_response()
}

fn show_plainly(console: &Console, response: Response) -> Response {
    match response.extensions().get::<Told>().cloned() {
        Some(told) => super::page::plain_failure(console, &told),
        None => response,
    }
}

/// Whether a form comes from a page of ours: browsers say so themselves, and old ones name the page's origin.
fn is_from_here(console: &Console, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site.as_bytes() == b"same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let ours = console.public_url.as_ref().map(|url| url.origin().ascii_serialization());
    let name = origin.split_once("://").map(|(_, name)| name);
    ours.as_deref() == Some(origin) || (name.is_some() && name == host(headers))
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether a `Host` names this machine, with any port.
fn is_local(host: &str) -> bool {
    let name = if host.starts_with('[') {
        host.split_once(']').map_or(host, |(name, _)| &name[1..])
    } else {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_secure(console: &Console) -> bool {
    console.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
}

/// The cookie's name. With https, browsers themselves see to it that no other name of the domain can set it.
pub(super) fn cookie_name(console: &Console) -> &'static str {
    if is_secure(console) { "__Host-herald" } else { "herald" }
}

/// One cookie of a request.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Hands the browser its session.
pub(super) fn set_cookie(console: &Console, response: &mut Response, session: &NewSession) {
    let most = (session.ends_at - console.clock.now()).num_seconds().max(0);
    let token = session.token.expose_secret();
    let secure = if is_secure(console) { "; Secure" } else { "" };
    let text =
        format!("{}={token}; Path=/; Max-Age={most}; HttpOnly; SameSite=Lax{secure}", cookie_name(console));
    append_cookie(response, &text);
}

/// Takes the session out of the browser.
pub(super) fn clear_cookie(console: &Console, response: &mut Response) {
    let secure = if is_secure(console) { "; Secure" } else { "" };
    append_cookie(
        response,
        &format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{secure}", cookie_name(console)),
    );
}

/// Tells the next page what was done.
pub(super) fn set_notice(response: &mut Response, text: &str) {
    let text: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    append_cookie(response, &format!("{NOTICE}={text}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"));
}

pub(super) fn append_cookie(response: &mut Response, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
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
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("xherald=1; herald=abc; herald2=x"));
        assert_eq!(cookie(&headers, "herald"), Some("abc"));
        assert_eq!(cookie(&headers, "none"), None);
    }
}
