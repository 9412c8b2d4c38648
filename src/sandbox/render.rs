//! What each recipient sees: the template's fields, overridden by the request's, with OneSignal's forgiving Liquid.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::create::targets::Targets;
use super::json::{Object, field, says_something};
use super::message::{Channel, Message, Reached, ReceivedMessage, ReceivedRecipient, Recipient};
use super::options::SandboxOptions;
use super::people::{Kind, made_up_uuid};
use crate::domain::budget::Budget;
use crate::templating::liquid::{Strictness, Template as Liquid};

/// The fields that OneSignal renders with Liquid.
const PUSH_FIELDS: [&str; 13] = [
    "headings",
    "subtitle",
    "contents",
    "url",
    "web_url",
    "app_url",
    "big_picture",
    "chrome_web_image",
    "large_icon",
    "chrome_web_icon",
    "firefox_icon",
    "global_image",
    "chrome_web_badge",
];
const EMAIL_FIELDS: [&str; 4] = ["email_subject", "email_preheader", "email_reply_to_address", "email_body"];
const SMS_FIELDS: [&str; 1] = ["contents"];

/// A message with what all its recipients saw.
pub(super) fn received(message: &Message, options: &SandboxOptions) -> ReceivedMessage {
    received_by(message, options, usize::MAX)
}

/// The same for the first `max` recipients: a page needs no more.
pub(super) fn received_by(message: &Message, options: &SandboxOptions, max: usize) -> ReceivedMessage {
    let request = message.request();
    let rendering = Rendering::of(message, &request, options);
    let recipients = recipients(message, &request, max).iter().map(|to| rendering.for_one(to)).collect();
    ReceivedMessage {
        id: message.id,
        app_id: message.app_id,
        idempotency_key: message.idempotency_key,
        channel: message.channel,
        template_id: message.template.as_ref().map(|template| template.id),
        template_name: message.template.as_ref().map(|template| template.name.clone()),
        received_at: message.received_at,
        send_after: message.send_after,
        canceled: message.canceled,
        recipients,
        notes: message.notes.clone(),
        request: Value::Object(request),
    }
}

/// Whom a message reached, the first `max` of them.
pub(super) fn recipients(message: &Message, request: &Object, max: usize) -> Vec<Recipient> {
    match &message.reached {
        Reached::Only(recipients) => recipients.iter().take(max).cloned().collect(),
        Reached::EveryTarget => {
            let Ok(targets) = Targets::parse(request) else { return Vec::new() };
            targets.each().take(max).map(|(label, id)| Recipient::made_up(label, id)).collect()
        }
    }
}

/// A field's text: one for all, or one a language.
enum Source {
    Parsed(Result<Liquid, String>),
    ByLanguage(Vec<(String, Result<Liquid, String>)>),
}

/// A message, parsed once for all its recipients.
struct Rendering {
    channel: Channel,
    fields: Vec<(&'static str, Source)>,
    message: Value,
    template: Value,
    app: Value,
}

impl Rendering {
    fn of(message: &Message, request: &Object, options: &SandboxOptions) -> Self {
        let names: &[&'static str] = match message.channel {
            Channel::Push => &PUSH_FIELDS,
            Channel::Email => &EMAIL_FIELDS,
            Channel::Sms => &SMS_FIELDS,
        };
        let content = message.template.as_ref().map(|template| &template.content);
        let in_force = |name: &str| {
            let own = field(request, name).filter(|_| says_something(request, name));
            own.or_else(|| content.and_then(|content| field(content, name)))
        };
        let fields = names.iter().filter_map(|name| Some((*name, source(in_force(name)?)?))).collect();
        // Without a template OneSignal has no use for custom_data.
        let data = request.get("custom_data").filter(|_| message.template.is_some());
        let app = options.apps.iter().find(|app| app.id == message.app_id);
        Self {
            channel: message.channel,
            fields,
            message: json!({"id": message.id, "custom_data": data.cloned().unwrap_or_else(|| json!({}))}),
            template: message
                .template
                .as_ref()
                .map_or(Value::Null, |template| json!({"id": template.id, "name": template.name})),
            app: json!({"id": message.app_id, "name": app.map(|app| app.name.clone())}),
        }
    }

    fn for_one(&self, recipient: &Recipient) -> ReceivedRecipient {
        let (user, subscription) = (user(recipient, self.channel), subscription(recipient, self.channel));
        let globals = [
            ("message", &self.message),
            ("subscription", &subscription),
            ("user", &user),
            ("template", &self.template),
            ("app", &self.app),
        ];
        let mut seen = ReceivedRecipient {
            external_id: recipient.external_id().map(str::to_owned),
            label: recipient.label.clone(),
            id: recipient.id.clone(),
            rendered: Map::new(),
            blanks: Vec::new(),
            broken: Vec::new(),
        };
        for (name, source) in &self.fields {
            let text = match source.in_language(user["language"].as_str()) {
                Some(liquid) => render(name, liquid, &globals, &mut seen),
                None => String::new(),
            };
            seen.rendered.insert((*name).to_owned(), Value::String(text));
        }
        seen
    }
}

/// Renders one field; broken Liquid leaves it empty, as at OneSignal, and is noted.
fn render(
    name: &str,
    liquid: &Result<Liquid, String>,
    globals: &[(&str, &Value)],
    seen: &mut ReceivedRecipient,
) -> String {
    let rendered = match liquid {
        Ok(liquid) => {
            liquid.render(globals, Strictness::Lenient, &Budget::default()).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.clone()),
    };
    match rendered {
        Ok(rendered) => {
            for blank in rendered.blanks {
                if !seen.blanks.contains(&blank) {
                    seen.blanks.push(blank);
                }
            }
            seen.broken.extend(rendered.reported.iter().map(|what| format!("{name}: {what}")));
            rendered.text
        }
        Err(error) => {
            seen.broken.push(format!("{name}: {error}"));
            String::new()
        }
    }
}

impl Source {
    /// The text in the language, else in English.
    fn in_language(&self, language: Option<&str>) -> Option<&Result<Liquid, String>> {
        match self {
            Self::Parsed(text) => Some(text),
            Self::ByLanguage(texts) => {
                let find = |wanted: &str| {
                    texts.iter().find(|(language, _)| language == wanted).map(|(_, text)| text)
                };
                language.and_then(find).or_else(|| find("en"))
            }
        }
    }
}

fn source(value: &Value) -> Option<Source> {
    let parse =
        |text: &str| Liquid::parse_as_provider(text, &Budget::default()).map_err(|error| error.to_string());
    match value {
        Value::String(text) => Some(Source::Parsed(parse(text))),
        Value::Object(texts) => {
            let texts =
                texts.iter().filter_map(|(language, text)| Some((language.clone(), parse(text.as_str()?))));
            Some(Source::ByLanguage(texts.collect()))
        }
        _ => None,
    }
}

fn user(recipient: &Recipient, channel: Channel) -> Value {
    let person = recipient.person.as_deref();
    json!({
        "external_id": recipient.external_id(),
        "onesignal_id": device(recipient, channel).onesignal_id,
        "tags": person.map(|person| person.tags.clone()).unwrap_or_default(),
        "language": person.and_then(|person| person.language.clone()).unwrap_or_else(|| "en".to_owned()),
        "timezone_id": person.and_then(|person| person.timezone_id.clone()),
    })
}

/// The device or address of a message; a fake one for an implicit user.
pub(super) struct Device {
    pub kind: Kind,
    pub subscription_id: String,
    pub onesignal_id: Uuid,
    /// The mail address, phone number or push token.
    pub address: Option<String>,
}

/// Where the recipient gets a message of the channel.
pub(super) fn device(recipient: &Recipient, channel: Channel) -> Device {
    let person = recipient.person.as_ref();
    let known = person.and_then(|person| person.subscription(channel, true));
    let named = |label: &str| (recipient.label == label).then(|| recipient.id.clone());
    let id = known
        .and_then(|subscription| subscription.id.map(|id| id.to_string()))
        .or_else(|| named("subscription_id"));
    let token = known.and_then(|subscription| subscription.token.clone());
    let address = token.or_else(|| match channel {
        Channel::Push => None,
        Channel::Email => Some(named("email").unwrap_or_else(|| made_up_email(&recipient.id))),
        Channel::Sms => Some(named("phone_number").unwrap_or_else(|| made_up_phone(&recipient.id))),
    });
    // Each channel of a person is a subscription of its own.
    let made_up =
        || made_up_uuid("subscription", &format!("{} {}", channel.name(), recipient.id)).to_string();
    Device {
        kind: known.map_or_else(|| Kind::usual(channel), |subscription| subscription.kind),
        subscription_id: id.unwrap_or_else(made_up),
        onesignal_id: person
            .and_then(|person| person.onesignal_id)
            .unwrap_or_else(|| made_up_uuid("onesignal_id", &recipient.id)),
        address,
    }
}

/// The token in an email's own unsubscribe links.
pub(super) fn unsubscribe_token(recipient: &Recipient) -> String {
    made_up_uuid("unsubscribe", &recipient.id).simple().to_string()
}

fn subscription(recipient: &Recipient, channel: Channel) -> Value {
    let device = device(recipient, channel);
    json!({
        "id": device.subscription_id,
        "external_id": recipient.external_id(),
        "email": device.address.as_ref().filter(|_| channel == Channel::Email),
        "phone_number": device.address.as_ref().filter(|_| channel == Channel::Sms),
        "unsubscribe_token": unsubscribe_token(recipient),
    })
}

fn made_up_email(id: &str) -> String {
    let local: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    format!("{local}@example.com")
}

/// A number of the range that is set aside for fiction.
fn made_up_phone(id: &str) -> String {
    format!("+1202555{:04}", 100 + made_up_uuid("phone", id).as_u128() % 100)
}
