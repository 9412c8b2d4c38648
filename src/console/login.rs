//! Login, first set-up, invitations, and logout.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use secrecy::SecretString;
use serde::Deserialize;

use super::caller::{Caller, own_place};
use super::cookies::{Cookie, set_logged_in, set_session};
use super::failure::Failure;
use super::layout::login_page;
use super::page_context::View;
use super::{Console, forms, second_step};
use crate::access::{LogInError, LoggedIn, TeamError};

/// The target after login.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// The login form.
#[derive(Deserialize)]
pub(super) struct LogInForm {
    email: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

/// The set-up form.
#[derive(Deserialize)]
pub(super) struct SetUpForm {
    token: String,
    name: String,
    email: String,
    password: SecretString,
}

/// The invitation form.
#[derive(Deserialize)]
pub(super) struct WelcomeForm {
    token: String,
    password: SecretString,
}

fn log_in_form(console: &Console, email: &str, next: &str, problem: Option<&str>) -> Markup {
    let takes_passwords = console.team.takes_passwords();
    html! {
        h1 { "Log in" }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        @if let Some(provider) = &console.provider {
            form.stack method="post" action="/log-in/provider" {
                input type="hidden" name="next" value=(next);
                button.primary[!takes_passwords] { "Log in with " (provider.name) }
            }
            @if takes_passwords { p.or { "or" } }
        }
        @if takes_passwords {
            form.stack method="post" action="/log-in" {
                label { "E-mail" input type="email" name="email" value=(email) required autocomplete="username" autofocus[email.is_empty()]; }
                label { "Password" input type="password" name="password" required autocomplete="current-password" autofocus[!email.is_empty()]; }
                input type="hidden" name="next" value=(next);
                button.primary { "Log in" }
            }
            p.soft { "No password, or lost it? An admin can create a link for you:  " code { "herald team link you@example.com" } }
        } @else if console.provider.is_none() {
            p { "Password login is disabled (" code { "console.password_log_in" } "), and no single sign-on provider is configured (" code { "oidc.issuer" } ")." }
        }
    }
}

pub(super) async fn log_in_page(
    State(console): State<Arc<Console>>,
    Query(query): Query<Next>,
) -> Result<Response, Failure> {
    if console.provider.is_none() && !console.lets_local_in && console.team.needs_set_up().await? {
        return Ok(Redirect::to("/set-up").into_response());
    }
    let next = query.next.as_deref().map_or("/", own_place);
    Ok(login_page(&console, "Log in", &log_in_form(&console, "", next, None)).into_response())
}

pub(super) async fn log_in(
    State(console): State<Arc<Console>>,
    caller: Caller,
    body: Body,
) -> Result<Response, Failure> {
    let form: LogInForm = forms::read(body).await?;
    let next = own_place(&form.next);
    let again = |status: StatusCode, problem: &str| {
        let page = login_page(&console, "Log in", &log_in_form(&console, &form.email, next, Some(problem)));
        (status, page).into_response()
    };
    match console.team.log_in(&form.email, form.password.clone(), &caller.client()).await {
        Ok(logged_in) => Ok(logged_in_page(&console, &logged_in, next)),
        Err(LogInError::Throttled { retry_after }) => {
            let minutes = retry_after.as_secs().div_ceil(60);
            let problem =
                format!("Too many attempts. Try again in {minutes} minutes, or ask an admin for a new link.");
            Ok(retry_later(again(StatusCode::TOO_MANY_REQUESTS, &problem), retry_after))
        }
        Err(LogInError::Busy { retry_after }) => {
            let problem = "Too many logins are in progress. Try again in a few seconds.";
            Ok(retry_later(again(StatusCode::TOO_MANY_REQUESTS, problem), retry_after))
        }
        Err(LogInError::PasswordsOff) => {
            Ok(again(StatusCode::FORBIDDEN, "Password login is disabled. Log in through your provider."))
        }
        Err(LogInError::Store(error)) => Err(error.into()),
        Err(LogInError::Refused | LogInError::WrongCode | LogInError::Over) => {
            Ok(again(StatusCode::UNAUTHORIZED, "Wrong email or password. Passwords are case-sensitive."))
        }
    }
}

/// Redirects to the target, or to the second step.
fn logged_in_page(console: &Console, logged_in: &LoggedIn, next: &str) -> Response {
    let mut response = match logged_in {
        LoggedIn::Session(_) => Redirect::to(next).into_response(),
        LoggedIn::NeedsCode(_) => Redirect::to(&second_step::address(next)).into_response(),
    };
    set_logged_in(console, &mut response, logged_in);
    response
}

/// A 429 page with `Retry-After`.
pub(super) fn retry_later(page: Response, after: Duration) -> Response {
    let mut response = (StatusCode::TOO_MANY_REQUESTS, page).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    response
}

fn set_up_form(form: Option<&SetUpForm>, problem: Option<&str>) -> Markup {
    let given = |pick: fn(&SetUpForm) -> &str| form.map_or("", pick);
    html! {
        h1 { "Set up the console" }
        p.soft { "There are no members yet. The token is in the log of  " code { "herald serve" } ", or run  " code { "herald team set-up" } "." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/set-up" {
            label { "One-time token" input type="text" name="token" value=(given(|f| &f.token)) required autocomplete="off" spellcheck="false"; }
            label { "Your name" input type="text" name="name" value=(given(|f| &f.name)) required autocomplete="name"; }
            label { "Your email" input type="email" name="email" value=(given(|f| &f.email)) required autocomplete="username"; }
            label { "Password " span.soft { "(12 characters or more)" } input type="password" name="password" required minlength="12" maxlength="128" autocomplete="new-password"; }
            button.primary { "Set up and log in" }
        }
    }
}

pub(super) async fn set_up_page(State(console): State<Arc<Console>>) -> Result<Response, Failure> {
    if !console.team.needs_set_up().await? {
        return Ok(Redirect::to("/log-in").into_response());
    }
    Ok(login_page(&console, "Set up", &set_up_form(None, None)).into_response())
}

pub(super) async fn set_up(
    State(console): State<Arc<Console>>,
    caller: Caller,
    body: Body,
) -> Result<Response, Failure> {
    let form: SetUpForm = forms::read(body).await?;
    console.team.count_token_try(caller.address).await?;
    let named = (form.email.as_str(), form.name.as_str());
    match console.team.set_up(&form.token, named, form.password.clone(), &caller.client()).await {
        Ok(session) => {
            let mut response = Redirect::to("/").into_response();
            set_session(&console, &mut response, &session);
            Ok(response)
        }
        Err(error @ (TeamError::Store(_) | TeamError::Busy)) => Err(error.into()),
        Err(error) => {
            let page = login_page(&console, "Set up", &set_up_form(Some(&form), Some(&sentence(&error))));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

fn welcome_form(token: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Welcome" }
        p.soft { "Choose a password. The link works once." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/welcome" {
            label { "Invitation token" input type="text" name="token" value=(token) required autocomplete="off" spellcheck="false" data-from-hash=""; }
            label { "Password " span.soft { "(12 characters or more)" } input type="password" name="password" required minlength="12" maxlength="128" autocomplete="new-password"; }
            button.primary { "Log in" }
        }
    }
}

pub(super) async fn welcome_page(State(console): State<Arc<Console>>) -> Response {
    login_page(&console, "Welcome", &welcome_form("", None)).into_response()
}

pub(super) async fn welcome(
    State(console): State<Arc<Console>>,
    caller: Caller,
    body: Body,
) -> Result<Response, Failure> {
    let form: WelcomeForm = forms::read(body).await?;
    console.team.count_token_try(caller.address).await?;
    match console.team.accept(&form.token, form.password.clone(), &caller.client()).await {
        Ok(logged_in) => Ok(logged_in_page(&console, &logged_in, "/")),
        Err(error @ (TeamError::Store(_) | TeamError::Busy)) => Err(error.into()),
        Err(error) => {
            let page = login_page(&console, "Welcome", &welcome_form(&form.token, Some(&sentence(&error))));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

/// An error message as a sentence.
pub(super) fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

pub(super) async fn log_out(view: View, headers: HeaderMap) -> Result<Response, Failure> {
    if let Some(token) = Cookie::Session.of(&view.console, &headers) {
        view.console.team.log_out(token).await?;
    }
    let mut response = Redirect::to("/log-in").into_response();
    Cookie::Session.clear(&view.console, &mut response);
    Ok(response)
}
