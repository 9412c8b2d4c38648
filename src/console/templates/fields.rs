//! A template's form: one input per field and locale, and settings.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::super::failure::Failure;
use crate::domain::channel::Channel;
use crate::domain::template::{Content, FieldKind, FieldSpec, Fields, fields_of, main_field};

/// A submitted form: names with values.
pub(in super::super) struct Sent(BTreeMap<String, String>);

impl Sent {
    /// Parses a form, whose size and time the guard has limited.
    ///
    /// # Errors
    /// [`Failure::Invalid`] if it is incomplete.
    pub async fn read(body: Body) -> Result<Self, Failure> {
        let bytes = to_bytes(body, usize::MAX)
            .await
            .map_err(|_| Failure::Invalid("The form was incomplete.".to_owned()))?;
        // Browsers send CRLF line endings.
        let pairs = url::form_urlencoded::parse(&bytes);
        Ok(Self(pairs.map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n"))).collect()))
    }

    /// One value; empty if it was not sent.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The draft's revision that the form is based on.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn revision(&self) -> Result<i32, Failure> {
        self.text("revision")
            .parse()
            .map_err(|_| Failure::Invalid("The form has no revision: reload the page.".to_owned()))
    }

    /// The content of the form.
    ///
    /// # Errors
    /// [`Failure::Invalid`] if the options are not a JSON object.
    pub fn content(&self) -> Result<Content, Failure> {
        let mut content =
            Content { default_locale: self.text("default_locale").trim().to_owned(), ..Content::default() };
        let word = |name: &str| Value::String(self.text(name).to_owned());
        if let Ok(mode) = serde_json::from_value(word("mode")) {
            content.mode = mode;
        }
        if let Ok(by) = serde_json::from_value(word("language_by")) {
            content.language_by = by;
        }
        content.layout = Some(self.text("layout").trim().to_owned()).filter(|layout| !layout.is_empty());
        content.options = self.options()?;
        for (name, value) in &self.0 {
            let Some((locale, field)) = name.strip_prefix("copy.").and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            let fields: &mut Fields = content.contents.entry(locale.to_owned()).or_default();
            if !value.is_empty() {
                fields.insert(field.to_owned(), value.clone());
            }
        }
        if let Some(gone) = self.0.get("without_locale") {
            content.contents.remove(gone);
        }
        let added = self.text("add_locale").trim();
        if !added.is_empty() && !content.contents.contains_key(added) {
            // A new locale starts with the default locale's content.
            let copy = content.contents.get(&content.default_locale).cloned().unwrap_or_default();
            content.contents.insert(added.to_owned(), copy);
        }
        Ok(content)
    }

    fn options(&self) -> Result<Map<String, Value>, Failure> {
        let text = self.text("options").trim();
        if text.is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_str(text).map_err(|error| {
            Failure::Invalid(format!(
                "The options are not a valid JSON object ({error}); write {{\"ios_badgeType\": \"Increase\"}}."
            ))
        })
    }
}

/// A field's name in the form.
fn name_of(locale: &str, field: &str) -> String {
    format!("copy.{locale}.{field}")
}

/// The label of a field.
pub(super) fn label(field: &str) -> String {
    if field == "url" {
        return "Link (URL)".to_owned();
    }
    let mut letters = field.replace('_', " ");
    if let Some(first) = letters.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    letters
}

/// The order of fields: an email's subject and a push title come first.
fn in_order(channel: Channel) -> Vec<&'static FieldSpec> {
    let rank = |field: &FieldSpec| match field.name {
        "headings" | "subject" => 0,
        "subtitle" | "preheader" => 1,
        name if name == main_field(channel) => 2,
        "url" => 3,
        _ => 4,
    };
    let mut fields: Vec<&FieldSpec> = fields_of(channel).iter().collect();
    fields.sort_by_key(|field| rank(field));
    fields
}

/// The inputs of every locale.
pub(super) fn boxes(channel: Channel, content: &Content, theirs: Option<&Content>) -> Markup {
    let several = content.contents.len() > 1;
    html! {
        div.locales {
            @for (locale, fields) in default_first(content) {
                details.locale name="locale" open[*locale == content.default_locale || !several] data-locale=(locale) {
                    summary {
                        (locale)
                        @if *locale == content.default_locale { span.soft { " default" } }
                        @if !missing(channel, fields).is_empty() { span.chip.warn { "▲ missing: " (missing(channel, fields).join(", ")) } }
                    }
                    @let (usual, rare): (Vec<_>, Vec<_>) = in_order(channel).into_iter().partition(|field| is_usual(channel, field, fields));
                    @for field in usual { (one(locale, field, text_of(fields, field), theirs)) }
                    @if !rare.is_empty() {
                        details.rare { summary.soft { "More fields" } @for field in rare { (one(locale, field, text_of(fields, field), theirs)) } }
                    }
                    @if *locale != content.default_locale {
                        button.link name="without_locale" value=(locale) data-asks={ "Remove the locale " (locale) " from the draft?" } { "Remove locale " (locale) }
                    }
                }
            }
        }
    }
}

/// The default locale, then the others by name.
fn default_first(content: &Content) -> Vec<(&String, &Fields)> {
    let mut locales: Vec<_> = content.contents.iter().collect();
    locales.sort_by_key(|(locale, _)| **locale != content.default_locale);
    locales
}

fn text_of<'a>(fields: &'a Fields, field: &FieldSpec) -> &'a str {
    fields.get(field.name).map_or("", String::as_str)
}

/// Whether a field is shown by default: it is common, or has a value.
fn is_usual(channel: Channel, field: &FieldSpec, fields: &Fields) -> bool {
    let is_common = matches!(field.name, "headings" | "subject" | "preheader" | "url")
        || field.name == main_field(channel);
    is_common || fields.contains_key(field.name)
}

fn missing(channel: Channel, fields: &Fields) -> Vec<&'static str> {
    let is_missing = |field: &&FieldSpec| {
        field.required && fields.get(field.name).is_none_or(|text| text.trim().is_empty())
    };
    fields_of(channel).iter().filter(is_missing).map(|field| field.name).collect()
}

fn one(locale: &str, field: &FieldSpec, text: &str, theirs: Option<&Content>) -> Markup {
    let other = theirs.map(|theirs| {
        theirs.contents.get(locale).and_then(|fields| fields.get(field.name)).map_or("", String::as_str)
    });
    let rows = match field.kind {
        FieldKind::Html => 18,
        FieldKind::Text => 4,
        FieldKind::Line | FieldKind::Link | FieldKind::Fixed => 1,
    };
    let language = if matches!(field.kind, FieldKind::Html) { "html" } else { "liquid" };
    html! {
        @if let Some(other) = other.filter(|other| *other != text) {
            div.theirs {
                p { strong { "Theirs, " (label(field.name).to_lowercase()) } }
                @if other.is_empty() { p.soft { "Empty in the other draft." } } @else { pre { code { (other) } } }
            }
        }
        label.field {
            span { span data-name="" { (label(field.name)) } @if field.required { span.soft { " (required)" } } }
            textarea name=(name_of(locale, field.name)) rows=(rows) spellcheck=(if rows > 1 { "true" } else { "false" }) lang=(locale) data-code=(language) data-lines=[(rows == 1).then_some("one")] { "\n" (text) }
        }
    }
}

/// The settings.
pub(super) fn settings(content: &Content, layouts: &[&str]) -> Markup {
    let mode = serde_json::to_value(content.mode).ok();
    let mode = mode.as_ref().and_then(Value::as_str).unwrap_or("provider");
    let by = serde_json::to_value(content.language_by).ok();
    let by = by.as_ref().and_then(Value::as_str).unwrap_or("herald");
    let options = if content.options.is_empty() {
        String::new()
    } else {
        format!("{:#}", Value::Object(content.options.clone()))
    };
    html! {
        details.settings {
            summary { "Settings" }
            div.stack {
                label { "Default locale"
                    select name="default_locale" {
                        @for locale in content.contents.keys() { option value=(locale) selected[*locale == content.default_locale] { (locale) } }
                        @if content.contents.is_empty() { option value=(content.default_locale) selected { (content.default_locale) } }
                    }
                }
                label { "Rendering"
                    select name="mode" {
                        option value="provider" selected[mode == "provider"] { "OneSignal template" }
                        option value="inline" selected[mode == "inline"] { "Rendered by Herald" }
                    }
                }
                input type="hidden" name="language_by" value=(by);
                @if !layouts.is_empty() || content.layout.is_some() {
                    label { "Email layout"
                        select name="layout" {
                            option value="" { "none" }
                            @for name in layouts { option value=(name) selected[content.layout.as_deref() == Some(name)] { (name) } }
                        }
                    }
                }
                label { "OneSignal options " span.soft { "(JSON, passed through)" } textarea name="options" rows="3" spellcheck="false" { "\n" (options) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str) -> Sent {
        Sent::read(Body::from(text.to_owned())).await.unwrap_or_else(|_| Sent(BTreeMap::new()))
    }

    #[tokio::test]
    async fn a_form_says_what_its_boxes_say_with_the_line_ends_of_today() {
        let sent = read("revision=3&default_locale=en&mode=inline&copy.en.contents=a%0D%0Ab&copy.en.url=&copy.de.contents=c").await;
        let content = sent.content().unwrap();
        assert_eq!(content.contents["en"]["contents"], "a\nb");
        assert_eq!((content.contents["en"].len(), content.contents["de"].len()), (1, 1));
        assert_eq!((sent.revision().unwrap(), content.mode), (3, crate::domain::template::Mode::Inline));
    }

    #[tokio::test]
    async fn a_new_locale_begins_with_the_default_one_s_copy() {
        let sent = read("default_locale=en&copy.en.contents=Hi&add_locale=de").await;
        assert_eq!(sent.content().unwrap().contents["de"]["contents"], "Hi");
    }

    #[tokio::test]
    async fn options_that_are_no_object_are_refused_with_an_example() {
        let sent = read("options=%5B1%5D").await;
        assert!(
            matches!(sent.content(), Err(Failure::Invalid(why)) if why.contains("not a valid JSON object"))
        );
    }
}
