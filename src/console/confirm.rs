//! "Confirm it's you": before keys, roles, apps and the second factor are changed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::caller::{Caller, own_place};
use super::failure::Failure;
use super::layout::Place;
use super::login::{retry_later, sentence};
use super::page_context::{Crumb, Shown, View};
use super::{Console, forms};
use crate::access::{LogInError, Method, Proof};

/// The target after login.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// The form: one of two proofs.
#[derive(Deserialize)]
pub(super) struct ConfirmForm {
    #[serde(default)]
    next: String,
    password: Option<SecretString>,
    code: Option<SecretString>,
}

fn form(view: &View, next: &str, problem: Option<&str>) -> Markup {
    let (console, person) = (&view.console, &view.person);
    let has_password = person.has_password && console.team.takes_passwords();
    html! {
        h1 { "Confirm it’s you" }
        p { "Changing keys, roles, apps or the second factor requires a login or confirmation within the last ten minutes." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        @if has_password {
            form.stack method="post" action="/confirm" {
                // Password managers expect the account next to the password.
                input type="email" name="email" value=(person.email) autocomplete="username" hidden;
                label { "Your password" input type="password" name="password" required maxlength="128" autocomplete="current-password" autofocus; }
                input type="hidden" name="next" value=(next);
                button.primary { "Confirm" }
            }
        }
        @if person.has_second_factor {
            @if has_password { h2 { "Or use your authenticator" } }
            form.stack method="post" action="/confirm" {
                label { "Authenticator code" input type="text" name="code" required maxlength="24" inputmode="numeric" autocomplete="one-time-code" spellcheck="false" autofocus[!has_password]; }
                input type="hidden" name="next" value=(next);
                button.primary[!has_password] { "Confirm" }
            }
        }
        @if let Some(provider) = &console.provider {
            @if has_password || person.has_second_factor { h2 { "Or log in again" } }
            form.stack method="post" action="/log-in/provider" {
                input type="hidden" name="next" value=(next);
                input type="hidden" name="again" value="yes";
                button { "Log in with " (provider.name) }
            }
        }
        @if !has_password && !person.has_second_factor && console.provider.is_none() {
            p { "You have neither a password nor a second factor. Ask an admin for a link." }
        }
    }
}

async fn shown(view: &View, next: &str, problem: Option<&str>) -> Shown {
    let crumbs = [Crumb::here("Confirm it’s you")];
    view.page(Place::Elsewhere, &crumbs, form(view, next, problem)).await
}

pub(super) async fn page(view: View, Query(query): Query<Next>) -> Shown {
    let next = own_place(&query.next);
    if view.person.is_confirmed(view.now()) || view.person.method == Method::Local {
        return Ok(Redirect::to(next).into_response());
    }
    shown(&view, next, None).await
}

pub(super) async fn confirm(
    State(console): State<Arc<Console>>,
    view: View,
    caller: Caller,
    body: Body,
) -> Shown {
    let sent: ConfirmForm = forms::read(body).await?;
    let next = own_place(&sent.next);
    let given = |text: Option<SecretString>| text.filter(|text| !text.expose_secret().is_empty());
    let proof = match (given(sent.password), given(sent.code)) {
        (Some(password), _) => Proof::Password(password),
        (None, Some(code)) => Proof::Code(code),
        (None, None) => return Err(Failure::Invalid("The form is empty.".to_owned())),
    };
    match console.team.confirm(&view.person, proof, &caller.client()).await {
        Ok(()) => Ok(Redirect::to(next).into_response()),
        Err(error) => refused(&view, next, error).await,
    }
}

async fn refused(view: &View, next: &str, error: LogInError) -> Shown {
    let problem = match &error {
        LogInError::Store(_) => return Err(error.into()),
        LogInError::Refused => "Wrong password.".to_owned(),
        LogInError::Throttled { .. } => "Too many attempts. Try again in 15 minutes.".to_owned(),
        other => sentence(other),
    };
    let page = shown(view, next, Some(&problem)).await?;
    Ok(status_of(&error, page))
}

/// A page with an error's status.
pub(super) fn status_of(error: &LogInError, page: Response) -> Response {
    match error {
        LogInError::Throttled { retry_after } | LogInError::Busy { retry_after } => {
            retry_later(page, *retry_after)
        }
        _ => (StatusCode::UNPROCESSABLE_ENTITY, page).into_response(),
    }
}
