//! The written form of a template's settings.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::catalog::manifest::TemplateAbout;
use crate::domain::channel::Channel;
use crate::domain::template::{Content, LanguageBy, Mode, Template};

/// `template.toml`: everything except the content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateForm {
    /// The channel.
    pub channel: Channel,
    /// Description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The event type that it is written for, in addition to those of its rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Whether a second person has to approve a draft before it goes live.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_approval: bool,
    /// `provider`: rendered by OneSignal; `inline`: rendered by Herald.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Who chooses the language: `herald`, or `onesignal` for push.
    #[serde(default, rename = "locale", skip_serializing_if = "LanguageBy::is_herald")]
    pub language_by: LanguageBy,
    /// The last fallback locale.
    #[serde(default = "english")]
    pub default_locale: String,
    /// The partial that wraps an email's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Static OneSignal fields.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

fn english() -> String {
    "en".to_owned()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TemplateForm {
    /// The form of a template and its content.
    pub fn of(template: &Template, content: &Content) -> Self {
        Self {
            channel: template.channel,
            description: template.description.clone(),
            owner: template.owner.clone(),
            event: template.event_type.clone(),
            needs_approval: template.needs_approval,
            mode: content.mode,
            language_by: content.language_by,
            default_locale: content.default_locale.clone(),
            layout: content.layout.clone(),
            options: content.options.clone(),
        }
    }

    /// The settings, and the content without its fields.
    pub(in crate::catalog) fn split(self) -> (TemplateAbout, Content) {
        let about = TemplateAbout {
            description: self.description,
            owner: self.owner,
            event_type: self.event,
            needs_approval: self.needs_approval,
        };
        let content = Content {
            mode: self.mode,
            language_by: self.language_by,
            default_locale: self.default_locale,
            layout: self.layout,
            options: self.options,
            contents: std::collections::BTreeMap::new(),
        };
        (about, content)
    }
}
