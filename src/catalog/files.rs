//! The catalog as files: `events/<type>/{schema.json,event.toml,samples/<name>.json}`,
//! `templates/<key>/{template.toml,<channel>.<locale>.liquid}`, `rules/<key>.toml` and `sources/<name>.toml`.
//!
//! A copy file is its channel's main field; the other fields stand above it as TOML between `+++` lines.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::check::CatalogProblem;
use super::document::{Document, EventTypeDocument, RuleDocument, TemplateDocument};
use super::source_files;
use crate::domain::channel::{Channel, Lane};
use crate::domain::rule::Audience;
use crate::domain::snapshot::EventTypeEntry;
use crate::domain::template::{Fields, Mode, fields_of, is_locale, main_field};
use crate::templating;

/// A catalog's files: their paths below its folder, with `/`, and their texts.
pub type Files = BTreeMap<String, String>;

/// Sizes beyond which a file is refused.
const MAX_FILE_BYTES: usize = 256 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EventToml {
    description: String,
    sensitive: Vec<String>,
    #[serde(with = "humantime_serde")]
    time_to_live: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateToml {
    channel: Channel,
    #[serde(default)]
    description: String,
    #[serde(default)]
    mode: ModeWord,
    #[serde(default = "english")]
    default_locale: String,
    #[serde(default)]
    options: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeWord {
    #[default]
    Provider,
    Inline,
}

fn english() -> String {
    "en".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleToml {
    event: String,
    template: String,
    #[serde(default)]
    description: String,
    app: Option<String>,
    #[serde(default = "normal")]
    lane: Lane,
    #[serde(default, with = "humantime_serde")]
    delay: Duration,
    #[serde(default, with = "humantime_serde")]
    expires_in: Option<Duration>,
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    segments: Vec<String>,
    #[serde(default)]
    excluded_segments: Vec<String>,
}

fn normal() -> Lane {
    Lane::Normal
}

fn yes() -> bool {
    true
}

/// OneSignal fields that a template's options may not set: Herald sets them, or they would change whom it reaches.
const RESERVED_OPTIONS: [&str; 16] = [
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
];

/// Reads a catalog's files; everything that is wrong is said at once.
pub(super) fn read(files: &Files) -> Result<Document, Vec<CatalogProblem>> {
    let mut reader = Reader { files, document: Document::default(), problems: Vec::new() };
    for (path, text) in files {
        if text.len() > MAX_FILE_BYTES {
            reader.problems.push(CatalogProblem::error(
                "file_too_large",
                path,
                "a catalog file has at most 256 KiB",
            ));
        }
        if !is_known_path(path) {
            let problem = CatalogProblem::error("unknown_file", path, "the catalog has no such file");
            reader.problems.push(problem.hint(
                "files are events/<type>/{schema.json,event.toml,samples/<name>.json}, \
                 templates/<key>/{template.toml,<channel>.<locale>.liquid}, rules/<key>.toml and sources/<name>.toml",
            ));
        }
    }
    reader.read_all();
    if reader.problems.is_empty() { Ok(reader.document) } else { Err(reader.problems) }
}

/// Everything that is wrong with these files by themselves: what they refer to outside is not looked at.
pub fn check(files: &Files) -> Vec<CatalogProblem> {
    read(files).err().unwrap_or_default()
}

fn is_known_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let ends = |name: &str, end: &str| name.strip_suffix(end).is_some_and(|stem| !stem.is_empty());
    match parts.as_slice() {
        ["events", _, "schema.json" | "event.toml"] | ["templates", _, "template.toml"] => true,
        ["events", _, "samples", name] => ends(name, ".json"),
        ["templates", _, name] => ends(name, ".liquid"),
        ["rules" | "sources", name] => ends(name, ".toml"),
        _ => false,
    }
}

/// A copy file's front matter and its body.
fn split_front(text: &str) -> (&str, &str) {
    text.strip_prefix("+++\n").and_then(|rest| rest.split_once("\n+++\n")).unwrap_or(("", text))
}

/// How many lines of a copy file stand above its body.
fn lines_above_body(text: &str) -> usize {
    let (_, body) = split_front(text);
    text[..text.len() - body.len()].matches('\n').count()
}

struct Reader<'a> {
    files: &'a Files,
    document: Document,
    problems: Vec<CatalogProblem>,
}

impl<'a> Reader<'a> {
    fn read_all(&mut self) {
        for (path, text) in self.files {
            let parts: Vec<&str> = path.split('/').collect();
            match parts.as_slice() {
                ["events", name, "schema.json"] => self.read_event_type(path, name, text),
                ["events", name, _] if !self.files.contains_key(&format!("events/{name}/schema.json")) => {
                    self.problems.push(CatalogProblem::error(
                        "no_schema",
                        path,
                        "there is no schema.json beside it",
                    ));
                }
                ["templates", key, "template.toml"] => self.read_template(path, key, text),
                ["templates", key, _]
                    if !self.files.contains_key(&format!("templates/{key}/template.toml")) =>
                {
                    self.problems.push(CatalogProblem::error(
                        "no_template",
                        path,
                        "there is no template.toml beside it",
                    ));
                }
                ["rules", name] => self.read_rule(path, name.trim_end_matches(".toml"), text),
                ["sources", name] => self.read_source(path, name.trim_end_matches(".toml"), text),
                _ => {}
            }
        }
    }

    fn toml<T: DeserializeOwned>(&mut self, path: &str, text: &str) -> Option<T> {
        match toml::from_str(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let mut problem = CatalogProblem::error("bad_toml", path, error.message());
                if let Some(span) = error.span() {
                    let before = &text[..span.start.min(text.len())];
                    problem.line = Some(before.matches('\n').count() + 1);
                    problem.column = Some(before.rsplit('\n').next().unwrap_or_default().chars().count() + 1);
                }
                self.problems.push(problem);
                None
            }
        }
    }

    fn json(&mut self, path: &str, text: &str) -> Option<Value> {
        match serde_json::from_str(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let mut problem = CatalogProblem::error("bad_json", path, "this is not JSON");
                problem.line = Some(error.line());
                problem.column = Some(error.column());
                self.problems.push(problem);
                None
            }
        }
    }

    fn read_event_type(&mut self, path: &str, name: &str, text: &str) {
        let Some(schema) = self.json(path, text) else { return };
        let toml_path = format!("events/{name}/event.toml");
        let about: Option<EventToml> = match self.files.get(&toml_path) {
            Some(text) => self.toml(&toml_path, text),
            None => Some(EventToml::default()),
        };
        let Some(about) = about else { return };
        let Ok(name) = name.parse() else {
            let message = "an event type is lower-case words joined by dots, such as order.shipped";
            self.problems.push(CatalogProblem::error("bad_name", path, message));
            return;
        };
        for pointer in about.sensitive.iter().filter(|pointer| !pointer.starts_with('/')) {
            let message = format!("`{pointer}` is no JSON pointer");
            self.problems
                .push(CatalogProblem::error("bad_pointer", &toml_path, message).hint("write it as `/code`"));
        }
        let validator = jsonschema::options().should_validate_formats(true).build(&schema);
        let samples = self.read_samples(&name, validator.as_ref().ok());
        if let Err(error) = validator {
            let message = format!("this is no JSON Schema: {}", error.masked());
            self.problems.push(CatalogProblem::error("bad_schema", path, message));
        }
        let entry = EventTypeEntry {
            name,
            description: about.description,
            schema,
            sensitive: about.sensitive,
            time_to_live: about.time_to_live,
        };
        self.document.event_types.push(EventTypeDocument { entry, samples });
    }

    fn read_samples(
        &mut self,
        name: &crate::domain::event::EventTypeName,
        validator: Option<&jsonschema::Validator>,
    ) -> Map<String, Value> {
        let folder = format!("events/{name}/samples/");
        let mut samples = Map::new();
        let files: Vec<(&'a String, &'a String)> =
            self.files.iter().filter(|(path, _)| path.starts_with(&folder)).collect();
        for (path, text) in files {
            let Some(sample) = self.json(path, text) else { continue };
            if let Some(error) = validator.and_then(|v| v.iter_errors(&sample).next()) {
                let message =
                    format!("the sample does not fit the schema: {}: {error}", error.instance_path());
                self.problems.push(CatalogProblem::error("bad_sample", path, message));
            }
            samples.insert(path[folder.len()..].trim_end_matches(".json").to_owned(), sample);
        }
        samples
    }

    fn read_template(&mut self, path: &str, key: &str, text: &str) {
        self.check_key(path, key);
        let Some(about) = self.toml::<TemplateToml>(path, text) else { return };
        for name in about.options.keys().filter(|name| RESERVED_OPTIONS.contains(&name.as_str())) {
            let message = format!("option `{name}` is set by Herald");
            self.problems.push(CatalogProblem::error("reserved_option", path, message).hint("leave it out"));
        }
        let contents = self.read_copy(key, about.channel);
        if !contents.contains_key(&about.default_locale) {
            let message = format!("there is no copy for the default locale {}", about.default_locale);
            let hint = format!("add templates/{key}/{}.{}.liquid", about.channel, about.default_locale);
            self.problems.push(CatalogProblem::error("no_default_copy", path, message).hint(hint));
        }
        self.document.templates.push(TemplateDocument {
            key: key.to_owned(),
            channel: about.channel,
            description: about.description,
            mode: match about.mode {
                ModeWord::Provider => Mode::Provider,
                ModeWord::Inline => Mode::Inline,
            },
            default_locale: about.default_locale,
            options: about.options,
            contents,
        });
    }

    fn read_copy(&mut self, key: &str, channel: Channel) -> BTreeMap<String, Fields> {
        let folder = format!("templates/{key}/");
        let mut contents = BTreeMap::new();
        let files: Vec<(&'a String, &'a String)> = self
            .files
            .iter()
            .filter(|(path, _)| path.starts_with(&folder) && path.ends_with(".liquid"))
            .collect();
        for (path, text) in files {
            let name = path[folder.len()..].trim_end_matches(".liquid");
            let locale =
                name.split_once('.').filter(|(word, locale)| *word == channel.as_str() && is_locale(locale));
            let Some((_, locale)) = locale else {
                let hint = format!("name it {channel}.<locale>.liquid, such as {channel}.en.liquid");
                self.problems
                    .push(CatalogProblem::error("bad_file_name", path, "this names no copy").hint(hint));
                continue;
            };
            let Some(fields) = self.read_fields(path, channel, text) else { continue };
            if let Err(problems) = templating::compile(channel, &fields) {
                let above = lines_above_body(text);
                self.problems.extend(problems.into_iter().map(|mut problem| {
                    if problem.field == main_field(channel) {
                        problem.line += above;
                    }
                    CatalogProblem::in_field(path, problem)
                }));
            }
            contents.insert(locale.to_owned(), fields);
        }
        contents
    }

    fn read_fields(&mut self, path: &str, channel: Channel, text: &str) -> Option<Fields> {
        let (front, body) = split_front(text);
        let mut fields: Fields = self.toml(path, front)?;
        let main = main_field(channel);
        fields.insert(main.to_owned(), body.trim_end_matches('\n').to_owned());
        for name in fields.keys() {
            if !fields_of(channel).iter().any(|field| field.name == name) {
                let known: Vec<&str> = fields_of(channel).iter().map(|field| field.name).collect();
                let problem =
                    CatalogProblem::error("unknown_field", path, format!("{channel} has no field `{name}`"));
                self.problems.push(problem.hint(format!("its fields are {}", known.join(", "))));
            }
        }
        for field in fields_of(channel).iter().filter(|field| field.required) {
            if fields.get(field.name).is_none_or(|text| text.trim().is_empty()) {
                let message = format!("`{}` is empty, and {channel} can't do without it", field.name);
                self.problems.push(CatalogProblem::error("missing_field", path, message));
            }
        }
        Some(fields)
    }

    fn read_rule(&mut self, path: &str, key: &str, text: &str) {
        self.check_key(path, key);
        let Some(rule) = self.toml::<RuleToml>(path, text) else { return };
        let Ok(event_type) = rule.event.parse() else {
            self.problems.push(CatalogProblem::error(
                "bad_name",
                path,
                format!("`{}` is no event type", rule.event),
            ));
            return;
        };
        let audience = match (rule.segments.is_empty(), rule.excluded_segments.is_empty()) {
            (true, true) => Audience::EventRecipients,
            (false, _) => Audience::Segments { included: rule.segments, excluded: rule.excluded_segments },
            (true, false) => {
                let message = "excluded_segments without segments reaches nobody";
                self.problems
                    .push(CatalogProblem::error("no_segments", path, message).hint("name `segments`"));
                return;
            }
        };
        self.document.rules.push(RuleDocument {
            key: key.to_owned(),
            description: rule.description,
            event_type,
            app: rule.app,
            template: rule.template,
            audience,
            lane: rule.lane,
            delay: rule.delay,
            expires_in: rule.expires_in,
            is_enabled: rule.enabled,
        });
    }

    fn read_source(&mut self, path: &str, name: &str, text: &str) {
        let Some(settings) = self.toml(path, text) else { return };
        self.document.sources.extend(source_files::read(path, name, settings, &mut self.problems));
    }

    fn check_key(&mut self, path: &str, key: &str) {
        let starts_well = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !starts_well || key.len() > 100 || !key.chars().all(is_plain) {
            let message = format!("`{key}` can't be a key");
            let hint = "a key is 1 to 100 lower-case letters, digits, `.`, `_` or `-`";
            self.problems.push(CatalogProblem::error("bad_key", path, message).hint(hint));
        }
    }
}
