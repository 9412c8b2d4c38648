//! The guard of every page: authentication, permission, and origin.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{DOCTYPE, html};
use secrecy::ExposeSecret;
use url::Url;

use super::Console;
use super::caller::{Caller, follows_foreign_link, host, is_from_here, is_local, own_place};
use super::cookies::{Cookie, set_notice, set_session};
use super::failure::{ErrorText, Failure};
use super::page_context::{Notice, View};
use crate::access::{KnownClient, NewSession, Person, Use};

/// How long a form may take to arrive.
const FORM_TIME: Duration = Duration::from_secs(15);
/// Maximum form size in bytes, sufficient for large templates.
const MAX_FORM: usize = 2 * 1_024 * 1_024;
/// Maximum form size without a login.
const MAX_OPEN_FORM: usize = 16 * 1_024;
/// Pages with automatic refreshes, which don't count as use.
const REFRESHED: [&str; 2] = ["/live/rows", "/health/parts"];
/// The page to set up a second factor, which is accessible without one.
const SECOND_FACTOR: &str = "/settings/second-factor";

/// A page's guard.
#[derive(Clone)]
pub(super) struct Gate {
    /// The console.
    pub console: Arc<Console>,
    /// The guarded route.
    pub path: &'static str,
    /// The required permission.
    pub needs: Option<Use>,
}

impl Gate {
    /// Whether a recent identity confirmation is required.
    fn asks_again(&self) -> bool {
        let is_sensitive = matches!(self.needs, Some(Use::ManageKeys | Use::ManageTeam | Use::ChangeApp));
        is_sensitive || self.path.starts_with(SECOND_FACTOR)
    }
}

pub(super) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let console = &gate.console;
    if let Err(failure) = check_origin(&gate, &request) {
        return show_plainly(console, failure.into_response());
    }
    let caller = Caller::of(console, &request);
    request.extensions_mut().insert(caller);
    let Some(needs) = gate.needs else {
        let response = match with_form(request, MAX_OPEN_FORM).await {
            Ok(request) => run(console, request, next).await,
            Err(failure) => failure.into_response(),
        };
        return show_plainly(console, response);
    };
    let is_fragment = request.headers().contains_key("hx-request");
    let is_use = !(is_fragment && REFRESHED.contains(&gate.path));
    let (person, fresh) = match find_person(console, request.headers(), is_use).await {
        Ok(Some(found)) => found,
        Ok(None) if is_fragment => return whole_page_to("/log-in"),
        Ok(None) => return to_log_in(console, Asked::of(&request)).await,
        Err(failure) => return show_plainly(console, failure.into_response()),
    };
    let view = View::new(Arc::clone(console), person, request.headers());
    let mut response = show(&gate, needs, &view, request, next).await;
    if let Some(text) = response.extensions().get::<ErrorText>().cloned()
        && !is_fragment
    {
        response = view.failure(&text).await;
    }
    response.extensions_mut().insert(KnownClient);
    if let Some(session) = fresh {
        set_session(console, &mut response, &session);
    }
    response
}

/// Runs a page for a member, if their role and session allow it.
async fn show(gate: &Gate, needs: Use, view: &View, mut request: Request, next: Next) -> Response {
    if !view.person.may(needs) {
        gate.console.denials.note(&view.person, needs, (request.method(), gate.path));
        let role = view.person.role.as_str();
        let why = format!("Your role, {role}, does not allow this. An admin can change it.");
        return Failure::Forbidden(why).into_response();
    }
    if let Some(elsewhere) = first_elsewhere(gate, view, &request) {
        return elsewhere;
    }
    request.extensions_mut().insert(view.clone());
    match with_form(request, MAX_FORM).await {
        Ok(request) => run(&gate.console, request, next).await,
        Err(failure) => failure.into_response(),
    }
}

/// A required page before continuing: setting up a second factor, or confirming the identity.
fn first_elsewhere(gate: &Gate, view: &View, request: &Request) -> Option<Response> {
    let (console, person) = (&gate.console, &view.person);
    let is_free = gate.path.starts_with(SECOND_FACTOR) || ["/log-out", "/confirm"].contains(&gate.path);
    let lacks_factor = console.require_second_factor
        && !person.has_second_factor
        && person.method == crate::access::Method::Password;
    let (to, why) = if lacks_factor && !is_free {
        (SECOND_FACTOR.to_owned(), "A second factor is required. Set one up to continue.")
    } else if gate.asks_again() && !person.is_confirmed(view.now()) {
        let is_read = *request.method() == Method::GET;
        let back = if is_read { whole(request.uri()) } else { referring_page(request.headers()) };
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", &back).finish();
        (
            format!("/confirm?{query}"),
            if is_read { "" } else { "Nothing was changed yet. Confirm, then repeat the action." },
        )
    } else {
        return None;
    };
    if request.headers().contains_key("hx-request") {
        return Some(whole_page_to(&to));
    }
    let mut response = Redirect::to(&to).into_response();
    if !why.is_empty() {
        set_notice(console, &mut response, why);
    }
    Some(response)
}

/// The requested path and query.
fn whole(uri: &Uri) -> String {
    own_place(uri.path_and_query().map_or("/", |whole| whole.as_str())).to_owned()
}

/// The console page that a form was sent from.
fn referring_page(headers: &HeaderMap) -> String {
    let referrer = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let page = referrer.and_then(|text| text.parse::<Url>().ok());
    page.map_or_else(|| "/settings".to_owned(), |url| own_place(url.path()).to_owned())
}

/// Checks that a form comes from the console, and that no parameter contains NUL.
fn check_origin(gate: &Gate, request: &Request) -> Result<(), Failure> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_read && !is_from_here(&gate.console, request.headers()) {
        gate.console.denials.note_foreign((request.method(), gate.path));
        return Err(Failure::Forbidden(
            "This form was sent from another site. Nothing was changed.".to_owned(),
        ));
    }
    let asked = request.uri().path_and_query().map_or("", |whole| whole.as_str());
    if asked.contains("%00") { Err(nul()) } else { Ok(()) }
}

fn nul() -> Failure {
    Failure::Invalid("The form contains a NUL character, which is not allowed.".to_owned())
}

/// Receives a form, within its time and size limits.
async fn with_form(request: Request, max: usize) -> Result<Request, Failure> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(request);
    }
    let (head, body) = request.into_parts();
    let read = tokio::time::timeout(FORM_TIME, to_bytes(body, max)).await;
    let bytes = read.map_err(|_| Failure::TooSlow)?.map_err(|error| unread(&error, max))?;
    if bytes.contains(&0) || bytes.windows(3).any(|part| part == b"%00") {
        return Err(nul());
    }
    Ok(Request::from_parts(head, Body::from(bytes)))
}

/// Why a form could not be received; the connection also times out.
fn unread(error: &axum::Error, max: usize) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::TimedOut) {
            return Failure::TooSlow;
        }
        cause = error.source();
    }
    Failure::TooLarge(max / 1_024)
}

/// Runs a page with a timeout.
async fn run(console: &Console, request: Request, next: Next) -> Response {
    let ran = tokio::time::timeout(console.request_timeout, next.run(request)).await;
    let mut response = ran.unwrap_or_else(|_| Failure::OutOfTime.into_response());
    if let Some(Notice(text)) = response.extensions().get::<Notice>().cloned() {
        set_notice(console, &mut response, &text);
    }
    response
}

/// The member of the request's session, or of a new one if local users are logged in automatically.
async fn find_person(
    console: &Console,
    headers: &HeaderMap,
    is_use: bool,
) -> Result<Option<(Person, Option<NewSession>)>, Failure> {
    if let Some(token) = Cookie::Session.of(console, headers)
        && let Some(person) = console.team.who_is(token, is_use).await?
    {
        return Ok(Some((person, None)));
    }
    // The name in the address bar has to be this machine's: a page elsewhere could have its own name point here. Who
    // follows a link from elsewhere comes again with their cookie.
    let is_here = host(headers).is_some_and(is_local) && !follows_foreign_link(headers);
    if !(console.lets_local_in && is_here) {
        return Ok(None);
    }
    let session = console.team.log_in_locally().await?;
    let person = console.team.who_is(session.token.expose_secret(), true).await?;
    Ok(person.map(|person| (person, Some(session))))
}

/// Redirects the whole page of a partial request.
fn whole_page_to(place: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [("hx-redirect", place)]).into_response()
}

/// The page that was requested without a login.
struct Asked {
    page: String,
    from_elsewhere: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let is_read = *request.method() == Method::GET;
        let page = if is_read { whole(request.uri()) } else { "/".to_owned() };
        Self { page, from_elsewhere: is_read && follows_foreign_link(request.headers()) }
    }
}

/// Redirects to the login, and from there to the requested page.
async fn to_log_in(console: &Console, Asked { page: asked, from_elsewhere }: Asked) -> Response {
    if from_elsewhere {
        return come_again(&asked);
    }
    // With single sign-on, an admin may log in without ever having set a password.
    if console.provider.is_none() && console.team.needs_set_up().await.unwrap_or(false) {
        return Redirect::to("/set-up").into_response();
    }
    if asked == "/" {
        return Redirect::to("/log-in").into_response();
    }
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", &asked).finish();
    Redirect::to(&format!("/log-in?{query}")).into_response()
}

/// A page that redirects within the console. The session cookie is strict: a browser that follows a link on another
/// site omits it, but a redirect from our own page includes it.
pub(super) fn come_again(place: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content={ "0;url=" (place) };
                title { "Herald" }
            }
            body { main { p { a href=(place) { "Continue" } } } }
        }
    };
    page.into_response()
}

fn show_plainly(console: &Console, response: Response) -> Response {
    match response.extensions().get::<ErrorText>().cloned() {
        Some(text) => super::layout::plain_failure(console, &text),
        None => response,
    }
}
