//! Coming in and going out: the log-in, the very first one, an invitation's welcome, the log-out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use secrecy::SecretString;
use serde::Deserialize;

use super::failure::Failure;
use super::page::door;
use super::view::View;
use super::{Console, forms, guard};
use crate::access::{LogInError, TeamError};

/// Where somebody meant to go.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// What a log-in sends.
#[derive(Deserialize)]
pub(super) struct LogInForm {
    email: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

/// What the first log-in sends.
#[derive(Deserialize)]
pub(super) struct SetUpForm {
    token: String,
    name: String,
    email: String,
    password: SecretString,
}

/// What an invitation's welcome sends.
#[derive(Deserialize)]
pub(super) struct WelcomeForm {
    token: String,
    password: SecretString,
}

/// A place of ours to go on to: never another site's.
fn own_place(next: &str) -> &str {
    let is_ours =
        next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t']);
    if is_ours { next } else { "/" }
}

fn log_in_form(email: &str, next: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Log in" }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/log-in" {
            label { "E-mail" input type="email" name="email" value=(email) required autocomplete="username" autofocus[email.is_empty()]; }
            label { "Password" input type="password" name="password" required autocomplete="current-password" autofocus[!email.is_empty()]; }
            input type="hidden" name="next" value=(next);
            button.primary { "Log in" }
        }
        p.soft { "No password yet, or lost it? An admin makes a link for you: " code { "herald team link you@example.com" } }
    }
}

pub(super) async fn log_in_page(
    State(console): State<Arc<Console>>,
    Query(query): Query<Next>,
) -> Result<Response, Failure> {
    if console.team.needs_set_up().await? && !console.lets_local_in {
        return Ok(Redirect::to("/set-up").into_response());
    }
    let next = query.next.as_deref().map_or("/", own_place);
    Ok(door(&console, "Log in", &log_in_form("", next, None)).into_response())
}

pub(super) async fn log_in(
    State(console): State<Arc<Console>>,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Failure> {
    let form: LogInForm = forms::read(body).await?;
    let next = own_place(&form.next);
    let again = |status: StatusCode, problem: &str| {
        (status, door(&console, "Log in", &log_in_form(&form.email, next, Some(problem)))).into_response()
    };
    match console.team.log_in(&form.email, form.password.clone(), address(&extensions)).await {
        Ok(session) => {
            let mut response = Redirect::to(next).into_response();
            guard::set_cookie(&console, &mut response, &session);
            Ok(response)
        }
        Err(LogInError::Refused) => Ok(again(
            StatusCode::UNAUTHORIZED,
            "This address and this password don't go together. Passwords tell capitals from small letters.",
        )),
        Err(LogInError::Throttled { retry_after }) => {
            let minutes = retry_after.as_secs().div_ceil(60);
            Ok(again(
                StatusCode::TOO_MANY_REQUESTS,
                &format!(
                    "There were too many tries. Wait {minutes} minutes, or ask an admin for a new link."
                ),
            ))
        }
        Err(LogInError::Store(error)) => Err(error.into()),
    }
}

/// Where a request comes from.
pub(super) fn address(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip())
}

fn set_up_form(form: Option<&SetUpForm>, problem: Option<&str>) -> Markup {
    let given = |pick: fn(&SetUpForm) -> &str| form.map_or("", pick);
    html! {
        h1 { "Set up the console" }
        p.soft { "Nobody can log in yet. The token is in the log of " code { "herald serve" } ", or comes from " code { "herald team set-up" } "." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/set-up" {
            label { "One-time token" input type="text" name="token" value=(given(|f| &f.token)) required autocomplete="off" spellcheck="false"; }
            label { "Your name" input type="text" name="name" value=(given(|f| &f.name)) required autocomplete="name"; }
            label { "Your e-mail" input type="email" name="email" value=(given(|f| &f.email)) required autocomplete="username"; }
            label { "A password " span.soft { "of 12 characters or more" } input type="password" name="password" required minlength="12" maxlength="128" autocomplete="new-password"; }
            button.primary { "Set up and log in" }
        }
    }
}

pub(super) async fn set_up_page(State(console): State<Arc<Console>>) -> Result<Response, Failure> {
    if !console.team.needs_set_up().await? {
        return Ok(Redirect::to("/log-in").into_response());
    }
    Ok(door(&console, "Set up", &set_up_form(None, None)).into_response())
}

pub(super) async fn set_up(
    State(console): State<Arc<Console>>,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Failure> {
    let form: SetUpForm = forms::read(body).await?;
    console.team.count_token_try(address(&extensions)).await.map_err(too_many)?;
    match console.team.set_up(&form.token, (&form.email, &form.name), form.password.clone()).await {
        Ok(session) => {
            let mut response = Redirect::to("/").into_response();
            guard::set_cookie(&console, &mut response, &session);
            Ok(response)
        }
        Err(TeamError::Store(error)) => Err(error.into()),
        Err(error) => {
            let page = door(&console, "Set up", &set_up_form(Some(&form), Some(&sentence(&error))));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

fn welcome_form(token: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Welcome" }
        p.soft { "Choose a password to come in with. The link is good for one use." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/welcome" {
            label { "The link's token" input type="text" name="token" value=(token) required autocomplete="off" spellcheck="false" data-from-hash=""; }
            label { "A password " span.soft { "of 12 characters or more" } input type="password" name="password" required minlength="12" maxlength="128" autocomplete="new-password"; }
            button.primary { "Come in" }
        }
    }
}

pub(super) async fn welcome_page(State(console): State<Arc<Console>>) -> Response {
    door(&console, "Welcome", &welcome_form("", None)).into_response()
}

pub(super) async fn welcome(
    State(console): State<Arc<Console>>,
    extensions: Extensions,
    body: Body,
) -> Result<Response, Failure> {
    let form: WelcomeForm = forms::read(body).await?;
    console.team.count_token_try(address(&extensions)).await.map_err(too_many)?;
    match console.team.accept(&form.token, form.password.clone()).await {
        Ok(session) => {
            let mut response = Redirect::to("/").into_response();
            guard::set_cookie(&console, &mut response, &session);
            Ok(response)
        }
        Err(TeamError::Store(error)) => Err(error.into()),
        Err(error) => {
            let page = door(&console, "Welcome", &welcome_form(&form.token, Some(&sentence(&error))));
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

fn too_many(error: LogInError) -> Failure {
    match error {
        LogInError::Store(error) => error.into(),
        LogInError::Refused | LogInError::Throttled { .. } => {
            Failure::Forbidden("There were too many tries from this address. Wait 15 minutes.".to_owned())
        }
    }
}

/// An error's words as a sentence.
pub(super) fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

pub(super) async fn log_out(view: View, headers: HeaderMap) -> Result<Response, Failure> {
    if let Some(token) = guard::cookie(&headers, guard::cookie_name(&view.console)) {
        view.console.team.log_out(token).await?;
    }
    let mut response = Redirect::to("/log-in").into_response();
    guard::clear_cookie(&view.console, &mut response);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(own_place(bad), "/", "{bad}");
        }
    }
}
