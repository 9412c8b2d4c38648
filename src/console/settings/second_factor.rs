//! One's own second factor: set up, recovery codes, removed.

use axum::body::Body;
use axum::response::IntoResponse;
use maud::{Markup, PreEscaped, html};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::super::caller::Caller;
use super::super::components::when;
use super::super::confirm::status_of;
use super::super::failure::Failure;
use super::super::forms;
use super::super::login::sentence;
use super::super::page_context::{Shown, View, done};
use super::below;
use crate::access::{Enrolment, LogInError, SecondFactorError};

const TITLE: &str = "Second factor";
const HERE: &str = "/settings/second-factor";

impl From<SecondFactorError> for Failure {
    fn from(error: SecondFactorError) -> Self {
        match error {
            SecondFactorError::Team(error) => error.into(),
            SecondFactorError::Code(error) => error.into(),
            SecondFactorError::Active | SecondFactorError::None => Self::Conflict(sentence(&error)),
            SecondFactorError::Secret => Self::Internal,
        }
    }
}

pub(in super::super) async fn page(view: View) -> Shown {
    let team = &view.console.team;
    let body = if let Some(factor) = team.second_factor(view.person.id).await? {
        html! {
            h1 { (TITLE) }
            p { span.chip.good { "● on" } " since " (when(factor.active_since, view.now())) ". Login requires a code from your authenticator." }
            h2 { "Recovery codes" }
            @if factor.recovery_codes == 0 {
                p.warning { "▲ None left. Without your authenticator you can’t log in." }
            } @else {
                p { (factor.recovery_codes) " of 10 left. Each can be used once instead of the authenticator." }
            }
            div.actions {
                form method="post" action="/settings/second-factor/codes" data-asks="Create new recovery codes? The current ones will stop working." { button { "New recovery codes" } }
                form method="post" action="/settings/second-factor/remove" data-asks="Remove your second factor? Only your password will be required to log in." { button.danger { "Remove second factor" } }
            }
        }
    } else if let Some(enrolment) = team.enrolment(&view.person).await? {
        enrolment_form(&enrolment, None)
    } else {
        html! {
            h1 { (TITLE) }
            p { "A second factor protects your account even if someone knows your password. It is a code from an authenticator app, such as Aegis, 2FAS, Google Authenticator or a password manager." }
            form method="post" action=(HERE) { button.primary { "Set up an authenticator" } }
        }
    };
    below(&view, TITLE, body).await
}

pub(in super::super) async fn begin(view: View) -> Shown {
    view.console.team.begin_second_factor(&view.person).await?;
    Ok(axum::response::Redirect::to(HERE).into_response())
}

fn enrolment_form(enrolment: &Enrolment, problem: Option<&str>) -> Markup {
    let secret = enrolment.secret.expose_secret();
    let groups: Vec<&str> =
        (0..secret.len()).step_by(4).filter_map(|at| secret.get(at..secret.len().min(at + 4))).collect();
    html! {
        h1 { "Set up your authenticator" }
        @if let Some(problem) = problem { p.problem role="alert" { "▲ " (problem) } }
        ol.steps {
            li {
                p { "Scan this with your authenticator app." }
                (picture(enrolment.url.expose_secret()))
                details { summary { "Or enter the key manually" } p { code { (groups.join(" ")) } } p.soft { "Time-based, 6 digits, 30 seconds, SHA-1." } }
            }
            li {
                p { "Enter the six digits that it shows now." }
                form.stack method="post" action="/settings/second-factor/activate" {
                    label { "Code" input type="text" name="code" required maxlength="12" inputmode="numeric" autocomplete="one-time-code" spellcheck="false"; }
                    button.primary { "Turn on" }
                }
            }
        }
        form method="post" action=(HERE) { button.link { "Start over with another key" } }
    }
}

/// The QR code.
fn picture(url: &str) -> Markup {
    let Ok(code) = QrCode::with_error_correction_level(url, EcLevel::M) else { return html! {} };
    let image = code
        .render::<svg::Color<'_>>()
        .min_dimensions(208, 208)
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .build();
    // The crate emits an XML declaration, which is not valid in HTML.
    let image = image.find("<svg").map_or("", |start| &image[start..]);
    html! { div.qr role="img" aria-label="QR code with the key" { (PreEscaped(image)) } }
}

/// A code.
#[derive(Deserialize)]
pub(in super::super) struct CodeForm {
    code: SecretString,
}

pub(in super::super) async fn activate(view: View, caller: Caller, body: Body) -> Shown {
    let sent: CodeForm = forms::read(body).await?;
    let team = &view.console.team;
    match team.activate_second_factor(&view.person, &sent.code, &caller.client()).await {
        Ok(codes) => shown_once(&view, &codes).await,
        Err(SecondFactorError::Code(error)) => wrong_code(&view, error).await,
        Err(error) => Err(error.into()),
    }
}

async fn wrong_code(view: &View, error: LogInError) -> Shown {
    let problem = match &error {
        LogInError::Store(_) => return Err(error.into()),
        LogInError::WrongCode => {
            "Wrong code. Codes change every 30 seconds: check that your phone’s clock is correct.".to_owned()
        }
        LogInError::Throttled { .. } => "Too many attempts. Try again in 15 minutes.".to_owned(),
        other => sentence(other),
    };
    let Some(enrolment) = view.console.team.enrolment(&view.person).await? else {
        return Err(Failure::Conflict("Set up an authenticator first.".to_owned()));
    };
    let page = below(view, TITLE, enrolment_form(&enrolment, Some(&problem))).await?;
    Ok(status_of(&error, page))
}

async fn shown_once(view: &View, codes: &[SecretString]) -> Shown {
    let texts: Vec<&str> = codes.iter().map(ExposeSecret::expose_secret).collect();
    let all = texts.join("\n");
    let body = html! {
        h1 { "Your recovery codes" }
        p { "Each code works once if you lose your authenticator. They are shown only once: print them, or store them in a password manager." }
        pre { code { (all) } }
        div.actions {
            button.primary type="button" data-copies=(all) { "Copy" }
            a.button href=(HERE) { "I have saved them" }
        }
    };
    below(view, "Recovery codes", body).await
}

pub(in super::super) async fn new_codes(view: View) -> Shown {
    let codes = view.console.team.new_recovery_codes(&view.person).await?;
    shown_once(&view, &codes).await
}

pub(in super::super) async fn remove(view: View) -> Shown {
    view.console.team.remove_second_factor(&view.person).await?;
    Ok(done(HERE, "Second factor removed. Only your password is required to log in."))
}

/// The member whose second factor is reset.
#[derive(Debug, Deserialize)]
pub(in super::super) struct ResetForm {
    email: String,
}

pub(in super::super) async fn reset(view: View, body: Body) -> Shown {
    let form: ResetForm = forms::read(body).await?;
    match view.console.team.reset_second_factor(&view.person.email, &form.email).await {
        Ok(()) => {
            let said = format!("Second factor of {} removed. All their sessions have ended.", form.email);
            Ok(done("/settings/team", &said))
        }
        Err(error) => Err(error.into()),
    }
}
