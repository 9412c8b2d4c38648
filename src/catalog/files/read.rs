//! Reads files into a document; reports all problems at once.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{CopyFile, Files, is_leftover, split_front};
use crate::catalog::check::CatalogProblem;
use crate::catalog::checks::too_complex;
use crate::catalog::forms::{EventTypeForm, FormProblem, RuleForm, TemplateForm, explain_value};
use crate::catalog::manifest::{Document, RuleDocument, TemplateDocument};
use crate::catalog::{app_files, source_files};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::objects::ObjectsOnly;
use crate::domain::snapshot::Partial;
use crate::domain::template::{Fields, is_locale, main_field, plain_lines};

/// Maximum file sizes.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// Reads a catalog's files.
pub(in crate::catalog) fn read(files: &Files, budget: &Budget) -> (Document, Vec<CatalogProblem>) {
    let kept = files.iter().filter(|(path, _)| !is_leftover(path));
    let files = &kept.map(|(path, text)| (path.clone(), plain_lines(text))).collect::<Files>();
    let mut reader = Reader { files, budget, document: Document::default(), problems: Vec::new() };
    for (path, text) in files {
        if text.len() > MAX_FILE_BYTES {
            reader.problem("file_too_large", path, "a catalog file must not exceed 256 KiB");
            continue;
        }
        if budget.work(text.len()).is_err() {
            reader.problems.extend(budget.spent().map(too_complex));
            break;
        }
        reader.read(path, text);
    }
    (reader.document, reader.problems)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PartialFront {
    description: String,
}

struct Reader<'a> {
    files: &'a Files,
    budget: &'a Budget,
    document: Document,
    problems: Vec<CatalogProblem>,
}

impl<'a> Reader<'a> {
    fn problem(&mut self, code: &str, path: &str, message: impl Into<String>) {
        self.problems.push(CatalogProblem::error(code, path, message));
    }

    fn read(&mut self, path: &str, text: &str) {
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            ["events", name, "schema.json"] => self.read_event_type(path, name, text),
            ["events", name, "event.toml"] => self.wants(path, &format!("events/{name}/schema.json")),
            ["events", name, "samples", file] if has_stem(file, ".json") => {
                self.wants(path, &format!("events/{name}/schema.json"));
            }
            ["templates", key, "template.toml"] => self.read_template(path, key, text),
            ["templates", key, file] if has_stem(file, ".liquid") => {
                self.wants(path, &format!("templates/{key}/template.toml"));
            }
            ["partials", file] if has_stem(file, ".liquid") => {
                self.read_partial(path, file.trim_end_matches(".liquid"), text);
            }
            ["rules", file] if has_stem(file, ".toml") => {
                self.read_rule(path, file.trim_end_matches(".toml"), text);
            }
            ["sources", file] if has_stem(file, ".toml") => {
                let Some(settings) = self.toml(path, text) else { return };
                let name = file.trim_end_matches(".toml");
                self.document.sources.extend(source_files::read(
                    path,
                    name,
                    settings,
                    (&mut self.problems, self.budget),
                ));
            }
            ["apps", file] if has_stem(file, ".toml") => {
                let Some(form) = self.toml(path, text) else { return };
                let name = file.trim_end_matches(".toml");
                self.document.apps.extend(app_files::read(path, name, form, &mut self.problems));
            }
            _ => {
                let problem = CatalogProblem::error("unknown_file", path, "this is not a catalog file");
                self.problems.push(problem.hint(
                    "catalog files are events/<type>/{schema.json,event.toml,samples/<name>.json}, partials/<key>.liquid, \
                     templates/<key>/{template.toml,<channel>.<locale>.liquid}, rules/<key>.toml, sources/<name>.toml \
                     and apps/<name>.toml",
                ));
            }
        }
    }

    /// Reports a missing main file.
    fn wants(&mut self, path: &str, other: &str) {
        if !self.files.contains_key(other) {
            let name = other.rsplit('/').next().unwrap_or(other);
            let code = if name == "schema.json" { "no_schema" } else { "no_template" };
            self.problem(code, path, format!("{name} is missing in the same folder"));
        }
    }

    fn toml<T: DeserializeOwned>(&mut self, path: &str, text: &str) -> Option<T> {
        match toml::from_str(text) {
            Ok(value) => match list_for_object::<T>(text) {
                None => Some(value),
                Some(message) => {
                    self.problems.push(CatalogProblem::error("bad_toml", path, message));
                    None
                }
            },
            Err(error) => {
                let (message, hint) = explain_value(error.message());
                let mut problem = CatalogProblem::error("bad_toml", path, message);
                problem.hint = hint;
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

    fn form(&mut self, path: &str, problems: Vec<FormProblem>) {
        for found in problems {
            let mut problem = CatalogProblem::error(found.code, path, found.message);
            problem.hint = found.hint;
            self.problems.push(problem);
        }
    }

    /// The files in a folder with this suffix.
    fn below(&self, folder: &str, end: &str) -> Vec<(&'a String, &'a String)> {
        let files = self.files.range(folder.to_owned()..).take_while(|(path, _)| path.starts_with(folder));
        files.filter(|(path, _)| path.ends_with(end)).collect()
    }

    fn read_event_type(&mut self, path: &str, name: &str, text: &str) {
        let Some(schema) = self.json(path, text) else { return };
        let about_path = format!("events/{name}/event.toml");
        let about: Option<EventTypeForm> = match self.files.get(&about_path) {
            Some(text) => self.toml(&about_path, text),
            None => Some(EventTypeForm::default()),
        };
        let Some(mut form) = about else { return };
        if !form.schema.is_null() || !form.samples.is_empty() {
            let message = "schema and samples belong in separate files: schema.json and samples/<name>.json";
            self.problem("misplaced", &about_path, message);
        }
        form.schema = schema;
        let folder = format!("events/{name}/samples/");
        for (path, text) in self.below(&folder, ".json") {
            let Some(sample) = self.json(path, text) else { continue };
            form.samples.insert(path[folder.len()..].trim_end_matches(".json").to_owned(), sample);
        }
        let (entry, problems) = form.read(name, self.budget);
        let (samples, others): (Vec<FormProblem>, Vec<FormProblem>) =
            problems.into_iter().partition(|problem| problem.field == "samples");
        self.form(path, others.iter().filter(|p| p.field != "sensitive").cloned().collect());
        self.form(&about_path, others.into_iter().filter(|p| p.field == "sensitive").collect());
        self.form(folder.trim_end_matches('/'), samples);
        self.document.event_types.extend(entry);
    }

    fn read_partial(&mut self, path: &str, key: &str, text: &str) {
        self.check_key(path, key);
        let CopyFile { front, body, unclosed, .. } = split_front(text);
        self.check_front(path, unclosed);
        let Some(front) = self.toml::<PartialFront>(path, front) else { return };
        self.document.partials.push(Partial {
            key: key.to_owned(),
            version: 0,
            description: front.description,
            body: body.trim_end_matches('\n').to_owned(),
        });
    }

    fn read_template(&mut self, path: &str, key: &str, text: &str) {
        self.check_key(path, key);
        let Some(form) = self.toml::<TemplateForm>(path, text) else { return };
        let channel = form.channel;
        let (about, mut content) = form.split();
        let folder = format!("templates/{key}/");
        for (path, text) in self.below(&folder, ".liquid") {
            let name = path[folder.len()..].trim_end_matches(".liquid");
            let named =
                name.split_once('.').filter(|(word, locale)| *word == channel.as_str() && is_locale(locale));
            let Some((_, locale)) = named else {
                let hint = format!("name it {channel}.<locale>.liquid, such as {channel}.en.liquid");
                let problem =
                    CatalogProblem::error("bad_file_name", path, "the file name is not a channel and locale");
                self.problems.push(problem.hint(hint));
                continue;
            };
            if let Some(fields) = self.read_fields(path, channel, text) {
                content.contents.insert(locale.to_owned(), fields);
            }
        }
        self.document.templates.push(TemplateDocument { key: key.to_owned(), channel, about, content });
    }

    fn read_fields(&mut self, path: &str, channel: Channel, text: &str) -> Option<Fields> {
        let CopyFile { front, body, lines_above, unclosed } = split_front(text);
        self.check_front(path, unclosed);
        self.check_yaml_front(path, body);
        self.document.lines_above.insert(path.to_owned(), lines_above);
        let mut fields: Fields = self.toml(path, front)?;
        fields.insert(main_field(channel).to_owned(), body.trim_end_matches('\n').to_owned());
        Some(fields)
    }

    fn read_rule(&mut self, path: &str, key: &str, text: &str) {
        self.check_key(path, key);
        let Some(form) = self.toml::<RuleForm>(path, text) else { return };
        let (event_type, app, is_enabled) = (form.event.clone(), form.app.clone(), form.enabled);
        let (definition, problems) = form.read();
        self.form(path, problems);
        if let Some(definition) = definition {
            let key = key.to_owned();
            self.document.rules.push(RuleDocument { key, event_type, app, is_enabled, definition });
        }
    }

    /// Reports unclosed fields, which would be sent as text.
    fn check_front(&mut self, path: &str, unclosed: Option<usize>) {
        let Some(line) = unclosed else { return };
        let message = format!("`+++` on line {line} is not closed");
        let problem = CatalogProblem::error("unclosed_fields", path, message);
        let hint = "write `+++` on a line of its own below the fields";
        self.problems.push(problem.hint(hint).at(Some(line), Some(1)));
    }

    /// Reports YAML front matter, which would be sent as text.
    fn check_yaml_front(&mut self, path: &str, body: &str) {
        let text = body.trim_start();
        let is_yaml = text.lines().next().is_some_and(|line| line.trim_end() == "---")
            && text.lines().skip(1).any(|line| line.trim_end() == "---");
        if is_yaml {
            let problem =
                CatalogProblem::error("yaml_front_matter", path, "the file starts with YAML front matter");
            self.problems.push(problem.hint("write the fields as TOML between two `+++` lines"));
        }
    }

    fn check_key(&mut self, path: &str, key: &str) {
        if !super::super::checks::is_key(key) {
            let problem = CatalogProblem::error("bad_name", path, format!("`{key}` is not a valid key"));
            self.problems.push(problem.hint("use 1 to 100 lower-case letters, digits, `.`, `_` or `-`"));
        }
    }
}

fn has_stem(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|stem| !stem.is_empty())
}

/// Reports a TOML list where a table is expected, which a derived deserializer would accept as values in order.
fn list_for_object<T: DeserializeOwned>(text: &str) -> Option<String> {
    let value: Value = toml::from_str(text).ok()?;
    T::deserialize(ObjectsOnly(value)).err().map(|error| error.to_string())
}
