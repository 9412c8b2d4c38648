//! One's own password.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use maud::{Markup, html};
use secrecy::SecretString;
use serde::Deserialize;

use super::super::caller::Caller;
use super::super::cookies::set_session;
use super::super::failure::Failure;
use super::super::forms;
use super::super::login::{retry_later, sentence};
use super::super::page_context::{Shown, View, done};
use super::below;
use crate::access::{ChangePasswordError, TeamError};

fn form(problem: Option<&str>) -> Markup {
    html! {
        h1 { "Your password" }
        p { "All your other sessions are logged out." }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        form.stack method="post" action="/settings/password" {
            label { "Current password" input type="password" name="old" required maxlength="128" autocomplete="current-password"; }
            label { "New password " span.soft { "(12 characters or more)" } input type="password" name="new" required minlength="12" maxlength="128" autocomplete="new-password"; }
            label { "Repeat new password" input type="password" name="again" required minlength="12" maxlength="128" autocomplete="new-password"; }
            button.primary { "Change password" }
        }
    }
}

pub(in super::super) async fn page(view: View) -> Shown {
    let has_none = view.console.lets_local_in && view.person.email.ends_with("@localhost");
    let body = if has_none {
        html! { h1 { "Your password" } p { "No password needed in " code { "herald dev" } "." } }
    } else {
        form(None)
    };
    below(&view, "Your password", body).await
}

/// The current password, and the new one twice.
#[derive(Deserialize)]
pub(in super::super) struct PasswordForm {
    old: SecretString,
    new: SecretString,
    again: SecretString,
}

pub(in super::super) async fn change(view: View, caller: Caller, body: Body) -> Shown {
    use secrecy::ExposeSecret;
    let sent: PasswordForm = forms::read(body).await?;
    if sent.new.expose_secret() != sent.again.expose_secret() {
        return refused(&view, "The new passwords do not match.").await;
    }
    let client = caller.client();
    match view.console.team.change_password(&view.person.email, sent.old, sent.new, &client).await {
        Ok(session) => {
            let mut response = done("/settings", "Password changed. You are logged out everywhere else.");
            set_session(&view.console, &mut response, &session);
            Ok(response)
        }
        Err(ChangePasswordError::NewOne(TeamError::Store(error))) => Err(Failure::from(error)),
        Err(error @ ChangePasswordError::Throttled { retry_after }) => {
            Ok(retry_later(refused(&view, &sentence(&error)).await?, retry_after))
        }
        Err(error) => refused(&view, &sentence(&error)).await,
    }
}

async fn refused(view: &View, problem: &str) -> Shown {
    let page = below(view, "Your password", form(Some(problem))).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}
