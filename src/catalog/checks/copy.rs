//! Checking content: partials are inserted, the template is checked, and findings are mapped back to their source.

use std::collections::BTreeMap;

use super::super::check::file_of;
use super::super::check::{CatalogProblem, Severity};
use super::super::manifest::TemplateDocument;
use super::CheckContext;
use super::check_context::shape;
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::event::Recipient;
use crate::domain::snapshot::Partial;
use crate::domain::template::{
    Content, FieldKind, Fields, LanguageBy, Mode, fields_of, main_field, sets_direction,
};
use crate::templating::check::{Copy, EventShape, Finding, check, is_front_matter};
use crate::templating::liquid::Template;
use crate::templating::partials::{Expanded, IncludeProblem, expand};

/// OneSignal fields that options must not set, because Herald sets them or they would change the recipients.
const RESERVED_OPTIONS: [&str; 19] = [
    "app_id",
    "template_id",
    "custom_data",
    "idempotency_key",
    "external_id",
    "include_aliases",
    "target_channel",
    "include_subscription_ids",
    "email_to",
    "include_email_tokens",
    "include_phone_numbers",
    "included_segments",
    "excluded_segments",
    "filters",
    "ttl",
    "send_after",
    "delayed_option",
    "delivery_time_of_day",
    "contents",
];

/// Checks a template of a document; problems have positions in its files.
pub(super) fn check_template(
    template: &TemplateDocument,
    lines_above: &BTreeMap<String, usize>,
    around: &CheckContext<'_>,
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let types = around.types_of(&template.key, template.about.event_type.as_deref());
    let shapes: Vec<EventShape<'_>> = types.iter().map(|entry| shape(entry)).collect();
    let mut problems = Vec::new();
    let named = template.about.event_type.as_deref();
    if let Some(name) = named.filter(|name| !around.event_types.contains_key(name) && around.apps.is_some()) {
        let message = format!("there is no event type {name}");
        problems.push(CatalogProblem::error(
            "unknown_event_type",
            &file_of("template", &template.key),
            message,
        ));
    }
    problems.extend(check_copy(
        &template.key,
        template.channel,
        &template.content,
        &around.partials,
        (&shapes, budget),
    ));
    for problem in &mut problems {
        let is_main = problem.field.as_deref() == Some(main_field(template.channel));
        if let (true, Some(line), Some(above)) =
            (is_main, problem.line.as_mut(), lines_above.get(&problem.file))
        {
            *line += above;
        }
    }
    problems
}

/// All problems of a template's content; lines and columns are relative to the field.
pub(in crate::catalog) fn check_copy(
    key: &str,
    channel: Channel,
    content: &Content,
    partials: &BTreeMap<String, String>,
    (shapes, budget): (&[EventShape<'_>], &Budget),
) -> Vec<CatalogProblem> {
    let mut problems = check_content(key, channel, content);
    problems.extend(check_characters(key, channel, content));
    let (mut expanded, mut broken) = (BTreeMap::new(), false);
    for (locale, fields) in &content.contents {
        match expand(fields, content.layout.as_deref(), partials, budget) {
            Ok(done) => drop(expanded.insert(locale.clone(), done)),
            Err(found) => {
                broken = true;
                problems.extend(
                    found.into_iter().map(|(field, p)| include_problem(key, channel, (locale, &field), p)),
                );
            }
        }
    }
    if broken {
        return problems;
    }
    let texts: BTreeMap<String, Fields> = expanded
        .iter()
        .map(|(locale, fields)| {
            (locale.clone(), fields.iter().map(|(name, done)| (name.clone(), done.text.clone())).collect())
        })
        .collect();
    let copy = Copy {
        channel,
        is_inline: content.mode == Mode::Inline,
        default_locale: &content.default_locale,
        contents: &texts,
        options: &content.options,
    };
    problems.extend(
        check(&copy, shapes, budget).into_iter().map(|finding| place(key, channel, finding, &expanded)),
    );
    problems
}

/// Problems in the settings.
fn check_content(key: &str, channel: Channel, content: &Content) -> Vec<CatalogProblem> {
    let file = file_of("template", key);
    let mut problems = Vec::new();
    for name in content.options.keys().filter(|name| RESERVED_OPTIONS.contains(&name.as_str())) {
        let message = format!("option `{name}` is set by Herald");
        problems.push(CatalogProblem::error("reserved_option", &file, message).hint("leave it out"));
    }
    for name in ["web_url", "app_url"] {
        let link = content.options.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let scheme = link.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        if link.contains(':') && matches!(scheme.as_str(), "javascript" | "data" | "vbscript" | "file") {
            let message = format!("option `{name}` must not begin with `{scheme}:`");
            problems.push(
                CatalogProblem::error("bad_link", &file, message).hint("write the full URL: `https://…`"),
            );
        }
    }
    if content.language_by == LanguageBy::Onesignal {
        problems.extend(check_languages(&file, channel, content));
    }
    if content.layout.is_some() && channel != Channel::Email {
        let message = format!("{channel} messages have no layout");
        problems.push(CatalogProblem::error("no_layout", &file, message).hint("leave `layout` out"));
    }
    problems
}

/// Forbidden characters, line breaks in single-line fields, and invalid addresses.
fn check_characters(key: &str, channel: Channel, content: &Content) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    for (locale, fields) in &content.contents {
        for (name, text) in fields {
            let kind = fields_of(channel).iter().find(|field| field.name == name).map(|field| field.kind);
            let is_header =
                channel == Channel::Email && matches!(kind, Some(FieldKind::Line | FieldKind::Fixed));
            let is_one_line = is_header || kind == Some(FieldKind::Link);
            let is_bad = |c: char| c.is_control() && (is_one_line || !matches!(c, '\n' | '\r' | '\t'));
            let is_title =
                is_one_line || matches!(kind, Some(FieldKind::Line | FieldKind::Fixed | FieldKind::Link));
            let is_turned = is_title && text.chars().any(sets_direction);
            let is_address = name == "from_address" || (name == "reply_to" && !text.contains("{{"));
            let is_wrong = is_address && !text.is_empty() && Recipient::parse("email", text).is_err();
            let (code, message) = match (text.chars().any(is_bad), is_wrong) {
                _ if is_turned => {
                    ("direction_control", format!("`{name}` contains a bidirectional control character"))
                }
                (true, _) if is_one_line => {
                    ("line_break", format!("`{name}` must be one line without control characters"))
                }
                (true, _) => ("control_character", format!("`{name}` contains a control character")),
                (false, true) => ("bad_address", format!("`{name}` is not a valid email address")),
                (false, false) => continue,
            };
            let file = copy_file(key, channel, Some(locale));
            problems.push(CatalogProblem {
                locale: Some(locale.clone()),
                field: Some(name.clone()),
                ..CatalogProblem::error(code, &file, message).hint("remove it, or rewrite the text")
            });
        }
    }
    problems
}

/// The requirements for OneSignal to choose the language.
fn check_languages(file: &str, channel: Channel, content: &Content) -> Vec<CatalogProblem> {
    if channel != Channel::Push || content.mode == Mode::Inline {
        let message =
            "only a push template rendered by OneSignal can leave the choice of language to OneSignal";
        return vec![CatalogProblem::error("bad_locale_mode", file, message).hint("leave `locale` out")];
    }
    let mut problems = Vec::new();
    let is_code = |locale: &str| locale.len() == 2 || matches!(locale, "zh-Hans" | "zh-Hant");
    for locale in content.contents.keys().filter(|locale| !is_code(locale)) {
        let message = format!("OneSignal does not support the language `{locale}`");
        problems.push(
            CatalogProblem::error("bad_language", file, message).hint("use two letters, zh-Hans or zh-Hant"),
        );
    }
    for field in fields_of(channel).iter().filter(|field| field.by_language) {
        let has = |fields: &Fields| fields.get(field.name).is_some_and(|text| !text.is_empty());
        let lacking =
            content.contents.iter().filter(|(_, fields)| !has(fields)).map(|(locale, _)| locale.as_str());
        let lacking: Vec<&str> = lacking.collect();
        if !lacking.is_empty() && lacking.len() < content.contents.len() {
            let message = format!(
                "`{}` is missing in {}: OneSignal requires it in every language or in none",
                field.name,
                lacking.join(", ")
            );
            problems
                .push(CatalogProblem::error("missing_language", file, message).hint("add it there as well"));
        }
    }
    problems
}

fn place(
    key: &str,
    channel: Channel,
    finding: Finding,
    expanded: &BTreeMap<String, BTreeMap<String, Expanded>>,
) -> CatalogProblem {
    let Finding { code, severity, locale, field, line, column, message, hint } = finding;
    let done = locale.as_ref().zip(field.as_ref()).and_then(|(l, f)| expanded.get(l)?.get(f));
    let (mut file, mut spot) = (copy_file(key, channel, locale.as_deref()), (line, column));
    let mut message = message;
    if let (Some(done), Some(line), Some(column)) = (done, line, column) {
        let (partial, line, column) = done.origin(line, column);
        spot = (Some(line), Some(column));
        if let Some(partial) = partial {
            file = file_of("partial", partial);
            message = format!("{message} (in {key})");
        }
    }
    CatalogProblem {
        code: code.to_owned(),
        severity,
        file,
        locale,
        field,
        line: spot.0,
        column: spot.1,
        message,
        hint,
    }
}

fn include_problem(
    key: &str,
    channel: Channel,
    (locale, field): (&str, &str),
    problem: IncludeProblem,
) -> CatalogProblem {
    let file = match &problem.partial {
        Some(partial) => file_of("partial", partial),
        None => copy_file(key, channel, Some(locale)),
    };
    CatalogProblem {
        code: problem.code.to_owned(),
        severity: Severity::Error,
        file,
        locale: Some(locale.to_owned()),
        field: Some(field.to_owned()),
        line: Some(problem.line),
        column: Some(problem.column),
        message: problem.message,
        hint: Some(problem.hint),
    }
}

fn copy_file(key: &str, channel: Channel, locale: Option<&str>) -> String {
    match locale {
        Some(locale) => format!("templates/{key}/{channel}.{locale}.liquid"),
        None => file_of("template", key),
    }
}

/// Checks the syntax of a partial.
pub(super) fn check_partial(
    partial: &Partial,
    partials: &BTreeMap<String, String>,
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let file = file_of("partial", &partial.key);
    if is_front_matter(&partial.body) {
        let message = "the partial starts with `+++`: the fields above the text exist only in files";
        let problem = CatalogProblem::error("front_matter", &file, message).at(Some(1), Some(1));
        return vec![problem.hint("save only the text, without the `+++` lines")];
    }
    let included = Fields::from([("text".to_owned(), format!("{{% include '{}' %}}", partial.key))]);
    if let Err(found) = expand(&included, None, partials, budget) {
        let loops = found.into_iter().filter(|(_, problem)| problem.code != "unknown_partial");
        return loops
            .map(|(_, problem)| {
                CatalogProblem::error(problem.code, &file, problem.message).hint(problem.hint)
            })
            .collect();
    }
    // Its includes and the content are inserted later.
    let alone = BTreeMap::from([(partial.key.clone(), String::new())]);
    let fields = Fields::from([("text".to_owned(), without_includes(&partial.body))]);
    let Ok(expanded) = expand(&fields, None, &alone, budget) else { return Vec::new() };
    let error = expanded.get("text").and_then(|done| Template::parse(&done.text, budget).err());
    error
        .map(|error| {
            let file = file_of("partial", &partial.key);
            CatalogProblem::error("liquid_syntax", &file, error.message)
                .at(Some(error.line), Some(error.column))
        })
        .into_iter()
        .collect()
}

/// The text with spaces in place of includes, so that positions are preserved.
fn without_includes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{%") {
        let Some(end) = rest[at..].find("%}").map(|end| at + end + 2) else { break };
        let tag = &rest[at..end];
        out.push_str(&rest[..at]);
        if tag.trim_start_matches("{%").trim_start_matches('-').trim_start().starts_with("include") {
            out.extend(tag.chars().map(|c| if c == '\n' { c } else { ' ' }));
        } else {
            out.push_str(tag);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}
