//! The traffic check: what copy would say about the last real events, compared with what is live.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::changes::Change;
use super::checks::{Leading, Surroundings};
use super::document::Document;
use super::publish::Publisher;
use crate::domain::channel::Channel;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Content, TemplateVersion};
use crate::store::StoreError;
use crate::store::traffic::PastEvent;
use crate::templating::check::Observed;
use crate::templating::liquid::Limits;
use crate::templating::preview::{Person, preview};
use crate::templating::{CompiledContent, ValueError, compile_content};

/// Events that are looked at when nobody says how many.
pub const DEFAULT_EVENTS: u32 = 500;
/// Events that are looked at, at most.
pub const MOST_EVENTS: u32 = 5_000;
/// Differences and holes that are shown in full.
const SHOWN: usize = 20;

/// What became of the events under the copy.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct TrafficReport {
    /// `events` (real ones) or `samples` (there was no traffic).
    pub based_on: String,
    /// How many were looked at.
    pub checked: usize,
    /// They say the same as under the live version.
    pub same: usize,
    /// They say something else.
    pub differs: usize,
    /// They would be held.
    pub would_be_held: usize,
    /// They would be held, and are not under the live version.
    pub newly_held: usize,
    /// The paths that are missing, with how many events lack them.
    pub missing: BTreeMap<String, usize>,
    /// The first differences, sensitive values masked.
    pub differences: Vec<Difference>,
    /// The first events that would be held.
    pub holes: Vec<Hole>,
    /// Bytes of `custom_data` that all but one in a hundred stay below.
    pub p99_bytes: usize,
}

impl TrafficReport {
    /// The same without what single events say, for those who may not read events. How many differ stays.
    #[must_use]
    pub fn without_values(self) -> Self {
        Self { differences: Vec::new(), holes: Vec::new(), ..self }
    }
}

/// One event that would say something else.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// The event, or the sample's name.
    pub event: String,
    /// The locale.
    pub locale: String,
    /// What each field says now, and would say.
    pub fields: BTreeMap<String, FieldChange>,
}

/// What a field says now, and would say.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct FieldChange {
    /// Under the live version.
    pub now: String,
    /// Under the copy that was checked.
    pub then: String,
}

/// One event that would be held.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Hole {
    /// The event, or the sample's name.
    pub event: String,
    /// The locale.
    pub locale: String,
    /// The path that is missing, if that is why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In plain words.
    pub detail: String,
}

/// Copy made ready to be rendered.
pub(super) struct Compiled<'a> {
    content: &'a Content,
    by_locale: BTreeMap<String, CompiledContent>,
}

impl<'a> Compiled<'a> {
    /// Compiles every locale that compiles.
    pub fn new(channel: Channel, content: &'a Content, partials: &BTreeMap<String, String>) -> Self {
        Self { content, by_locale: compile_content(channel, content, partials).0 }
    }

    /// The locale for a wish, with its copy.
    pub fn choose(&self, wish: Option<&str>) -> Option<(&'a str, &CompiledContent)> {
        let locale = self.content.choose_locale(wish);
        Some((locale, self.by_locale.get(locale)?))
    }
}

impl Publisher {
    /// Renders copy against the last `limit` events of these types, or against their samples where there were none.
    pub(super) async fn check_traffic(
        &self,
        channel: Channel,
        (content, partials): (&Content, &BTreeMap<String, String>),
        live: Option<&TemplateVersion>,
        types: &[Leading<'_>],
        limit: u32,
    ) -> Result<TrafficReport, StoreError> {
        let mut names: Vec<String> = types.iter().map(|t| t.name.to_string()).collect();
        names.dedup();
        let events = self.store.last_events(&names, limit.min(MOST_EVENTS).into()).await?;
        let draft = Compiled::new(channel, content, partials);
        let live = live.map(|live| Compiled::new(channel, &live.content, &live.partials));
        let based_on = if events.is_empty() { "samples" } else { "events" }.to_owned();
        let mut report = TrafficReport { based_on, ..TrafficReport::default() };
        let mut bytes = Vec::new();
        if events.is_empty() {
            for entry in types {
                for (name, sample) in &entry.samples {
                    let data = masked(sample, &entry.sensitive);
                    report.look((name, &data, None), &draft, live.as_ref(), &mut bytes);
                }
            }
        }
        for PastEvent { id, event_type, data, locale, .. } in &events {
            // What became sensitive after an event was stored stands in it openly.
            for form in types.iter().filter(|t| t.name.as_str() == event_type) {
                let data = masked(&form.data(data.clone()), &form.sensitive);
                report.look((&id.to_string(), &data, locale.as_deref()), &draft, live.as_ref(), &mut bytes);
            }
        }
        bytes.sort_unstable();
        report.p99_bytes = bytes.get(bytes.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
        Ok(report)
    }
}

impl Publisher {
    /// What the last events say to each template that a document changes and that is live today.
    pub(super) async fn traffic_of(
        &self,
        document: &Document,
        snapshot: &CatalogSnapshot,
        changes: &[Change],
    ) -> Result<BTreeMap<String, TrafficReport>, StoreError> {
        let around = Surroundings::of(document, Some(snapshot));
        let mut reports = BTreeMap::new();
        for change in
            changes.iter().filter(|c| c.kind == "template" && c.before.is_some() && c.after.is_some())
        {
            let wanted = document.templates.iter().find(|t| t.key == change.name);
            let known = snapshot.templates.iter().find(|t| t.key == change.name);
            let (Some(wanted), Some(known)) = (wanted, known) else { continue };
            let live = snapshot.versions.iter().find(|v| Some(v.id) == known.live);
            let types = around.types_of(&wanted.key, wanted.about.event_type.as_deref());
            let content = (&wanted.content, &around.partials);
            let report = self.check_traffic(wanted.channel, content, live, &types, DEFAULT_EVENTS).await?;
            reports.insert(wanted.key.clone(), report);
        }
        Ok(reports)
    }
}

impl TrafficReport {
    fn look(
        &mut self,
        (name, data, wish): (&str, &Value, Option<&str>),
        draft: &Compiled<'_>,
        live: Option<&Compiled<'_>>,
        bytes: &mut Vec<usize>,
    ) {
        self.checked += 1;
        let now = live.and_then(|live| live.choose(wish)).map(|(_, content)| shown(content, data));
        let Some((locale, content)) = draft.choose(wish) else {
            self.hole(name, draft.content.choose_locale(wish), None, "the copy does not compile".to_owned());
            return;
        };
        match shown(content, data) {
            Err(error) => {
                self.newly_held += usize::from(now.is_none_or(|now| now.is_ok()));
                let path = match &error {
                    ValueError::Missing { path, .. } => Some(path.clone()),
                    ValueError::Unsafe { .. } | ValueError::Limit { .. } => None,
                };
                self.hole(name, locale, path, error.to_string());
            }
            Ok((then, size)) => {
                bytes.push(size);
                match now {
                    Some(Ok((now, _))) if now == then => self.same += 1,
                    now => {
                        let now = now.and_then(Result::ok).map(|(fields, _)| fields).unwrap_or_default();
                        self.differ(name, locale, &now, &then);
                    }
                }
            }
        }
    }

    fn hole(&mut self, event: &str, locale: &str, path: Option<String>, detail: String) {
        self.would_be_held += 1;
        if let Some(path) = &path {
            *self.missing.entry(path.clone()).or_default() += 1;
        }
        if self.holes.len() < SHOWN {
            self.holes.push(Hole { event: event.to_owned(), locale: locale.to_owned(), path, detail });
        }
    }

    fn differ(
        &mut self,
        event: &str,
        locale: &str,
        now: &BTreeMap<String, String>,
        then: &BTreeMap<String, String>,
    ) {
        self.differs += 1;
        if self.differences.len() >= SHOWN {
            return;
        }
        let text =
            |fields: &BTreeMap<String, String>, name: &str| fields.get(name).cloned().unwrap_or_default();
        let names = now.keys().chain(then.keys());
        let fields: BTreeMap<String, FieldChange> = names
            .filter(|name| now.get(*name) != then.get(*name))
            .map(|name| (name.clone(), FieldChange { now: text(now, name), then: text(then, name) }))
            .collect();
        self.differences.push(Difference { event: event.to_owned(), locale: locale.to_owned(), fields });
    }

    /// The sizes that were seen, for the checks; nothing if only samples were there.
    pub(super) fn observed(&self) -> Option<Observed> {
        (self.based_on == "events").then_some(Observed { events: self.checked, p99_bytes: self.p99_bytes })
    }
}

/// What the copy says about an event, and how many bytes its values take.
fn shown(content: &CompiledContent, data: &Value) -> Result<(BTreeMap<String, String>, usize), ValueError> {
    let limits = Limits::default();
    let person = Person { user: Value::Object(Map::new()) };
    let fields = preview(content, data, &person, &limits)?.fields;
    let entry = Value::Object(content.values(data, &limits)?).to_string();
    Ok((fields, entry.len() + r#"{"all":}"#.len()))
}

/// A copy of `data` with its sensitive values masked, as past events have them.
pub fn masked(data: &Value, pointers: &[String]) -> Value {
    let mut data = data.clone();
    for pointer in pointers {
        if let Some(place) = data.pointer_mut(pointer) {
            *place = Value::String(crate::domain::event::MASK.to_owned());
        }
    }
    data
}
