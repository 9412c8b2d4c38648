//! A user as a request or a file describes them, and its translation into parts.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Value, json};

use super::identity;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::user::{Changes, MAX_ALIASES, MAX_SUBSCRIPTIONS, PartKey, Property, Subscription};
use crate::domain::{locale, tag};

/// OneSignal's types of push subscriptions.
const PUSH_TYPES: [&str; 9] = [
    "iOSPush",
    "AndroidPush",
    "HuaweiPush",
    "FireOSPush",
    "WindowsPush",
    "macOSPush",
    "ChromePush",
    "FirefoxPush",
    "SafariPush",
];

/// A user as it is written. Parts that are absent are left alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserForm {
    /// Other aliases: labels with ids; `null` removes one.
    #[serde(default)]
    pub aliases: BTreeMap<String, Option<String>>,
    /// Addresses, numbers and push tokens.
    #[serde(default)]
    pub subscriptions: Vec<SubscriptionForm>,
    /// Tags: names with values; `null` or an empty text removes one.
    pub tags: Option<BTreeMap<String, Value>>,
    /// The language that they read.
    pub language: Option<String>,
    /// Their time zone's IANA name.
    pub time_zone: Option<String>,
    /// Their country, as two letters.
    pub country: Option<String>,
    /// Latitude in degrees; only with `longitude`.
    pub latitude: Option<f64>,
    /// Longitude in degrees; only with `latitude`.
    pub longitude: Option<f64>,
}

/// A subscription as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionForm {
    /// `email`, `sms`, or one of OneSignal's push types.
    pub r#type: String,
    /// The address, the number in E.164, or the push token.
    pub token: String,
    /// Whether it is switched on; left alone if absent.
    pub enabled: Option<bool>,
}

/// A problem with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserProblem {
    /// A JSON pointer.
    pub pointer: String,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong, and what is right.
    pub detail: String,
}

/// A user, checked.
#[derive(Debug, Clone)]
pub struct UserInput {
    /// The alias that the request names them by.
    pub name: Recipient,
    /// Aliases that they get, without the name.
    pub aliases: BTreeMap<String, String>,
    /// Labels of aliases that they lose.
    pub removed_aliases: BTreeSet<String>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Tags; an empty text removes one. `None`: no tags were mentioned.
    pub tags: Option<BTreeMap<String, String>>,
    /// Other properties.
    pub properties: BTreeMap<Property, Value>,
}

impl UserInput {
    /// Checks a form. `label` and `id` name the user; `declared` are the app's alias labels, if it has declared any.
    ///
    /// # Errors
    /// Every problem, each with a pointer to its field.
    pub fn check(
        (label, id): (&str, &str),
        form: UserForm,
        declared: Option<&[String]>,
    ) -> Result<Self, Vec<UserProblem>> {
        let mut check = Check { problems: Vec::new(), declared };
        let name = check.name(label, id);
        if label == "onesignal_id" && !(form.aliases.is_empty() && form.subscriptions.is_empty()) {
            let detail = "someone who is named by `onesignal_id` can only get tags and properties; name them by `external_id`";
            check.problem(String::new(), "bad_user", detail);
        }
        let (aliases, removed_aliases) = check.aliases(form.aliases, label);
        let subscriptions = check.subscriptions(form.subscriptions);
        let tags = form.tags.map(|tags| check.tags(tags));
        let mut properties = check.properties(form.language, form.time_zone, form.country);
        if let Some(location) = check.location(form.latitude, form.longitude) {
            properties.insert(Property::Location, location);
        }
        match name {
            Some(name) if check.problems.is_empty() => {
                Ok(Self { name, aliases, removed_aliases, subscriptions, tags, properties })
            }
            Some(_) | None => Err(check.problems),
        }
    }

    /// Whether it names more than properties of a user, so that it can create one.
    pub fn names_identity(&self) -> bool {
        !self.aliases.is_empty() || !self.subscriptions.is_empty()
    }

    /// The parts to write. `hash` is a keyed hash: tokens are personal data. A user who may be created also gets the
    /// alias that names them.
    pub fn changes(&self, creates: bool, hash: impl Fn(&str) -> String) -> Changes {
        let mut parts: BTreeMap<PartKey, Value> = BTreeMap::new();
        if creates && self.name.label != RecipientLabel::OnesignalId {
            parts.insert(PartKey::Alias(self.name.label.as_str().to_owned()), json!(self.name.id));
        }
        parts.extend(self.aliases.iter().map(|(label, id)| (PartKey::Alias(label.clone()), json!(id))));
        parts.extend(self.removed_aliases.iter().map(|label| (PartKey::Alias(label.clone()), Value::Null)));
        for subscription in &self.subscriptions {
            let key = hash(&format!("{}\0{}", subscription.kind, subscription.token));
            parts.insert(PartKey::Subscription(key), json!(subscription));
        }
        for (name, value) in self.tags.iter().flatten() {
            parts.insert(PartKey::Tag(name.clone()), json!(value));
        }
        parts.extend(
            self.properties.iter().map(|(property, value)| (PartKey::Property(*property), value.clone())),
        );
        Changes(parts)
    }
}

struct Check<'a> {
    problems: Vec<UserProblem>,
    declared: Option<&'a [String]>,
}

impl Check<'_> {
    fn problem(&mut self, pointer: String, code: &'static str, detail: impl std::fmt::Display) {
        self.problems.push(UserProblem { pointer, code, detail: detail.to_string() });
    }

    fn name(&mut self, label: &str, id: &str) -> Option<Recipient> {
        match identity::name(label, id) {
            Ok(name) if self.is_declared(label, "") => Some(name),
            Ok(_) => None,
            Err(error) => {
                self.problem(String::new(), "bad_user", error);
                None
            }
        }
    }

    /// Whether an app's people may have this label; reports it otherwise.
    fn is_declared(&mut self, label: &str, pointer: &str) -> bool {
        let Some(declared) = self.declared else { return true };
        let is_own = !matches!(RecipientLabel::from_label(label), RecipientLabel::Alias(_));
        if is_own || declared.iter().any(|known| known == label) {
            return true;
        }
        let meant = crate::domain::labels::meant(label, declared.iter().map(String::as_str));
        let hint = meant.map_or_else(
            || "declare it in the app's `alias_labels` first".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        let detail = format!("the app's people have no alias label `{label}`; {hint}");
        self.problem(pointer.to_owned(), "unknown_label", detail);
        false
    }

    fn aliases(
        &mut self,
        form: BTreeMap<String, Option<String>>,
        name: &str,
    ) -> (BTreeMap<String, String>, BTreeSet<String>) {
        let (mut aliases, mut removed) = (BTreeMap::new(), BTreeSet::new());
        if form.len() > MAX_ALIASES {
            self.problem("/aliases".into(), "too_many", format!("a user has at most {MAX_ALIASES} aliases"));
        }
        for (label, id) in form {
            let pointer = format!("/aliases/{}", escape(&label));
            if label == name {
                let detail =
                    format!("the user is named by `{label}`; it can't be changed in the same request");
                self.problem(pointer, "bad_alias", detail);
                continue;
            }
            if !self.is_declared(&label, &pointer) {
                continue;
            }
            match id {
                None if label == "onesignal_id" => {
                    self.problem(pointer, "bad_alias", identity::IdentityError::Assigned);
                }
                None => {
                    removed.insert(label);
                }
                Some(id) => match identity::alias(&label, &id) {
                    Ok(alias) => {
                        aliases.insert(label, alias.id);
                    }
                    Err(error) => self.problem(pointer, "bad_alias", error),
                },
            }
        }
        (aliases, removed)
    }

    fn subscriptions(&mut self, forms: Vec<SubscriptionForm>) -> Vec<Subscription> {
        if forms.len() > MAX_SUBSCRIPTIONS {
            let detail = format!(
                "a user has at most {MAX_SUBSCRIPTIONS} subscriptions: OneSignal would drop the oldest"
            );
            self.problem("/subscriptions".into(), "too_many", detail);
        }
        let mut subscriptions: Vec<Subscription> = Vec::new();
        for (place, form) in forms.into_iter().enumerate() {
            let pointer = format!("/subscriptions/{place}");
            match subscription(&form) {
                Ok(read)
                    if subscriptions
                        .iter()
                        .any(|other| other.kind == read.kind && other.token == read.token) =>
                {
                    self.problem(pointer, "duplicate", "this subscription is listed twice");
                }
                Ok(read) => subscriptions.push(read),
                Err((field, detail)) => {
                    self.problem(format!("{pointer}/{field}"), "bad_subscription", detail);
                }
            }
        }
        subscriptions
    }

    fn tags(&mut self, form: BTreeMap<String, Value>) -> BTreeMap<String, String> {
        let mut read = BTreeMap::new();
        for (name, value) in form {
            let text = tag::check_name(&name).and_then(|()| tag::text_of(&value));
            match text {
                Ok(text) => {
                    read.insert(name, text);
                }
                Err(error) => self.problem(format!("/tags/{}", escape(&name)), "bad_tag", error),
            }
        }
        read
    }

    fn properties(
        &mut self,
        language: Option<String>,
        time_zone: Option<String>,
        country: Option<String>,
    ) -> BTreeMap<Property, Value> {
        let mut properties = BTreeMap::new();
        if let Some(language) = language {
            if let Some(read) = locale::understood(&language) {
                properties.insert(Property::Language, json!(read));
            } else {
                let detail = format!("`{language}` is not a language: write `de`, `pt-BR` or `zh-Hans`");
                self.problem("/language".into(), "bad_language", detail);
            }
        }
        if let Some(zone) = time_zone {
            if zone.parse::<Tz>().is_ok() {
                properties.insert(Property::TimeZone, json!(zone));
            } else {
                let detail =
                    format!("`{zone}` is not a time zone: write an IANA name such as `Europe/Berlin`");
                self.problem("/time_zone".into(), "bad_time_zone", detail);
            }
        }
        if let Some(country) = country {
            let code = country.to_ascii_uppercase();
            if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                properties.insert(Property::Country, json!(code));
            } else {
                let detail = format!("`{country}` is not a country: write its two letters, such as `DE`");
                self.problem("/country".into(), "bad_country", detail);
            }
        }
        properties
    }

    fn location(&mut self, latitude: Option<f64>, longitude: Option<f64>) -> Option<Value> {
        let (latitude, longitude) = match (latitude, longitude) {
            (None, None) => return None,
            (Some(latitude), Some(longitude)) => (latitude, longitude),
            (Some(_), None) => {
                self.problem("/longitude".into(), "required", "`latitude` needs `longitude`");
                return None;
            }
            (None, Some(_)) => {
                self.problem("/latitude".into(), "required", "`longitude` needs `latitude`");
                return None;
            }
        };
        let mut is_fine = true;
        for (name, degrees, max) in [("latitude", latitude, 90.0), ("longitude", longitude, 180.0)] {
            if !(-max..=max).contains(&degrees) {
                self.problem(
                    format!("/{name}"),
                    "bad_location",
                    format!("`{name}` is between -{max} and {max}"),
                );
                is_fine = false;
            }
        }
        is_fine.then(|| json!([latitude, longitude]))
    }
}

/// A subscription, or the field that is wrong and why.
fn subscription(form: &SubscriptionForm) -> Result<Subscription, (&'static str, String)> {
    let checked = |label: &str| {
        Recipient::parse(label, form.token.trim())
            .map(|read| read.id)
            .map_err(|error| ("token", error.to_string()))
    };
    let (kind, token) = match form.r#type.to_ascii_lowercase().as_str() {
        "email" => ("Email", checked("email")?),
        "sms" | "phone" => ("SMS", checked("phone")?),
        other => {
            let kind = PUSH_TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(other));
            let kind = kind.ok_or_else(|| {
                let detail =
                    format!("`{}` is not `email`, `sms` or one of {}", form.r#type, PUSH_TYPES.join(", "));
                ("type", detail)
            })?;
            let token = form.token.trim();
            if token.is_empty() || token.chars().any(char::is_control) || token.len() > 4_096 {
                return Err(("token", "a push token is a text of 1 to 4096 bytes".to_owned()));
            }
            (kind, token.to_owned())
        }
    };
    Ok(Subscription { kind: kind.to_owned(), token, enabled: form.enabled })
}

/// A name as one step of a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
