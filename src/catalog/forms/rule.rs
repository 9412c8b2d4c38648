//! The written form of a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::NaiveTime;
use serde::{Deserialize, Serialize};

use super::FormProblem;
use super::digest::DigestForm;
use crate::domain::channel::Priority;
use crate::domain::event::is_pattern;
use crate::domain::rule::{Action, Audience, Canary, Definition, Filter, Rule, Throttle};
use crate::domain::tag::{self, TagError};
use crate::domain::timing::{Hours, ProviderTiming, Timing, Zone};

/// A rule: exactly one of `template`, `tag`, `track` and `cancel`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleForm {
    /// The event type, or a family such as `order.*`.
    pub event: String,
    /// Description.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Condition: an expression such as `data.total > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Send this template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Send to these segments instead of the event's recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// Exclude recipients in these segments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_segments: Vec<String>,
    /// Send to everyone who matches these filters instead; `value_from` takes a value from the event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub filters: Vec<Filter>,
    /// Send another version to a share of the recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryForm>,
    /// Set these tags: names with expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tag: BTreeMap<String, String>,
    /// Send this custom event, which can trigger Journeys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<TrackForm>,
    /// Cancel pending deliveries with the cancellation key that this expression returns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<String>,
    /// The app; the default app if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// `urgent`, `normal` or `bulk`.
    #[serde(default = "normal")]
    #[schema(value_type = String)]
    pub priority: Priority,
    /// Whether it is enabled.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Delay after the event (or after `at`), such as `2h`.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Duration::is_zero")]
    #[schema(value_type = String)]
    pub delay: Duration,
    /// Relative to the time that this expression returns instead of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Duration before `at`.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Duration::is_zero")]
    #[schema(value_type = String)]
    pub before: Duration,
    /// Send only within these hours: `{from, until, days}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub window: Option<Hours>,
    /// Never send within these hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub quiet: Option<Hours>,
    /// The time zone of these hours, such as `Europe/Berlin`; UTC if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether to use the recipient's time zone if known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recipient_zone: bool,
    /// OneSignal's own timing: `timezone` or `last-active`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver: Option<String>,
    /// The time of day for `deliver = "timezone"`, such as `9:00AM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_of_day: Option<String>,
    /// Expires this long after it was due.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub expires_in: Option<Duration>,
    /// Maximum frequency per recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleForm>,
    /// Combine events into one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestForm>,
}

/// A share of the recipients that gets another version.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryForm {
    /// The version's number.
    pub version: i32,
    /// Percentage of the recipients.
    pub percent: u8,
}

/// A custom event.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrackForm {
    /// Its name.
    pub name: String,
    /// Its properties: names with expressions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
}

/// A maximum frequency per recipient.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ThrottleForm {
    /// Maximum number of messages …
    pub max: u32,
    /// … within each period of this length, such as `1h`.
    #[serde(with = "humantime_serde")]
    #[schema(value_type = String)]
    pub within: Duration,
}

fn normal() -> Priority {
    Priority::Normal
}

fn yes() -> bool {
    true
}

impl RuleForm {
    /// The form of a rule; `app` is the app's name.
    pub fn of(rule: &Rule, app: Option<String>) -> Self {
        let Definition { description, condition, action, priority, timing, throttle, digest, .. } =
            rule.definition.clone();
        let mut form = Self {
            event: rule.event_type.clone(),
            description,
            when: condition,
            template: None,
            segments: Vec::new(),
            excluded_segments: Vec::new(),
            filters: Vec::new(),
            canary: None,
            tag: BTreeMap::new(),
            track: None,
            cancel: None,
            app,
            priority,
            enabled: rule.is_enabled,
            delay: seconds(timing.delay_s),
            at: timing.at,
            before: seconds(timing.before_s),
            window: timing.window,
            quiet: timing.quiet,
            zone: (timing.zone.name != chrono_tz::Tz::UTC).then(|| timing.zone.name.name().to_owned()),
            recipient_zone: timing.zone.of_recipient,
            deliver: None,
            time_of_day: None,
            expires_in: rule.expires_in(),
            throttle: throttle.map(|t| ThrottleForm { max: t.max, within: seconds(t.within_s) }),
            digest: digest.map(DigestForm::of),
        };
        match timing.provider {
            None => {}
            Some(ProviderTiming::LastActive) => form.deliver = Some("last-active".to_owned()),
            Some(ProviderTiming::Timezone { time_of_day }) => {
                form.deliver = Some("timezone".to_owned());
                form.time_of_day = time_of_day;
            }
        }
        form.set_action(action);
        form
    }

    fn set_action(&mut self, action: Action) {
        match action {
            Action::Send { template, audience, canary } => {
                self.template = Some(template);
                self.canary = canary.map(|c| CanaryForm { version: c.version, percent: c.percent });
                match audience {
                    Audience::EventRecipients => {}
                    Audience::Segments { included, excluded } => {
                        (self.segments, self.excluded_segments) = (included, excluded);
                    }
                    Audience::Filters(filters) => self.filters = filters,
                }
            }
            Action::Tag(tags) => self.tag = tags,
            Action::Track { name, properties } => self.track = Some(TrackForm { name, properties }),
            Action::Cancel(key) => self.cancel = Some(key),
        }
    }

    /// Parses the rule (its app is not resolved yet), with all problems.
    pub fn read(self) -> (Option<Definition>, Vec<FormProblem>) {
        let mut problems = Vec::new();
        if !is_pattern(&self.event) {
            let message = format!("`{}` is not a valid event type", self.event);
            problems.push(
                FormProblem::new("bad_name", "event", message)
                    .hint("write order.shipped, or order.* for a family"),
            );
        }
        let action = self.read_action(&mut problems);
        let timing = self.read_timing(&mut problems);
        let throttle = self.throttle.map(|form| {
            let within_s = whole("throttle", form.within, &mut problems);
            if form.within > LONGEST_THROTTLE {
                let message = "a throttle can't be longer than 31 days";
                problems.push(
                    FormProblem::new("bad_throttle", "throttle", message).hint("use a shorter duration"),
                );
            }
            if form.max == 0 || within_s == 0 {
                let message = "a throttle must allow at least one message, within at least one second";
                problems.push(
                    FormProblem::new("bad_throttle", "throttle", message).hint("disable the rule instead"),
                );
            }
            Throttle { max: form.max, within_s }
        });
        let digest = self.digest.as_ref().map(|form| form.read(&self, &mut problems));
        let expires_in_s = self.expires_in.map(|life| whole("expires_in", life, &mut problems));
        let definition = action.filter(|_| problems.is_empty()).map(|action| Definition {
            description: self.description,
            app: None,
            condition: self.when,
            action,
            priority: self.priority,
            timing,
            expires_in_s,
            throttle,
            digest,
        });
        (definition, problems)
    }

    fn read_action(&self, problems: &mut Vec<FormProblem>) -> Option<Action> {
        let given =
            [self.template.is_some(), !self.tag.is_empty(), self.track.is_some(), self.cancel.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let message = "a rule must have exactly one action";
            problems.push(
                FormProblem::new("one_action", "template", message)
                    .hint("use one of template, tag, track and cancel"),
            );
            return None;
        }
        let audience = self.read_audience(problems);
        if self.template.is_none() && (audience != Audience::EventRecipients || self.canary.is_some()) {
            let message = "segments, filters and canary require a rule that sends a template";
            problems.push(FormProblem::new("no_template", "template", message));
        }
        if let Some(template) = &self.template {
            let canary = self.canary.map(|c| Canary { version: c.version, percent: c.percent });
            if canary.is_some_and(|c| c.percent > 100 || c.version < 1) {
                let message = "a canary must have a version and 0 to 100 percent";
                problems.push(FormProblem::new("bad_canary", "canary", message));
            }
            if canary.is_some() && audience != Audience::EventRecipients {
                let message = "segments and filters can't have a canary: OneSignal decides who is in them";
                problems.push(FormProblem::new("bad_canary", "canary", message).hint("remove the canary"));
            }
            return Some(Action::Send { template: template.clone(), audience, canary });
        }
        if let Some(track) = &self.track {
            if track.name.is_empty() || track.name.chars().count() > 128 {
                let message = "a custom event's name must have 1 to 128 characters";
                problems.push(FormProblem::new("bad_track", "track", message));
            }
            return Some(Action::Track { name: track.name.clone(), properties: track.properties.clone() });
        }
        if let Some(key) = &self.cancel {
            return Some(Action::Cancel(key.clone()));
        }
        for error in self.tag.keys().filter_map(|name| tag::check_name(name).err()) {
            let code = if matches!(error, TagError::Reserved(_)) { "reserved_tag" } else { "bad_tag" };
            problems.push(FormProblem::new(code, "tag", error.to_string()));
        }
        Some(Action::Tag(self.tag.clone()))
    }

    fn read_audience(&self, problems: &mut Vec<FormProblem>) -> Audience {
        let (segments, filters) = (!self.segments.is_empty(), !self.filters.is_empty());
        if filters && (segments || !self.excluded_segments.is_empty()) {
            let message = "segments and filters can't be mixed: OneSignal would send to the whole segment";
            problems.push(FormProblem::new("mixed_audience", "filters", message).hint("keep one of them"));
        }
        if !segments && !self.excluded_segments.is_empty() {
            let message = "excluded_segments without segments reaches no one";
            problems.push(
                FormProblem::new("bad_audience", "excluded_segments", message)
                    .hint("add the segments to reach"),
            );
        }
        if self.filters.len() > 200 {
            let message = "OneSignal accepts at most 200 filters";
            problems.push(FormProblem::new("bad_audience", "filters", message));
        }
        let is_bad = |filter: &&Filter| match (&filter.operator, &filter.field) {
            (Some(operator), None) => !matches!(operator.as_str(), "AND" | "OR"),
            (None, Some(_)) => filter.value.is_some() && filter.value_from.is_some(),
            (Some(_), Some(_)) | (None, None) => true,
        };
        if self.filters.iter().any(|filter| is_bad(&filter)) {
            let message = "a filter must be an operator (AND, OR), or a field with a value or a value_from";
            problems.push(FormProblem::new("bad_audience", "filters", message));
        }
        if filters {
            Audience::Filters(self.filters.clone())
        } else if segments {
            let (included, excluded) = (self.segments.clone(), self.excluded_segments.clone());
            Audience::Segments { included, excluded }
        } else {
            Audience::EventRecipients
        }
    }

    fn read_timing(&self, problems: &mut Vec<FormProblem>) -> Timing {
        let mut zone = Zone { of_recipient: self.recipient_zone, ..Zone::default() };
        if let Some(name) = &self.zone {
            if let Ok(found) = name.parse() {
                zone.name = found;
            } else {
                let message = format!("there is no time zone `{name}`");
                problems.push(
                    FormProblem::new("bad_zone", "zone", message)
                        .hint("use an IANA name such as Europe/Berlin"),
                );
            }
        }
        let provider = match self.deliver.as_deref() {
            None => None,
            Some("timezone") => Some(ProviderTiming::Timezone { time_of_day: self.time_of_day.clone() }),
            Some("last-active") => Some(ProviderTiming::LastActive),
            Some(other) => {
                let message = format!("`{other}` is not a delivery option");
                problems.push(
                    FormProblem::new("bad_deliver", "deliver", message).hint("use timezone or last-active"),
                );
                None
            }
        };
        if self.time_of_day.is_some() && !matches!(provider, Some(ProviderTiming::Timezone { .. })) {
            let message = "time_of_day requires `deliver = \"timezone\"`";
            problems.push(FormProblem::new("bad_deliver", "time_of_day", message));
        }
        for time in self.time_of_day.iter().filter(|time| !is_time_of_day(time)) {
            let message = format!("`{time}` is not a time of day");
            problems.push(
                FormProblem::new("bad_deliver", "time_of_day", message).hint("write it as 9:00AM or 21:45"),
            );
        }
        if self.at.is_none() && !self.before.is_zero() {
            let message = "`before` requires `at`";
            problems.push(
                FormProblem::new("bad_timing", "before", message)
                    .hint("set `at` to a time in the event, such as data.starts_at"),
            );
        }
        let timing = Timing {
            delay_s: whole("delay", self.delay, problems),
            at: self.at.clone(),
            before_s: whole("before", self.before, problems),
            window: self.window.clone(),
            quiet: self.quiet.clone(),
            zone,
            provider,
        };
        let some_day = chrono::DateTime::UNIX_EPOCH;
        if timing.allowed(some_day, timing.zone.name).is_none() {
            let message = "the window and the quiet hours leave no time to send";
            problems.push(FormProblem::new("bad_timing", "quiet", message).hint("widen the window"));
        }
        timing
    }
}

/// The longest period of a throttle: counters are kept slightly longer.
const LONGEST_THROTTLE: Duration = Duration::from_hours(31 * 24);

/// Whether OneSignal accepts it: `9:00AM`, `21:45` or `09:45:30`.
fn is_time_of_day(text: &str) -> bool {
    ["%I:%M%p", "%H:%M", "%H:%M:%S"].iter().any(|form| NaiveTime::parse_from_str(text, form).is_ok())
}

pub(super) fn seconds(value: u32) -> Duration {
    Duration::from_secs(value.into())
}

/// A duration in whole seconds, at most a year.
pub(super) fn whole(field: &'static str, value: Duration, problems: &mut Vec<FormProblem>) -> u32 {
    const YEAR_S: u64 = 366 * 24 * 3_600;
    if value.subsec_nanos() > 0 || value.as_secs() > YEAR_S {
        let message = format!("`{field}` must be whole seconds, at most a year");
        problems
            .push(FormProblem::new("bad_duration", field, message).hint("write it as 30s, 10m, 2h or 3d"));
    }
    u32::try_from(value.as_secs()).unwrap_or_default()
}
