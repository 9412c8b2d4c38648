//! The page around the cards.

use maud::{DOCTYPE, Markup, html};

use super::super::options::SandboxApp;

/// The data of a page.
pub(super) struct View<'a> {
    pub cards: Vec<Markup>,
    pub newest: u64,
    /// Where the next older page begins.
    pub older: Option<u64>,
    /// Whether new messages appear by themselves: on the first page alone.
    pub live: bool,
    pub host: String,
    pub app: Option<&'a SandboxApp>,
    /// The search text, and its errors.
    pub asked: &'a str,
    pub wrong: Option<String>,
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
    let state = match (view.live, view.asked.trim().is_empty()) {
        (true, _) => "Connecting…",
        (false, true) => "Older messages",
        (false, false) => "Search",
    };
    html! {
        header {
            div.bar {
                h1 { "Sandbox inbox" }
                p.state #state data-live=(view.live) role="status" { (state) }
            }
            (places("Inbox"))
            p.what {
                "Messages as recipients would see them.  "
                "Nothing leaves this machine."
            }
        }
        main {
            form.search method="get" action="/" role="search" {
                input type="search" name="q" value=(view.asked) aria-label="Search messages" autocomplete="off"
                    placeholder="Words, to: template: channel: is:failed is:blank after:2h";
                button { "Search" }
            }
            @if let Some(wrong) = &view.wrong { p.warning role="alert" { (wrong) } }
            @if !view.asked.trim().is_empty() && view.cards.is_empty() {
                p.none { "No matching messages.  " a href="/" { "Show all" } }
            }
            (empty(view))
            ol.cards #cards data-newest=(view.newest) {
                @for card in &view.cards { (card) }
            }
            nav.pages {
                @if !view.live { a href="/" { "Back to the latest" } }
                @if let Some(before) = view.older { a href=(older(view.asked, before)) { "Older messages" } }
            }
        }
    }
}

/// The empty state.
fn empty(view: &View<'_>) -> Markup {
    let (id, key) = view.app.map_or_else(Default::default, |app| (app.id.to_string(), app.key.as_str()));
    html! {
        section.empty #empty hidden[!view.cards.is_empty() || !view.asked.trim().is_empty()] {
            h2 { "No messages yet" }
            p { "Post an event to Herald and its message appears here. Or send one directly to the sandbox:" }
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

/// The address of the next older page of the same search.
fn older(asked: &str, before: u64) -> String {
    let before = before.to_string();
    let fields = [("q", asked.trim()), ("before", before.as_str())];
    let said: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    format!("/?{}", serde_urlencoded::to_string(said).unwrap_or_default())
}
