//! What a person would see: the compiled copy, run as OneSignal runs it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::liquid::{Strictness, Template};
use super::{CompiledContent, ValueError};
use crate::domain::budget::Budget;

/// What OneSignal knows of the person who is shown a preview.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// `user`, as its Liquid sees it: tags, external id, language.
    pub user: Value,
}

/// The fields by Herald's names, as OneSignal would render them for this event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The texts.
    pub fields: BTreeMap<String, String>,
    /// Paths that came out as nothing: of the person, for what the event lacks is held.
    pub blanks: Vec<String>,
}

/// Renders `content` for an event's values.
///
/// # Errors
/// [`ValueError`]: the event would be held.
pub fn preview(
    content: &CompiledContent,
    data: &Value,
    person: &Person,
    budget: &Budget,
) -> Result<Preview, ValueError> {
    let entry = Value::Object(content.values(data, budget)?);
    let message = json!({"custom_data": {"all": entry}});
    let subscription = json!({"external_id": person.user["external_id"]});
    let globals = [("message", &message), ("user", &person.user), ("subscription", &subscription)];
    let mut preview = Preview::default();
    for (name, text) in content.template_fields().iter().chain(content.call_fields()) {
        let broken = |detail: String| ValueError::Limit { field: name.clone(), detail };
        let template = Template::parse_as_provider(text, budget)
            .map_err(|error| broken(format!("can't be rendered: {error}")))?;
        let rendered = template
            .render(&globals, Strictness::Lenient, budget)
            .map_err(|error| broken(format!("can't be rendered: {error}")))?;
        preview
            .blanks
            .extend(rendered.blanks.into_iter().filter(|path| !path.starts_with("message.custom_data")));
        preview.fields.insert(name.clone(), rendered.text);
    }
    preview.blanks.sort_unstable();
    preview.blanks.dedup();
    Ok(preview)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::channel::Channel;
    use crate::domain::template::Fields;
    use crate::templating::compile;

    #[test]
    fn a_preview_is_what_onesignal_would_show_this_person() {
        let fields = Fields::from([
            (
                "contents".to_owned(),
                "{{ data.n | times: 2 }} for {{ user.tags.name }}{{ user.tags.x }}".to_owned(),
            ),
            ("url".to_owned(), "https://shop.example/{{ data.id }}".to_owned()),
        ]);
        let content = compile(Channel::Push, &fields, &Budget::default()).unwrap();
        let person = Person { user: json!({"external_id": "u", "tags": {"name": "Ann"}}) };
        let data = json!({"n": 4, "id": "a b"});
        let shown = preview(&content, &data, &person, &Budget::default()).unwrap();
        assert_eq!(shown.fields["contents"], "8 for Ann");
        assert_eq!(shown.fields["url"], "https://shop.example/a%20b");
        assert_eq!(shown.blanks, ["user.tags.x"]);
        assert!(preview(&content, &json!({"n": 4}), &person, &Budget::default()).is_err());
    }
}
