//! The second step of a login: an authenticator code or a recovery code.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use secrecy::SecretString;
use serde::Deserialize;

use super::caller::{Caller, own_place};
use super::cookies::{Cookie, set_session};
use super::failure::Failure;
use super::layout::login_page;
use super::login::{retry_later, sentence};
use super::{Console, forms};
use crate::access::LogInError;

/// The target after login.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// What is sent.
#[derive(Deserialize)]
pub(super) struct CodeForm {
    code: SecretString,
    #[serde(default)]
    next: String,
}

/// The address of the second step.
pub(super) fn address(next: &str) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    format!("/log-in/code?{query}")
}

fn form(next: &str, problem: Option<&str>) -> Markup {
    html! {
        h1 { "Enter your code" }
        p.soft { "Open your authenticator app and enter the six digits that it shows for Herald." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/log-in/code" {
            label { "Code" input type="text" name="code" required maxlength="24" inputmode="numeric" autocomplete="one-time-code" spellcheck="false" autofocus; }
            input type="hidden" name="next" value=(next);
            button.primary { "Log in" }
        }
        p.soft { "Lost your authenticator? Enter a recovery code instead. No codes left? An admin can reset your second factor." }
        p.soft { a href="/log-in" { "Start over" } }
    }
}

pub(super) async fn page(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Query(query): Query<Next>,
) -> Response {
    if Cookie::Pending.of(&console, &headers).is_none() {
        return Redirect::to("/log-in").into_response();
    }
    login_page(&console, "Enter your code", &form(own_place(&query.next), None)).into_response()
}

pub(super) async fn enter(
    State(console): State<Arc<Console>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let sent: CodeForm = forms::read(body).await?;
    let next = own_place(&sent.next);
    let Some(pending) = Cookie::Pending.of(&console, &headers) else {
        return Ok(Redirect::to("/log-in").into_response());
    };
    match console.team.enter_code(pending, &sent.code, &caller.client()).await {
        Ok(session) => {
            let mut response = Redirect::to(next).into_response();
            set_session(&console, &mut response, &session);
            Ok(response)
        }
        Err(LogInError::Store(error)) => Err(error.into()),
        Err(LogInError::Over) => {
            let mut response = Redirect::to("/log-in").into_response();
            Cookie::Pending.clear(&console, &mut response);
            Ok(response)
        }
        Err(error) => {
            let problem = match &error {
                LogInError::Throttled { .. } => "Too many attempts. Try again in 15 minutes.".to_owned(),
                other => sentence(other),
            };
            let page = login_page(&console, "Enter your code", &form(next, Some(&problem))).into_response();
            Ok(match error {
                LogInError::Throttled { retry_after } => retry_later(page, retry_after),
                _ => (StatusCode::UNAUTHORIZED, page).into_response(),
            })
        }
    }
}
