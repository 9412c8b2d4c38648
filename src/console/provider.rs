//! Login through an OpenID Connect provider: redirect and callback.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use maud::html;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::caller::{Caller, own_place};
use super::cookies::{Cookie, set_logged_in, set_provider};
use super::failure::Failure;
use super::guard::come_again;
use super::layout::login_page;
use super::login::{retry_later, sentence};
use super::{Console, forms, second_step};
use crate::access::{LogInError, LogInProvider, LoggedIn, OidcPolicy, ProviderLogInError};

/// A single sign-on provider.
pub struct Provider {
    /// Its name on the button.
    pub name: String,
    /// The adapter.
    pub port: Arc<dyn LogInProvider>,
    /// Who may log in.
    pub policy: OidcPolicy,
}

/// The button's form.
#[derive(Debug, Deserialize)]
pub(super) struct ProviderForm {
    #[serde(default)]
    next: String,
    #[serde(default)]
    again: String,
}

/// The callback's query parameters.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    error: String,
}

fn provider(console: &Console) -> Result<&Provider, Failure> {
    let none = || Failure::NotFound("No login provider is configured.".to_owned());
    console.provider.as_ref().ok_or_else(none)
}

pub(super) async fn begin(
    State(console): State<Arc<Console>>,
    caller: Caller,
    body: Body,
) -> Result<Response, Failure> {
    let form: ProviderForm = forms::read(body).await?;
    let provider = provider(&console)?;
    let wish = (own_place(&form.next), form.again == "yes");
    match console.team.begin_at_provider(provider.port.as_ref(), wish, &caller.client()).await {
        Ok((url, state)) => {
            // A redirect in response to a form would require the provider's origin in `form-action`.
            let mut response = come_again(url.as_str());
            set_provider(&console, &mut response, state.expose_secret());
            Ok(response)
        }
        Err(error) => refused(&console, error),
    }
}

pub(super) async fn finish(
    State(console): State<Arc<Console>>,
    caller: Caller,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Result<Response, Failure> {
    let provider = provider(&console)?;
    if !answer.error.is_empty() {
        let mut response =
            not_logged_in(&console, "The provider did not log you in. Try again, or ask its administrators.");
        Cookie::Provider.clear(&console, &mut response);
        return Ok(response);
    }
    let kept = Cookie::Provider.of(&console, &headers).unwrap_or_default();
    let parts = (kept, answer.state.as_str(), answer.code.as_str());
    let client = caller.client();
    let (port, policy) = (provider.port.as_ref(), &provider.policy);
    let mut response = match console.team.finish_at_provider(port, policy, parts, &client).await {
        Ok(done) => {
            let next = own_place(&done.next);
            let mut response = match &done.logged_in {
                LoggedIn::Session(_) => come_again(next),
                LoggedIn::NeedsCode(_) => come_again(&second_step::address(next)),
            };
            set_logged_in(&console, &mut response, &done.logged_in);
            response
        }
        Err(error) => refused(&console, error)?,
    };
    Cookie::Provider.clear(&console, &mut response);
    Ok(response)
}

fn not_logged_in(console: &Console, why: &str) -> Response {
    let body = html! {
        h1 { "Not logged in" }
        p.problem role="alert" { "▲ " (why) }
        p { a.button href="/log-in" { "Back to login" } }
    };
    (StatusCode::UNPROCESSABLE_ENTITY, login_page(console, "Not logged in", &body)).into_response()
}

fn refused(console: &Console, error: ProviderLogInError) -> Result<Response, Failure> {
    let status = match &error {
        ProviderLogInError::LogIn(LogInError::Store(_)) => {
            let ProviderLogInError::LogIn(error) = error else { return Err(Failure::Internal) };
            return Err(error.into());
        }
        ProviderLogInError::Provider(_) => StatusCode::BAD_GATEWAY,
        ProviderLogInError::NotInTeam => StatusCode::FORBIDDEN,
        ProviderLogInError::State | ProviderLogInError::LogIn(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = (status, not_logged_in(console, &sentence(&error))).into_response();
    Ok(match error {
        ProviderLogInError::LogIn(LogInError::Throttled { retry_after }) => retry_later(page, retry_after),
        _ => page,
    })
}
