//! What every page knows: who looks, from where, and what it tells them at its top.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::Console;
use super::cookies::{Cookie, notice};
use super::failure::{Failure, Told};
use super::layout::{Frame, Place, frame};
use crate::access::{Person, Use};
use crate::catalog::{By, Rights};
use crate::domain::clock::Timestamp;

/// A word for the next page, on its way to the guard, which hands it to the browser.
#[derive(Debug, Clone)]
pub(super) struct Notice(pub String);

/// What every page knows. The guard makes it.
#[derive(Clone)]
pub(super) struct View {
    /// The console.
    pub console: Arc<Console>,
    /// Who looks.
    pub person: Person,
    /// What was just done.
    notice: Option<String>,
    /// A page asks for a part of itself.
    wants_part: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for View {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Every page has passed its guard.
        parts.extensions.get::<Self>().cloned().ok_or(Failure::Internal)
    }
}

impl View {
    pub(super) fn new(console: Arc<Console>, person: Person, headers: &HeaderMap) -> Self {
        let notice = notice(&console, headers);
        Self { console, person, notice, wants_part: headers.contains_key("hx-request") }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.console.clock.now()
    }

    /// In whose name something is changed, and why.
    pub fn by<'a>(&'a self, note: &'a str) -> By<'a> {
        let may = |what| self.person.may(what);
        let rights = Rights {
            change_sources: may(Use::ChangeSource),
            change_apps: may(Use::ChangeApp),
            lift_approval: may(Use::LiftApproval),
            unmask_values: may(Use::UnmaskValues),
        };
        By { actor: &self.person.email, note, key: None, rights }
    }

    /// A whole page.
    ///
    /// # Errors
    /// [`Failure::Unavailable`].
    pub async fn page(&self, place: Place, crumbs: &[Crumb<'_>], body: Markup) -> Result<Response, Failure> {
        let held = self.console.store.count_held(1_000).await?;
        let page = frame(&Frame { view: self, place, crumbs, held, notice: self.notice.as_deref() }, &body);
        let mut response = page.into_response();
        if self.notice.is_some() {
            Cookie::Notice.clear(&self.console, &mut response);
        }
        Ok(response)
    }

    /// A part of a page, for the page that asked for it; a whole page for whoever followed its link.
    ///
    /// # Errors
    /// [`Failure::Unavailable`].
    pub async fn part(&self, place: Place, crumbs: &[Crumb<'_>], part: Markup) -> Result<Response, Failure> {
        if self.wants_part { Ok(part.into_response()) } else { self.page(place, crumbs, part).await }
    }

    /// What went wrong, as a page.
    pub async fn failure(&self, told: &Told) -> Response {
        let body = html! {
            div.empty {
                h1 { (told.title) }
                p { (told.detail) }
                p { a.button href="/" { "Back to Live" } }
            }
        };
        let held = self.console.store.count_held(1_000).await.unwrap_or_default();
        let crumbs = [Crumb::here(told.title)];
        let page =
            frame(&Frame { view: self, place: Place::Elsewhere, crumbs: &crumbs, held, notice: None }, &body);
        told.answer(page)
    }
}

/// On to another page, which says what was done.
pub(super) fn done(to: &str, what: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    response.extensions_mut().insert(Notice(what.to_owned()));
    response
}

/// A step of the way to a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crumb<'a> {
    /// What it says.
    pub text: &'a str,
    /// Where it leads; `None`: here.
    pub href: Option<&'a str>,
}

impl<'a> Crumb<'a> {
    /// The page itself.
    pub fn here(text: &'a str) -> Self {
        Self { text, href: None }
    }

    /// A page above.
    pub fn to(text: &'a str, href: &'a str) -> Self {
        Self { text, href: Some(href) }
    }
}

/// What a handler answers with.
pub(super) type Shown = Result<Response, Failure>;
