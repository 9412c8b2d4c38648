//! Importing templates from OneSignal's dashboard as catalog files.

mod translate;

use std::collections::BTreeSet;

use serde::Serialize;

use super::checks::is_key;
use super::drift::DriftError;
use super::files::{Files, template_files};
use super::forms::TemplateForm;
use super::patience::Patience;
use super::publish::Publisher;
use super::upload::UploadError;
use crate::domain::app::App;
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::{Content, LanguageBy, is_locale, main_field};
use crate::provider::{ProviderError, RemoteTemplate, TemplatePage};
use crate::templating;
use translate::translate;

/// What to import.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only this channel.
    pub channel: Option<Channel>,
    /// Only names that start with this.
    pub prefix: String,
    /// Keys that are already used.
    pub taken: BTreeSet<String>,
    /// Where to continue: a channel and the number of its processed templates.
    pub from: Option<(Channel, usize)>,
    /// Maximum number of templates to read.
    pub max: usize,
}

/// A note that needs a manual review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ImportNote {
    /// The template's name in OneSignal.
    pub name: String,
    /// The file, if there is one.
    pub file: Option<String>,
    /// Herald's name of the field.
    pub field: Option<String>,
    /// From 1, within the field.
    pub line: Option<usize>,
    /// What could not be imported, and how to fix it.
    pub message: String,
}

/// The result of an import.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    /// The catalog's files.
    pub files: Files,
    /// Notes that need a manual review.
    pub notes: Vec<ImportNote>,
    /// Number of skipped templates: Herald's own, and those that don't match the request.
    pub skipped: usize,
    /// Keys that are used already.
    pub taken: BTreeSet<String>,
    /// Where to continue.
    pub next: Option<(Channel, usize)>,
}

/// Herald's own templates in OneSignal.
const OWN: &str = "herald/";

impl Publisher {
    /// The app of this name or id, if there is one.
    ///
    /// # Errors
    /// [`DriftError::Store`] when the database is away.
    pub async fn find_app(&self, name: &str) -> Result<Option<App>, DriftError> {
        Ok(self.store.apps().await?.into_iter().find(|app| app.is_called(name)))
    }

    /// Converts an app's templates in OneSignal to catalog files; nothing is stored.
    ///
    /// # Errors
    /// [`DriftError`] if OneSignal does not respond; retrying helps.
    pub async fn import(&self, app: &App, wanted: &Wanted) -> Result<Imported, DriftError> {
        let mut imported = Imported { taken: wanted.taken.clone(), ..Imported::default() };
        let mut left = wanted.max;
        let patience = Patience::new();
        let channels = [Channel::Push, Channel::Email, Channel::Sms];
        let asked = channels.into_iter().filter(|channel| wanted.channel.is_none_or(|one| one == *channel));
        let begun = wanted.from.map(|(channel, _)| channel);
        for channel in asked.skip_while(|channel| begun.is_some_and(|begun| begun != *channel)) {
            let offset = wanted.from.filter(|(begun, _)| *begun == channel).map_or(0, |(_, offset)| offset);
            imported.next = self
                .import_channel(app, channel, (offset, &mut left, &patience), wanted, &mut imported)
                .await?;
            if imported.next.is_some() {
                break;
            }
        }
        Ok(imported)
    }

    /// Imports one channel's templates; returns where to continue if not all were read.
    async fn import_channel(
        &self,
        app: &App,
        channel: Channel,
        (mut offset, left, patience): (usize, &mut usize, &Patience),
        wanted: &Wanted,
        imported: &mut Imported,
    ) -> Result<Option<(Channel, usize)>, DriftError> {
        loop {
            if *left == 0 || patience.is_over() {
                return Ok(Some((channel, offset)));
            }
            let Some(page) = self.list_page(app, channel, offset, patience).await? else {
                return Ok(Some((channel, offset)));
            };
            *left -= 1;
            for (id, name) in page.templates {
                if name.starts_with(OWN) || !name.starts_with(&wanted.prefix) {
                    imported.skipped += 1;
                } else if *left == 0 || patience.is_over() {
                    return Ok(Some((channel, offset)));
                } else {
                    tokio::time::sleep(self.view_interval).await;
                    let Some(there) = self.read_template(app, (&id, name), patience).await? else {
                        return Ok(Some((channel, offset)));
                    };
                    *left -= 1;
                    if let Some(there) = there {
                        let mut grown = std::mem::take(imported);
                        let add = move |budget: &Budget| {
                            grown.add(&there, budget);
                            grown
                        };
                        *imported = self.compute(add).await.map_err(UploadError::from)?;
                    }
                }
                offset += 1;
            }
            if !page.has_more {
                return Ok(None);
            }
            tokio::time::sleep(self.view_interval).await;
        }
    }

    /// A page of the list; `None` if there is no time left.
    async fn list_page(
        &self,
        app: &App,
        channel: Channel,
        offset: usize,
        patience: &Patience,
    ) -> Result<Option<TemplatePage>, DriftError> {
        loop {
            let failed = failed(app, format!("the list of {channel} templates"));
            match self.provider.list_templates(app, channel, offset).await.map_err(failed) {
                Ok(page) => return Ok(Some(page)),
                Err(error) => {
                    if !patience.waits_after(error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// A template, if it still exists; `None` if there is no time left.
    async fn read_template(
        &self,
        app: &App,
        (id, name): (&str, String),
        patience: &Patience,
    ) -> Result<Option<Option<RemoteTemplate>>, DriftError> {
        loop {
            match self.provider.get_template(app, id).await.map_err(failed(app, name.clone())) {
                Ok(there) => return Ok(Some(there)),
                Err(error) => {
                    if !patience.waits_after(error).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

fn failed(app: &App, name: String) -> impl FnOnce(ProviderError) -> DriftError {
    let app = app.name.clone();
    move |source| DriftError::Provider { name, app, source }
}

impl Imported {
    /// Imports one template.
    fn add(&mut self, there: &RemoteTemplate, budget: &Budget) {
        let key = self.free_key(&there.name);
        let folder = format!("templates/{key}");
        let mut content = Content::default();
        for (language, fields) in &there.contents {
            if !is_locale(language) {
                let message = format!("`{language}` is not a locale; its content was skipped");
                self.note(there, None, (None, None), message);
                continue;
            }
            let file = format!("{folder}/{}.{language}.liquid", there.channel);
            let mut kept = content.contents.remove(language).unwrap_or_default();
            for (name, text) in fields {
                let (text, left) = translate(text);
                for (line, what) in left {
                    self.note(there, Some(&file), (Some(name), Some(line)), what);
                }
                kept.insert(name.clone(), text);
            }
            if !kept.contains_key(main_field(there.channel)) {
                let message = format!("{} is missing; add it", main_field(there.channel));
                self.note(there, Some(&file), (None, None), message);
            }
            for problem in templating::compile(there.channel, &kept, budget).err().into_iter().flatten() {
                let hint = problem.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                let place = (Some(&problem.field), Some(problem.line));
                self.note(there, Some(&file), place, format!("{}{hint}", problem.message));
            }
            content.contents.insert(language.clone(), kept);
        }
        if let (false, Some(first)) = (content.contents.contains_key("en"), content.contents.keys().next()) {
            content.default_locale.clone_from(first);
        }
        if !there.others.is_empty() {
            let message = format!(
                "not imported: {}; set it in the options of template.toml, if needed",
                there.others.join(", ")
            );
            self.note(there, None, (None, None), message);
        }
        let form = TemplateForm {
            channel: there.channel,
            description: format!("From OneSignal: {}", there.name),
            owner: None,
            event: None,
            needs_approval: false,
            language_by: LanguageBy::Herald,
            mode: content.mode,
            default_locale: content.default_locale,
            layout: None,
            options: content.options,
        };
        self.files.extend(template_files(&key, &form, &content.contents));
    }

    fn note(
        &mut self,
        there: &RemoteTemplate,
        file: Option<&str>,
        (field, line): (Option<&String>, Option<usize>),
        message: String,
    ) {
        let (name, file) = (there.name.clone(), file.map(str::to_owned));
        self.notes.push(ImportNote { name, file, field: field.cloned(), line, message });
    }

    /// An unused key derived from a name.
    fn free_key(&mut self, name: &str) -> String {
        let first = key_of(name);
        let mut key = first.clone();
        for number in 2.. {
            if self.taken.insert(key.clone()) {
                break;
            }
            key = format!("{first}-{number}");
        }
        key
    }
}

/// A name as a key: lower-case letters and digits, with `-` for everything else.
fn key_of(name: &str) -> String {
    let mut key = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' | '.' | '_' => key.push(c),
            _ if key.is_empty() || key.ends_with('-') => {}
            _ => key.push('-'),
        }
    }
    let key: String = key.trim_start_matches(['.', '_', '-']).chars().take(90).collect();
    let key = key.trim_end_matches('-').to_owned();
    if is_key(&key) { key } else { "template".to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::catalog::{CatalogProblem, files};

    fn remote(name: &str, channel: Channel, fields: &[(&str, &str, &str)]) -> RemoteTemplate {
        let mut contents: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (language, field, text) in fields {
            contents
                .entry((*language).to_owned())
                .or_default()
                .insert((*field).to_owned(), (*text).to_owned());
        }
        RemoteTemplate { name: name.to_owned(), channel, contents, others: Vec::new() }
    }

    #[test]
    fn a_name_becomes_a_key_and_two_names_never_the_same() {
        assert_eq!(key_of("Order shipped (DE)!"), "order-shipped-de");
        assert_eq!(key_of("--Ünïcode 2.0"), "n-code-2.0");
        assert_eq!(key_of("日本"), "template");
        assert!(is_key(&key_of(&"x ".repeat(200))));
        let mut imported = Imported::default();
        for name in ["Hello", "hello!", "HELLO"] {
            imported.add(&remote(name, Channel::Sms, &[("en", "contents", "Hi")]), &Budget::default());
        }
        let folders: BTreeSet<&str> =
            imported.files.keys().filter_map(|path| path.split('/').nth(1)).collect();
        assert_eq!(folders, ["hello", "hello-2", "hello-3"].into());
    }

    #[test]
    fn what_is_brought_in_is_a_catalog_in_which_nothing_is_wrong() {
        let mut imported = Imported::default();
        imported.add(&remote("Shipped", Channel::Push, &[
            ("en", "contents", "Order {{ message.custom_data.order_id }} is on its way, {{ user.tags.name | default: 'you' }}"),
            ("en", "headings", "+++\nA \"title\""),
            ("de", "contents", "Bestellung {{ message.custom_data.order_id }}"),
        ]), &Budget::default());
        imported.add(
            &remote(
                "Mail",
                Channel::Email,
                &[
                    ("en", "subject", "Hi {{ message.custom_data.name }}"),
                    (
                        "en",
                        "body",
                        "<p>{% for i in message.custom_data.items %}{{ i.title }}{% endfor %}</p>",
                    ),
                ],
            ),
            &Budget::default(),
        );
        assert_eq!(imported.notes, []);
        assert_eq!(
            files::check(&imported.files, &Budget::default())
                .into_iter()
                .filter(CatalogProblem::is_error)
                .collect::<Vec<_>>(),
            []
        );
        assert!(imported.files["templates/shipped/push.de.liquid"].contains("{{ data.order_id }}"));
        assert!(imported.files["templates/mail/email.en.liquid"].contains("{% for i in data.items %}"));
    }

    #[test]
    fn what_could_not_be_brought_over_is_said_with_its_place() {
        let mut imported = Imported::default();
        let mut there = remote(
            "Odd",
            Channel::Push,
            &[
                ("en", "contents", "x\n{{ message.custom_data | json }}"),
                ("en", "headings", "{{ org.name }}"),
                ("english", "contents", "x"),
            ],
        );
        there.others = vec!["dynamic_content".to_owned()];
        imported.add(&there, &Budget::default());
        let said = |text: &str| imported.notes.iter().find(|note| note.message.contains(text)).expect(text);
        assert_eq!(said("`message.custom_data`").line, Some(2));
        assert_eq!(said("there is no `org`").field.as_deref(), Some("headings"));
        said("`english` is not a locale");
        said("not imported: dynamic_content");
    }
}
