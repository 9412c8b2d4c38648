//! The page around the cards.

use maud::{DOCTYPE, Markup, html};

use super::super::options::SandboxApp;

/// What a page shows.
pub(super) struct View<'a> {
    pub cards: Vec<Markup>,
    pub newest: u64,
    /// Where the next older page begins.
    pub older: Option<u64>,
    /// Whether new messages appear by themselves: on the first page alone.
    pub live: bool,
    pub host: String,
    pub app: Option<&'a SandboxApp>,
}

pub(super) fn page(view: &View<'_>) -> Markup {
    whole("Sandbox inbox", &body(view))
}

/// A page that is not the inbox.
pub(super) fn frame(title: &str, content: &Markup) -> Markup {
    let body = html! {
        header {
            div.bar { h1 { "Sandbox" } }
            (places(title))
        }
        main { (content) }
    };
    whole(&format!("{title} · Sandbox"), &body)
}

/// The way from one page to another.
fn places(here: &str) -> Markup {
    html! {
        nav.places aria-label="Pages" {
            @for (name, path) in [("Inbox", "/"), ("Faults", "/faults")] {
                a href=(path) aria-current=[(name == here).then_some("page")] { (name) }
            }
        }
    }
}

fn whole(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/_sandbox/inbox.css";
                script src="/_sandbox/inbox.js" defer {}
            }
            body { (body) }
        }
    }
}

fn body(view: &View<'_>) -> Markup {
    let state = if view.live { "Connecting…" } else { "Older messages" };
    html! {
        header {
            div.bar {
                h1 { "Sandbox inbox" }
                p.state #state data-live=(view.live) role="status" { (state) }
            }
            (places("Inbox"))
            p.what {
                "What would have gone out through OneSignal, as each person would see it. "
                "Nothing leaves this machine."
            }
        }
        main {
            (empty(view))
            ol.cards #cards data-newest=(view.newest) {
                @for card in &view.cards { (card) }
            }
            nav.pages {
                @if !view.live { a href="/" { "Back to the newest" } }
                @if let Some(before) = view.older { a href={ "/?before=" (before) } { "Older messages" } }
            }
        }
    }
}

/// What stands there before the first message: how to make one appear.
fn empty(view: &View<'_>) -> Markup {
    let (id, key) = view.app.map_or_else(Default::default, |app| (app.id.to_string(), app.key.as_str()));
    html! {
        section.empty #empty hidden[!view.cards.is_empty()] {
            h2 { "No messages yet" }
            p { "Post an event to Herald and its message appears here by itself. Or send one straight to the sandbox:" }
            pre tabindex="0" {
                "curl http://" (view.host) "/notifications \\\n"
                "  -H 'Authorization: Key " (key) "' \\\n"
                "  -H 'Content-Type: application/json' \\\n"
                "  -d '{\"app_id\":\"" (id) "\",\n"
                "       \"target_channel\":\"push\",\n"
                "       \"include_aliases\":{\"external_id\":[\"user-42\"]},\n"
                "       \"headings\":{\"en\":\"Hello\"},\n"
                "       \"contents\":{\"en\":\"Your first message\"}}'"
            }
        }
    }
}
