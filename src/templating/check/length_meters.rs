//! How long a text may be to be shown in full.

use super::{EventShape, Finding, Severity};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::templating::liquid::ast::Node;
use crate::templating::liquid::position::line_and_column;
use crate::templating::liquid::{Strictness, Template};

/// What a meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Characters, approximated by Unicode code points.
    Characters,
    /// Segments of a text message, each of which is billed.
    Segments,
}

/// How much of the available length a text uses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Meter {
    /// What is measured.
    pub name: &'static str,
    /// How much is taken.
    pub used: usize,
    /// How much there is; an approximate figure where devices differ.
    pub limit: usize,
    /// What is counted.
    pub unit: Unit,
    /// What the figure means.
    pub note: String,
}

/// The room that a text has in a field: the meter's name, its characters, the code when it is over, and where the
/// figure comes from.
struct Room {
    name: &'static str,
    limit: usize,
    code: &'static str,
    note: &'static str,
}

fn room(channel: Channel, field: &str) -> Option<Room> {
    let room = |name, limit, code, note| Some(Room { name, limit, code, note });
    match (channel, field) {
        (Channel::Push, "headings") => {
            room("title", 50, "too_long_title", "phones show about 50 characters of a title; they differ")
        }
        (Channel::Push, "contents") => {
            room("body", 150, "too_long_body", "a lock screen shows about 150 characters; devices differ")
        }
        (Channel::Email, "subject") => {
            room("subject", 60, "too_long_subject", "mail programs show about 60 characters; phones fewer")
        }
        (Channel::Email, "preheader") => {
            room("preheader", 100, "too_long_preheader", "mail programs show about 100 characters at most")
        }
        (Channel::Push | Channel::Email | Channel::Sms, _) => None,
    }
}

/// How much room a rendered text takes in a field; none for fields whose length doesn't matter.
pub fn meters(channel: Channel, field: &str, rendered: &str) -> Vec<Meter> {
    if channel == Channel::Sms && field == "contents" {
        return vec![sms(rendered)];
    }
    let measured = room(channel, field).map(|Room { name, limit, note, .. }| Meter {
        name,
        used: rendered.chars().count(),
        limit,
        unit: Unit::Characters,
        note: note.to_owned(),
    });
    measured.into_iter().collect()
}

fn sms(rendered: &str) -> Meter {
    let (used, note) = if let Some(c) = unusual(rendered) {
        let units = rendered.encode_utf16().count();
        (segments(units, 70, 67), format!("{units} of 70 units: `{c}` needs the wide alphabet (UCS-2)"))
    } else {
        let units = rendered.chars().map(|c| if EXTENDED.contains(c) { 2 } else { 1 }).sum();
        (segments(units, 160, 153), format!("{units} of 160 units in the GSM alphabet"))
    };
    Meter { name: "segments", used, limit: 1, unit: Unit::Segments, note }
}

fn segments(units: usize, alone: usize, joined: usize) -> usize {
    if units <= alone { 1 } else { units.div_ceil(joined) }
}

/// The basic table of GSM 03.38, without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// The extension table: each takes two places.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

fn is_gsm(c: char) -> bool {
    BASIC.contains(c) || EXTENDED.contains(c)
}

/// The first character that the GSM alphabet lacks.
fn unusual(text: &str) -> Option<char> {
    text.chars().find(|c| !is_gsm(*c))
}

/// Reports what is too long in a field, with the longest sample, or with its own text if there are no samples.
pub fn check(
    channel: Channel,
    field: &str,
    template: &Template,
    events: &[EventShape<'_>],
    budget: &Budget,
) -> Vec<Finding> {
    let (rendered, sample) = longest(channel, field, template, (events, budget));
    let with =
        sample.map_or_else(|| "without values".to_owned(), |sample| format!("with the sample `{sample}`"));
    let mut found = Vec::new();
    for meter in meters(channel, field, &rendered).into_iter().filter(|meter| meter.used > meter.limit) {
        let Meter { name, used, limit, note, .. } = meter;
        let finding = if let Some(Room { code, .. }) = room(channel, field) {
            let message = format!("the {name} has {used} characters {with}; {note}");
            Finding::new(code, Severity::Warning, message)
                .hint(format!("put the important part into the first {limit}"))
        } else {
            let message =
                format!("it is sent as {used} text messages {with}, each of which is billed; {note}");
            Finding::new("many_segments", Severity::Warning, message).hint("shorten it if the cost matters")
        };
        found.push(finding.in_field(field, (1, 1)));
    }
    if let (Channel::Sms, "contents", Some(c)) = (channel, field, unusual(&rendered)) {
        let place = place_of(template, c);
        let whose = if place.is_some() { "" } else { ", from a sample's value," };
        let message = format!(
            "`{c}`{whose} is not in the GSM alphabet, so a message holds 70 characters instead of 160"
        );
        let finding = Finding::new("forces_ucs2", Severity::Warning, message);
        let finding = finding.hint("use a plain character if there is one");
        found.push(finding.in_field(field, place.unwrap_or((1, 1))));
    }
    found
}

/// The longest rendering, and the sample that it was made with.
fn longest<'e>(
    channel: Channel,
    field: &str,
    template: &Template,
    (events, budget): (&'e [EventShape<'_>], &Budget),
) -> (String, Option<&'e str>) {
    let render = |data: &serde_json::Value| {
        let rendered = template.render(&[("data", data)], Strictness::Lenient, budget);
        rendered.map(|rendered| rendered.text).unwrap_or_default()
    };
    let samples = events.iter().flat_map(|event| event.samples.iter());
    let all = samples.map(|(name, data)| (render(data), Some(name.as_str())));
    let measure = |text: &str| meters(channel, field, text).first().map_or(0, |meter| meter.used);
    let longest = all.max_by_key(|(text, _)| (measure(text), text.len()));
    longest.unwrap_or_else(|| (render(&serde_json::json!({})), None))
}

fn place_of(template: &Template, c: char) -> Option<(usize, usize)> {
    let mut found = None;
    each_text(template.nodes(), &mut |span| {
        let at = span.of(template.source()).find(c).map(|at| span.start + at);
        found = found.or(at);
    });
    found.map(|at| line_and_column(template.source(), at))
}

fn each_text(nodes: &[Node], visit: &mut dyn FnMut(crate::templating::liquid::ast::Span)) {
    for node in nodes {
        if let Node::Text(span) = node {
            visit(*span);
        }
        for body in crate::templating::compile::dataflow::bodies(node) {
            each_text(body, visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> (usize, String) {
        let meter = meters(Channel::Sms, "contents", text).remove(0);
        (meter.used, meter.note)
    }

    #[test]
    fn a_text_message_is_counted_in_segments() {
        for (text, wanted) in [
            ("", 1),
            (&"a".repeat(160), 1),
            (&"a".repeat(161), 2),
            (&"a".repeat(306), 2),
            (&"a".repeat(307), 3),
            (&"€".repeat(80), 1),
            (&"€".repeat(81), 2),
            (&"ç".repeat(70), 1),
            (&"ç".repeat(71), 2),
            (&"🎉".repeat(35), 1),
            (&"🎉".repeat(36), 2),
            (&"ç".repeat(135), 3),
        ] {
            assert_eq!(counted(text).0, wanted, "{text}");
        }
        assert!(counted("naïve").1.contains('ï'), "the character that costs is named");
        assert!(counted("ÄÖÜäöüßéè[]").1.contains("13 of 160"), "{}", counted("ÄÖÜäöüßéè[]").1);
    }

    #[test]
    fn only_what_is_seen_at_a_glance_has_a_meter() {
        assert_eq!(meters(Channel::Push, "headings", "äöü")[0].used, 3);
        assert!(meters(Channel::Push, "url", "x").is_empty());
        assert!(meters(Channel::Email, "body", "x").is_empty());
        assert_eq!(meters(Channel::Email, "subject", "x")[0].limit, 60);
    }
}
