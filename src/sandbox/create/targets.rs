//! Whom a Create message is for.

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::access::uuid;
use super::super::json::{Object, field, says_something};
use super::super::message::{Channel, Reached, Recipient};
use super::super::options::SandboxOptions;
use super::super::people::{People, Person, Reach};
use super::super::refusal::Refusal;
use super::super::state::State;
use super::super::{filters, segments};
use crate::domain::clock::Timestamp;

const NOBODY: &str =
    "You must include which players, segments, or tags you wish to send this notification to.";
/// The ways to name recipients; the second name of a way is an older spelling.
const METHODS: [&[&str]; 6] = [
    &["include_aliases", "include_external_user_ids"],
    &["include_subscription_ids", "include_player_ids"],
    &["email_to", "include_email_tokens"],
    &["include_phone_numbers"],
    &["included_segments"],
    &["filters"],
];

/// The recipients that a request names.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sandbox) enum Targets {
    /// People by alias label and id.
    Aliases(Vec<(String, Vec<String>)>),
    /// Devices and addresses by subscription id.
    Subscriptions(Vec<String>),
    Emails(Vec<String>),
    Phones(Vec<String>),
    /// All users in one of the first segments and in none of the second.
    Segments {
        included: Vec<String>,
        excluded: Vec<String>,
    },
    Filters(Vec<Value>),
}

/// The resolved targets.
#[derive(Debug, PartialEq)]
pub(in crate::sandbox) struct Resolved {
    pub reached: Reached,
    pub count: usize,
    /// The `errors` object of a partial success.
    pub errors: Option<Value>,
}

impl Targets {
    /// Reads and checks the targets of a request.
    pub(in crate::sandbox) fn parse(request: &Object) -> Result<Self, Refusal> {
        let used: Vec<&str> = METHODS
            .iter()
            .filter_map(|names| names.iter().copied().find(|name| says_something(request, name)))
            .collect();
        let method = match used.as_slice() {
            [] => return Err(Refusal::bad(NOBODY)),
            [method] => *method,
            several => return Err(Refusal::bad(mixed(several))),
        };
        if says_something(request, "excluded_segments") && method != "included_segments" {
            return Err(Refusal::bad(mixed(&[method, "excluded_segments"])));
        }
        match method {
            "include_aliases" => aliases(request),
            "include_external_user_ids" => {
                Ok(Self::Aliases(vec![("external_id".to_owned(), texts(request, method)?)]))
            }
            "include_subscription_ids" | "include_player_ids" => subscriptions(request, method),
            "email_to" | "include_email_tokens" => emails(request, method),
            "include_phone_numbers" => phones(request, method),
            "included_segments" => Ok(Self::Segments {
                included: texts(request, method)?,
                excluded: match field(request, "excluded_segments") {
                    None => Vec::new(),
                    Some(_) => texts(request, "excluded_segments")?,
                },
            }),
            _ => by_filters(request),
        }
    }

    /// How many there are in the request.
    pub(in crate::sandbox) fn count(&self) -> usize {
        match self {
            Self::Aliases(labels) => labels.iter().map(|(_, ids)| ids.len()).sum(),
            Self::Subscriptions(ids) | Self::Emails(ids) | Self::Phones(ids) => ids.len(),
            Self::Segments { .. } | Self::Filters(_) => 0,
        }
    }

    /// The channel that the way of naming decides by itself.
    pub(in crate::sandbox) fn channel(&self) -> Option<Channel> {
        match self {
            Self::Emails(_) => Some(Channel::Email),
            Self::Phones(_) => Some(Channel::Sms),
            Self::Aliases(_) | Self::Subscriptions(_) | Self::Segments { .. } | Self::Filters(_) => None,
        }
    }

    /// Every target with its label, in the request's order.
    pub(in crate::sandbox) fn each(&self) -> Box<dyn Iterator<Item = (&str, &str)> + '_> {
        match self {
            Self::Aliases(labels) => Box::new(
                labels
                    .iter()
                    .flat_map(|(label, ids)| ids.iter().map(move |id| (label.as_str(), id.as_str()))),
            ),
            Self::Subscriptions(ids) => Box::new(ids.iter().map(|id| ("subscription_id", id.as_str()))),
            Self::Emails(ids) => Box::new(ids.iter().map(|id| ("email", id.as_str()))),
            Self::Phones(ids) => Box::new(ids.iter().map(|id| ("phone_number", id.as_str()))),
            Self::Segments { .. } | Self::Filters(_) => Box::new(std::iter::empty()),
        }
    }

    /// Whether OneSignal finds the recipients by itself.
    pub(in crate::sandbox) fn is_audience(&self) -> bool {
        matches!(self, Self::Segments { .. } | Self::Filters(_))
    }

    /// Resolves the recipients on `channel`.
    pub(in crate::sandbox) fn resolve(
        &self,
        channel: Channel,
        also_disabled: bool,
        state: &State,
        app: Uuid,
        options: &SandboxOptions,
        now: Timestamp,
    ) -> Resolved {
        let people = state.people(app);
        if self.is_audience() {
            let members = Members { targets: self, state, app, now };
            return audience(channel, people, options, &members);
        }
        let mut reached = Vec::with_capacity(self.count());
        let mut unsubscribed: Vec<(&str, &str)> = Vec::new();
        for (label, id) in self.each() {
            match people.reach(label, id, channel, also_disabled, options.strict_users) {
                Reach::Reached(recipient) => reached.push(recipient),
                Reach::Unsubscribed => unsubscribed.push((label, id)),
                Reach::Unknown => {}
            }
        }
        let count = reached.len();
        let everybody = count == self.count() && reached.iter().all(|recipient| recipient.person.is_none());
        let reached = if everybody { Reached::EveryTarget } else { Reached::Only(reached) };
        Resolved { reached, count, errors: self.errors(&unsubscribed) }
    }

    fn errors(&self, unsubscribed: &[(&str, &str)]) -> Option<Value> {
        if unsubscribed.is_empty() {
            return None;
        }
        let ids: Vec<&str> = unsubscribed.iter().map(|(_, id)| *id).collect();
        Some(match self {
            Self::Aliases(labels) => {
                let of = |wanted: &str| -> Vec<&str> {
                    unsubscribed.iter().filter(|(label, _)| *label == wanted).map(|(_, id)| *id).collect()
                };
                let by_label: Object = labels
                    .iter()
                    .map(|(label, _)| (label.clone(), json!(of(label))))
                    .filter(|(_, ids)| ids.as_array().is_some_and(|ids| !ids.is_empty()))
                    .collect();
                json!({ "invalid_aliases": by_label })
            }
            Self::Subscriptions(_) => json!({ "invalid_player_ids": ids }),
            Self::Emails(_) => json!({ "invalid_email_tokens": ids }),
            Self::Phones(_) => json!({ "invalid_phone_numbers": ids }),
            Self::Segments { .. } | Self::Filters(_) => return None,
        })
    }
}

/// Decides which explicit users belong to an audience.
struct Members<'a> {
    targets: &'a Targets,
    state: &'a State,
    app: Uuid,
    now: Timestamp,
}

impl Members<'_> {
    fn include(&self, person: &Person) -> bool {
        match self.targets {
            Targets::Filters(wanted) => filters::matches(wanted, person, self.now),
            Targets::Segments { included, excluded } => {
                included.iter().any(|name| self.has(name, person, true))
                    && !excluded.iter().any(|name| self.has(name, person, false))
            }
            Targets::Aliases(_) | Targets::Subscriptions(_) | Targets::Emails(_) | Targets::Phones(_) => {
                false
            }
        }
    }

    /// Whether somebody is in a segment. Everybody is in OneSignal's own, and in one that was made in a dashboard which
    /// the sandbox doesn't have; nobody is excluded by such a one.
    fn has(&self, name: &str, person: &Person, unknown: bool) -> bool {
        let mut made =
            self.state.segments().filter(|segment| segment.app_id == self.app && segment.name == name);
        match made.next() {
            Some(segment) => filters::matches(&segment.filters, person, self.now),
            None => segments::is_default(name) || unknown,
        }
    }
}

/// Who is in segments, or meets filters: those who were made known and are subscribed, else the audience of the
/// options.
fn audience(channel: Channel, people: &People, options: &SandboxOptions, members: &Members<'_>) -> Resolved {
    let mut reached = Vec::new();
    if people.is_empty() && !options.strict_users {
        reached.extend(options.audience.iter().map(|id| Recipient::made_up("external_id", id)));
    }
    for person in people.all().filter(|person| members.include(person)) {
        let id = person.external_id.clone().or_else(|| person.onesignal_id.map(|id| id.to_string()));
        let label = if person.external_id.is_some() { "external_id" } else { "onesignal_id" };
        let reach = people.reach(label, &id.unwrap_or_default(), channel, false, true);
        if let Reach::Reached(recipient) = reach {
            reached.push(recipient);
        }
    }
    Resolved { count: reached.len(), reached: Reached::Only(reached), errors: None }
}

fn mixed(methods: &[&str]) -> String {
    format!("You may only use one targeting method at a time, but the request has {}.", methods.join(", "))
}

fn aliases(request: &Object) -> Result<Targets, Refusal> {
    let wrong =
        || Refusal::bad("include_aliases must be an object of alias labels, each with a list of ids.");
    let labels = field(request, "include_aliases").and_then(Value::as_object).ok_or_else(wrong)?;
    let mut named = Vec::with_capacity(labels.len());
    for label in labels.keys() {
        let ids = texts(labels, label).map_err(|_| wrong())?;
        if label == "onesignal_id" && ids.iter().any(|id| uuid(id).is_none()) {
            return Err(Refusal::bad("include_aliases: an onesignal_id must be a valid UUID."));
        }
        named.push((label.clone(), ids));
    }
    let targets = Targets::Aliases(named);
    if targets.count() == 0 { Err(Refusal::bad(NOBODY)) } else { Ok(targets) }
}

fn subscriptions(request: &Object, name: &str) -> Result<Targets, Refusal> {
    let ids = texts(request, name)?;
    match ids.iter().find(|id| uuid(id).is_none()) {
        None => Ok(Targets::Subscriptions(ids)),
        Some(id) => {
            Err(Refusal::bad(format!("Incorrect subscription_id format in {name} (not a valid UUID): {id}")))
        }
    }
}

fn emails(request: &Object, name: &str) -> Result<Targets, Refusal> {
    let looks_right = |address: &str| {
        let parts = address.split_once('@');
        parts.is_some_and(|(local, host)| !local.is_empty() && !host.is_empty() && !host.contains('@'))
    };
    let addresses = texts(request, name)?;
    match addresses.iter().find(|address| !looks_right(address) || address.contains(char::is_whitespace)) {
        None => Ok(Targets::Emails(addresses)),
        Some(address) => Err(Refusal::bad(format!("Incorrect email format in {name}: {address}"))),
    }
}

fn phones(request: &Object, name: &str) -> Result<Targets, Refusal> {
    let is_e164 = |number: &str| {
        number.strip_prefix('+').is_some_and(|digits| {
            (7..=15).contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let numbers = texts(request, name)?;
    match numbers.iter().find(|number| !is_e164(number)) {
        None => Ok(Targets::Phones(numbers)),
        Some(number) => {
            Err(Refusal::bad(format!("Incorrect phone number format in {name} (not E.164): {number}")))
        }
    }
}

fn by_filters(request: &Object) -> Result<Targets, Refusal> {
    let wanted = field(request, "filters").unwrap_or(&Value::Null);
    filters::check(wanted).map(Targets::Filters).map_err(Refusal::bad)
}

fn texts(object: &Object, name: &str) -> Result<Vec<String>, Refusal> {
    let wrong = || Refusal::bad(format!("{name} must be a list of texts."));
    let items = object.get(name).and_then(Value::as_array).ok_or_else(wrong)?;
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}
