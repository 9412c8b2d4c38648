//! The context of every page: member, caller and flash message.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::Console;
use super::cookies::{Cookie, notice};
use super::failure::{ErrorText, Failure};
use super::layout::{Frame, Place, frame};
use crate::access::{Person, Use};
use crate::catalog::{By, Rights};
use crate::domain::clock::Timestamp;

/// A flash message for the next page, which the guard stores in the browser.
#[derive(Debug, Clone)]
pub(super) struct Notice(pub String);

/// The context of a page, created by the guard.
#[derive(Clone)]
pub(super) struct View {
    /// The console.
    pub console: Arc<Console>,
    /// The member.
    pub person: Person,
    /// The flash message.
    notice: Option<String>,
    /// Whether it is a partial request.
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

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.console.clock.now()
    }

    /// The author and reason of a change.
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

    /// A fragment for a partial request; otherwise a whole page.
    ///
    /// # Errors
    /// [`Failure::Unavailable`].
    pub async fn part(&self, place: Place, crumbs: &[Crumb<'_>], part: Markup) -> Result<Response, Failure> {
        if self.wants_part { Ok(part.into_response()) } else { self.page(place, crumbs, part).await }
    }

    /// An error page.
    pub async fn failure(&self, text: &ErrorText) -> Response {
        let body = html! {
            div.empty {
                h1 { (text.title) }
                p { (text.detail) }
                p { a.button href="/" { "Back to Live" } }
            }
        };
        let held = self.console.store.count_held(1_000).await.unwrap_or_default();
        let crumbs = [Crumb::here(text.title)];
        let page =
            frame(&Frame { view: self, place: Place::Elsewhere, crumbs: &crumbs, held, notice: None }, &body);
        text.answer(page)
    }
}

/// Redirects to another page with a flash message.
pub(super) fn done(to: &str, what: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    response.extensions_mut().insert(Notice(what.to_owned()));
    response
}

/// A breadcrumb.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crumb<'a> {
    /// Its label.
    pub text: &'a str,
    /// Its target; `None` for the current page.
    pub href: Option<&'a str>,
}

impl<'a> Crumb<'a> {
    /// The page itself.
    pub fn here(text: &'a str) -> Self {
        Self { text, href: None }
    }

    /// A parent page.
    pub fn to(text: &'a str, href: &'a str) -> Self {
        Self { text, href: Some(href) }
    }
}

/// The result of a handler.
pub(super) type Shown = Result<Response, Failure>;
