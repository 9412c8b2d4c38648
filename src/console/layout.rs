//! The layout of every page: navigation, breadcrumbs, search.

use axum::response::Response;
use maud::{DOCTYPE, Markup, html};

use super::Console;
use super::assets;
use super::failure::ErrorText;
use super::page_context::{Crumb, View};
use crate::access::Use;

/// A section of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Live,
    Templates,
    Rules,
    EventTypes,
    Recipients,
    Outcomes,
    Issues,
    Health,
    Settings,
    /// None of them.
    Elsewhere,
}

impl Place {
    const RAIL: [(Self, &'static str, &'static str, &'static str); 9] = [
        (Self::Live, "/", "Live", "l"),
        (Self::Templates, "/templates", "Templates", "t"),
        (Self::Rules, "/rules", "Rules", "r"),
        (Self::EventTypes, "/event-types", "Event types", "e"),
        (Self::Recipients, "/recipients", "Recipients", "p"),
        (Self::Outcomes, "/outcomes", "Outcomes", "u"),
        (Self::Issues, "/issues", "Issues", "o"),
        (Self::Health, "/health", "Health", "h"),
        (Self::Settings, "/settings", "Settings", "s"),
    ];
}

/// The data of the layout.
pub(super) struct Frame<'a> {
    /// The member.
    pub view: &'a View,
    /// The current section.
    pub place: Place,
    /// The breadcrumbs.
    pub crumbs: &'a [Crumb<'a>],
    /// Held deliveries, counted up to a thousand.
    pub held: i64,
    /// The flash message.
    pub notice: Option<&'a str>,
}

fn head(title: &str, environment: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="htmx-config" content=r#"{"includeIndicatorStyles":false,"allowEval":false,"historyCacheSize":0,"scrollBehavior":"auto"}"#;
            title { (title) " · Herald " (environment) }
            link rel="icon" href=(assets::url("icon.svg"));
            link rel="stylesheet" href=(assets::url("console.css"));
            script src=(assets::url("htmx.min.js")) defer {}
            script src=(assets::url("console.js")) defer {}
        }
    }
}

/// A whole page.
pub(super) fn frame(frame: &Frame<'_>, body: &Markup) -> Markup {
    let console = &frame.view.console;
    let title = frame.crumbs.last().map_or("Herald", |crumb| crumb.text);
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, &console.environment))
            body data-environment=(environment_kind(console)) {
                a.skip href="#main" { "Skip to content" }
                (rail(frame))
                header.top {
                    nav.crumbs aria-label="Breadcrumb" {
                        @for (place, crumb) in frame.crumbs.iter().enumerate() {
                            @if place > 0 { span.slash aria-hidden="true" { "/" } }
                            @match crumb.href {
                                Some(href) => a href=(href) { (crumb.text) },
                                None => span aria-current="page" { (crumb.text) },
                            }
                        }
                    }
                    span.environment title="This installation" { (console.environment) }
                    form.find action="/" method="get" role="search" {
                        input #find type="search" name="q" placeholder="Search  /" aria-label="Search events: an ID, or filters such as to:user-42 state:held" autocomplete="off" spellcheck="false";
                    }
                    button.palette-key type="button" data-opens="palette" aria-label="Ctrl K: go to anything" aria-keyshortcuts="Control+K Meta+K" { "Ctrl K" }
                }
                @if let Some(notice) = frame.notice {
                    p.notice role="status" { (notice) }
                }
                main #main tabindex="-1" { (body) }
                div #toast role="alert" hidden {}
                (palette(frame))
            }
        }
    }
}

fn environment_kind(console: &Console) -> &'static str {
    let name = console.environment.to_lowercase();
    if name.contains("prod") || name == "live" {
        "production"
    } else if name.contains("sandbox") || name.contains("dev") || name.contains("local") {
        "sandbox"
    } else {
        "other"
    }
}

fn rail(frame: &Frame<'_>) -> Markup {
    html! {
        nav.rail aria-label="Places" {
            a.brand href="/" { (mark()) "Herald" }
            ul {
                @for (place, href, name, key) in Place::RAIL {
                    li {
                        a href=(href) data-key=(key) aria-current=[(place == frame.place).then_some("page")] {
                            (name)
                            @if place == Place::Issues && frame.held > 0 {
                                " " span.count title={ (frame.held) " held" } { @if frame.held >= 1_000 { "999+" } @else { (frame.held) } }
                            }
                        }
                    }
                }
            }
            div.who {
                a href="/settings/password" title={ (frame.view.person.email) ": your password" } { (frame.view.person.name) }
                span.role { (frame.view.person.role.as_str()) }
                form method="post" action="/log-out" { button.link { "Log out" } }
            }
        }
    }
}

fn mark() -> Markup {
    html! {
        svg width="18" height="18" viewBox="0 0 18 18" aria-hidden="true" {
            path d="M3 7v4h3l6 4V3L6 7H3zm11-1.5v7" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linejoin="round" stroke-linecap="round" {}
        }
    }
}

fn palette(frame: &Frame<'_>) -> Markup {
    html! {
        dialog #palette aria-label="Go to anything" {
            form method="dialog" {
                input type="text" placeholder="Go to a page, a template, an event type, an id …" aria-label="Go to" autocomplete="off" spellcheck="false" aria-controls="palette-list" role="combobox" aria-expanded="true";
                ul #palette-list role="listbox" {
                    @for (_, href, name, key) in Place::RAIL {
                        li role="option" { a href=(href) tabindex="-1" { (name) kbd { "g " (key) } } }
                    }
                    @if frame.view.person.may(Use::ManageTeam) {
                        li role="option" { a href="/settings/team" tabindex="-1" { "Team" } }
                    }
                    li role="option" { a href="/docs" tabindex="-1" { "API reference" } }
                }
            }
        }
    }
}

/// A page without a login.
pub(super) fn login_page(console: &Console, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, &console.environment))
            body.login data-environment=(environment_kind(console)) {
                main #main {
                    p.brand { (mark()) "Herald" span.environment { (console.environment) } }
                    (body)
                }
            }
        }
    }
}

/// An error page without a login.
pub(super) fn plain_failure(console: &Console, shown: &ErrorText) -> Response {
    let body = html! {
        h1 { (shown.title) }
        p { (shown.detail) }
        p { a href="/" { "Back to the console" } }
    };
    shown.answer(login_page(console, shown.title, &body))
}
