//! One message on the page.

use chrono::SecondsFormat;
use maud::{Markup, html};
use serde_json::Value;

use super::super::message::{Channel, Message, ReceivedMessage, ReceivedRecipient};
use crate::domain::clock::Timestamp;

/// The card of `message`, whose first recipients saw `seen`.
pub(super) fn card(message: &Message, seen: &ReceivedMessage, now: Timestamp) -> Markup {
    html! {
        li.card #{ "m" (message.sequence) } {
            header.meta {
                span class={ "channel " (message.channel.name()) } { (label(message.channel)) }
                span.to { (to(message, seen)) }
                @if message.canceled { span.badge { "cancelled" } }
                @else if message.is_waiting(now) {
                    @if let Some(at) = message.send_after { span.badge { "scheduled for " (time(at)) } }
                }
                (time(message.received_at))
                a.open href={ "/inbox/" (message.id) } { "Open" }
            }
            @for note in &seen.notes { p.warning { (note) } }
            @if let Some(first) = seen.recipients.first() { (view(message.channel, first)) }
            (others(message, seen))
            details {
                summary { "Request" @if let Some(name) = &seen.template_name { " · template " (name) } }
                pre tabindex="0" { (serde_json::to_string_pretty(&seen.request).unwrap_or_default()) }
            }
        }
    }
}

fn label(channel: Channel) -> &'static str {
    match channel {
        Channel::Push => "Push",
        Channel::Email => "Email",
        Channel::Sms => "SMS",
    }
}

/// `user-42`, or `user-42 and 12 others`.
fn to(message: &Message, seen: &ReceivedMessage) -> Markup {
    let first = seen.recipients.first();
    html! {
        "to "
        b { (first.map_or("nobody", |first| first.id.as_str())) }
        @if let Some(first) = first {
            @if !matches!(first.label.as_str(), "external_id" | "email" | "phone_number") { " (" (first.label) ")" }
        }
        @match message.recipients {
            0 | 1 => {}
            2 => { " and 1 other" }
            count => { " and " (count - 1) " others" }
        }
    }
}

/// What one recipient sees.
fn view(channel: Channel, recipient: &ReceivedRecipient) -> Markup {
    html! {
        (held_events(recipient))
        div class={ "view " (channel.name()) } {
            @match channel {
                Channel::Push => {
                    @if let Some(title) = text(recipient, "headings") { p.title { (title) } }
                    @if let Some(subtitle) = text(recipient, "subtitle") { p.subtitle { (subtitle) } }
                    p.text { (text(recipient, "contents").unwrap_or_default()) }
                    (links(recipient))
                }
                Channel::Sms => { p.text { (text(recipient, "contents").unwrap_or_default()) } }
                Channel::Email => {
                    p.title { (text(recipient, "email_subject").unwrap_or("(no subject)")) }
                    @if let Some(preheader) = text(recipient, "email_preheader") { p.subtitle { (preheader) } }
                    iframe sandbox="" title="Email" loading="lazy" srcdoc=(text(recipient, "email_body").unwrap_or_default()) {}
                }
            }
        }
    }
}

/// Where a tap on a push leads: shown as text, since it may be an app's own address.
fn links(recipient: &ReceivedRecipient) -> Markup {
    html! {
        @for name in ["url", "web_url", "app_url"] {
            @if let Some(url) = text(recipient, name) { p.link { "opens " code { (url) } } }
        }
    }
}

/// The warnings: variables that were missing, Liquid that does not parse.
pub(super) fn held_events(recipient: &ReceivedRecipient) -> Markup {
    html! {
        @if !recipient.blanks.is_empty() {
            p.warning {
                "Empty values in this message: "
                @for (n, blank) in recipient.blanks.iter().enumerate() {
                    @if n > 0 { ", " }
                    code { (blank) }
                }
            }
        }
        @for broken in &recipient.broken { p.warning { "Invalid Liquid, sent empty: " (broken) } }
    }
}

/// The other recipients, a few lines each.
fn others(message: &Message, seen: &ReceivedMessage) -> Markup {
    let shown = seen.recipients.len();
    html! {
        @if shown > 1 {
            details {
                summary { "Other recipients" }
                @for recipient in &seen.recipients[1..] {
                    div.other {
                        p.to { "to " b { (recipient.id) } }
                        (held_events(recipient))
                        @for name in ["headings", "email_subject", "contents"] {
                            @if let Some(line) = text(recipient, name) { p.text { (line) } }
                        }
                    }
                }
                @if message.recipients > shown {
                    p.more { "and " (message.recipients - shown) " more; see  " code { "/_sandbox/messages" } }
                }
            }
        }
    }
}

/// What the recipient saw in a field, unless it is empty.
pub(super) fn text<'a>(recipient: &'a ReceivedRecipient, name: &str) -> Option<&'a str> {
    recipient.rendered.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// A moment, in UTC here and in the reader's own time once the script has run.
pub(super) fn time(at: Timestamp) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Millis, true);
    html! { time datetime=(exact) title=(exact) { (at.format("%H:%M:%S")) " UTC" } }
}
