//! Writes a catalog as files.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::Files;
use crate::catalog::app_files;
use crate::catalog::forms::{EventTypeForm, RuleForm, TemplateForm};
use crate::domain::channel::Channel;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Fields, fields_of, main_field};

/// The files of a catalog: live versions of templates that are not archived.
pub fn write(snapshot: &CatalogSnapshot) -> Files {
    let mut files = Files::new();
    for entry in &snapshot.event_types {
        let folder = format!("events/{}", entry.name);
        let form = EventTypeForm::of(entry);
        files.insert(format!("{folder}/schema.json"), json(&form.schema));
        for (name, sample) in &form.samples {
            files.insert(format!("{folder}/samples/{name}.json"), json(sample));
        }
        let about = EventTypeForm { schema: Value::Null, samples: serde_json::Map::new(), ..form };
        files.insert(format!("{folder}/event.toml"), toml(&about));
    }
    for partial in &snapshot.partials {
        files.insert(
            format!("partials/{}.liquid", partial.key),
            partial_text(&partial.description, &partial.body),
        );
    }
    for template in snapshot.templates.iter().filter(|template| !template.is_archived) {
        let live = snapshot.versions.iter().find(|version| Some(version.id) == template.live);
        let Some(version) = live else { continue };
        let form = TemplateForm::of(template, &version.content);
        files.extend(template_files(&template.key, &form, &version.content.contents));
    }
    for rule in &snapshot.rules {
        let app = rule.definition.app.map(|id| {
            let known = snapshot.apps.iter().find(|app| app.id == id);
            known.map_or_else(|| id.to_string(), |app| app.name.clone())
        });
        files.insert(format!("rules/{}.toml", rule.key), toml(&RuleForm::of(rule, app)));
    }
    for (name, settings) in &snapshot.sources {
        if settings.as_object().is_some_and(|members| !members.is_empty()) {
            files.insert(format!("sources/{name}.toml"), toml(settings));
        }
    }
    files.extend(snapshot.apps.iter().filter_map(app_files::written).map(|(path, form)| (path, toml(&form))));
    files
}

/// The files of one template.
pub(in crate::catalog) fn template_files(
    key: &str,
    form: &TemplateForm,
    contents: &BTreeMap<String, Fields>,
) -> Files {
    let folder = format!("templates/{key}");
    let mut files = Files::from([(format!("{folder}/template.toml"), toml(form))]);
    for (locale, fields) in contents {
        let name = format!("{folder}/{}.{locale}.liquid", form.channel);
        files.insert(name, copy_text(form.channel, fields));
    }
    files
}

fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

fn toml<T: Serialize>(form: &T) -> String {
    toml::to_string(form).unwrap_or_default()
}

/// A partial's file, with its description as front matter, if it has one.
fn partial_text(description: &str, body: &str) -> String {
    let body = body.trim_end_matches('\n');
    if description.is_empty() && !body.starts_with("+++\n") {
        return format!("{body}\n");
    }
    format!("+++\ndescription = {}\n+++\n{body}\n", toml::Value::from(description))
}

/// A content file: the channel's other fields in order, then the main one.
fn copy_text(channel: Channel, fields: &Fields) -> String {
    let main = main_field(channel);
    let mut front = String::new();
    for spec in fields_of(channel).iter().filter(|spec| spec.name != main) {
        if let Some(text) = fields.get(spec.name) {
            // A multi-line string could contain the line that ends the front matter.
            let value = if text.contains("+++") {
                Value::from(text.as_str()).to_string()
            } else {
                toml::Value::from(text.as_str()).to_string()
            };
            let _ = writeln!(front, "{} = {value}", spec.name);
        }
    }
    let body = fields.get(main).map_or("", String::as_str);
    if front.is_empty() && !body.starts_with("+++\n") {
        return format!("{body}\n");
    }
    if front.is_empty() { format!("+++\n\n+++\n{body}\n") } else { format!("+++\n{front}+++\n{body}\n") }
}
