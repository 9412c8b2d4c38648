//! Copy in several languages of which OneSignal chooses one: a single template, a single entry of values.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{CompiledContent, LOOKUP, Problem, ValueError, compile};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::{Content, LanguageBy};
use crate::templating::partials::expanded_fields;

/// The language that OneSignal can't do without.
const ENGLISH: &str = "en";

/// A version compiled: by locale, with the problems of those that do not compile. Where OneSignal chooses the language,
/// the default locale stands for all of them.
pub fn compile_content(
    channel: Channel,
    content: &Content,
    partials: &BTreeMap<String, String>,
    budget: &Budget,
) -> (BTreeMap<String, CompiledContent>, BTreeMap<String, Vec<Problem>>) {
    let (mut compiled, mut problems) = (BTreeMap::new(), BTreeMap::new());
    for (locale, fields) in &content.contents {
        match compile(channel, &expanded_fields(fields, content.layout.as_deref(), partials, budget), budget)
        {
            Ok(done) => drop(compiled.insert(locale.clone(), done)),
            Err(found) => drop(problems.insert(locale.clone(), found)),
        }
    }
    if content.language_by == LanguageBy::Onesignal {
        let default = &content.default_locale;
        let all = CompiledContent::of_languages(compiled, default).filter(|_| problems.is_empty());
        compiled = all.map(|all| (default.clone(), all)).into_iter().collect();
    }
    (compiled, problems)
}

impl CompiledContent {
    /// Merges the contents of all languages into one. Fields that do not depend on the language, such as the link, are
    /// those of `default`.
    fn of_languages(languages: BTreeMap<String, Self>, default: &str) -> Option<Self> {
        let main = languages.get(default)?;
        let entered = |texts: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            texts.iter().map(|(name, text)| (name.clone(), in_language(text, default))).collect()
        };
        Some(Self {
            fields: Vec::new(),
            template_fields: entered(&main.template_fields),
            call_fields: entered(&main.call_fields),
            paths: languages.values().flat_map(|content| content.paths.iter().cloned()).collect(),
            // Only OneSignal knows the language, so Herald can't render it.
            reads_provider: true,
            languages,
        })
    }

    /// What is uploaded as a template, by language and Herald's field names; `en` is always among them.
    pub fn template_languages(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut texts: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (language, content) in &self.languages {
            let fields = content.template_fields.iter();
            let entered = fields.map(|(name, text)| (name.clone(), in_language(text, language))).collect();
            texts.insert(language.clone(), entered);
        }
        texts.entry(ENGLISH.to_owned()).or_insert_with(|| self.template_fields.clone());
        texts
    }

    /// The content in one language, if OneSignal chooses among several.
    pub fn in_language(&self, language: &str) -> Option<&Self> {
        self.languages.get(language)
    }

    /// The entry of one event: one for each language that needs values.
    pub(super) fn values_by_language(
        &self,
        data: &Value,
        budget: &Budget,
    ) -> Result<Map<String, Value>, ValueError> {
        let needing = self.languages.iter().filter(|(_, content)| content.needs_values());
        needing
            .map(|(language, content)| Ok((key_of(language), content.values(data, budget)?.into())))
            .collect()
    }
}

/// The name under which a language's values travel: one that Liquid can read after a dot.
fn key_of(language: &str) -> String {
    language.replace('-', "_").to_ascii_lowercase()
}

/// A compiled text that reads its own language's values.
fn in_language(text: &str, language: &str) -> String {
    match text.strip_prefix(LOOKUP) {
        Some(rest) => format!("{LOOKUP}{{% assign herald = herald.{} %}}{rest}", key_of(language)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::template::Fields;

    #[test]
    fn each_language_looks_into_its_own_values() {
        let fields = |text: &str| Fields::from([("contents".to_owned(), text.to_owned())]);
        let contents = BTreeMap::from([
            ("de".to_owned(), fields("Hallo {{ data.name | upcase }}")),
            ("en".to_owned(), fields("Hi {{ data.name }}, {{ data.n }}")),
        ]);
        let content = Content { language_by: LanguageBy::Onesignal, contents, ..Content::default() };
        let (compiled, problems) =
            compile_content(Channel::Push, &content, &BTreeMap::new(), &Budget::default());
        assert!(problems.is_empty());
        let all = &compiled["en"];
        assert!(all.needs_values() && all.reads_provider());
        let data = json!({"name": "Ann", "n": 3});
        let entry = Value::Object(all.values(&data, &Budget::default()).unwrap());
        let message = json!({"custom_data": {"all": entry}});
        let shown = |language: &str| {
            let text = &all.template_languages()[language]["contents"];
            let template = crate::templating::liquid::Template::parse(text, &Budget::default()).unwrap();
            let strictness = crate::templating::liquid::Strictness::Lenient;
            template.render(&[("message", &message)], strictness, &Budget::default()).unwrap().text
        };
        assert_eq!((shown("de").as_str(), shown("en").as_str()), ("Hallo ANN", "Hi Ann, 3"));
        assert!(
            all.values(&json!({"name": "Ann"}), &Budget::default()).is_err(),
            "a hole in any language holds it"
        );
    }
}
