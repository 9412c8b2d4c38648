//! The traffic check: renders content for recent real events and compares it with the live version.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::changes::Change;
use super::check::CatalogProblem;
use super::checks::{CheckContext, Leading, too_complex};
use super::manifest::Document;
use super::publish::{ApplyError, Publisher};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Content, TemplateVersion};
use crate::store::StoreError;
use crate::store::traffic::PastEvent;
use crate::templating::check::Observed;
use crate::templating::preview::{Person, preview};
use crate::templating::{CompiledContent, ValueError, compile_content};

/// Default number of events.
pub const DEFAULT_EVENTS: u32 = 500;
/// Maximum number of events.
pub const MAX_EVENTS: u32 = 5_000;
/// Differences and held events that are listed in full.
const SHOWN: usize = 20;

/// The result of a traffic check.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct TrafficReport {
    /// `events` (real ones) or `samples` (there was no traffic).
    pub based_on: String,
    /// Number of checked events.
    pub checked: usize,
    /// Rendered as with the live version.
    pub same: usize,
    /// Rendered differently.
    pub differs: usize,
    /// Would be held.
    pub would_be_held: usize,
    /// Would be held, but are not with the live version.
    pub newly_held: usize,
    /// Missing paths, with the number of events without them.
    pub missing: BTreeMap<String, usize>,
    /// The first differences, sensitive values masked.
    pub differences: Vec<Difference>,
    /// The first events that would be held.
    pub held_events: Vec<HeldEvent>,
    /// The 99th percentile of the size of `custom_data`, in bytes.
    pub p99_bytes: usize,
}

impl TrafficReport {
    /// Removes data of individual events, for callers who may not read events. The counts remain.
    #[must_use]
    pub fn without_values(self) -> Self {
        Self { differences: Vec::new(), held_events: Vec::new(), ..self }
    }
}

/// An event that is rendered differently.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// The event, or the sample's name.
    pub event: String,
    /// The locale.
    pub locale: String,
    /// Each field before and after.
    pub fields: BTreeMap<String, FieldChange>,
}

/// A field before and after.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct FieldChange {
    /// With the live version.
    pub now: String,
    /// With the checked content.
    pub then: String,
}

/// An event that would be held.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct HeldEvent {
    /// The event, or the sample's name.
    pub event: String,
    /// The locale.
    pub locale: String,
    /// The missing path, if that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The reason.
    pub detail: String,
}

/// Compiled content.
pub(super) struct Compiled<'a> {
    content: &'a Content,
    by_locale: BTreeMap<String, CompiledContent>,
}

impl<'a> Compiled<'a> {
    /// Compiles every locale without errors.
    pub fn new(draft: Candidate<'a>, budget: &Budget) -> Self {
        let Candidate { channel, content, partials } = draft;
        Self { content, by_locale: compile_content(channel, content, partials, budget).0 }
    }

    /// The best locale for a requested one, with its content.
    pub fn choose(&self, wish: Option<&str>) -> Option<(&'a str, &CompiledContent)> {
        let locale = self.content.choose_locale(wish);
        Some((locale, self.by_locale.get(locale)?))
    }
}

/// The content to check: channel, content and partials.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub channel: Channel,
    pub content: &'a Content,
    pub partials: &'a BTreeMap<String, String>,
}

impl Publisher {
    /// The last `limit` events of these types.
    pub(super) async fn events_of(
        &self,
        types: &[Leading<'_>],
        limit: u32,
    ) -> Result<Vec<PastEvent>, StoreError> {
        let mut names: Vec<String> = types.iter().map(|t| t.name.to_string()).collect();
        names.dedup();
        self.store.last_events(&names, limit.min(MAX_EVENTS).into()).await
    }

    /// The traffic check of each live template that a document changes.
    pub(super) async fn traffic_of(
        &self,
        document: &Arc<Document>,
        snapshot: &Arc<CatalogSnapshot>,
        changes: &[Change],
    ) -> Result<BTreeMap<String, TrafficReport>, ApplyError> {
        let mut reports = BTreeMap::new();
        for change in
            changes.iter().filter(|c| c.kind == "template" && c.before.is_some() && c.after.is_some())
        {
            let key = change.name.clone();
            let events = {
                let around = CheckContext::of(document, Some(snapshot));
                let wanted = document.templates.iter().find(|t| t.key == key);
                let named = wanted.and_then(|wanted| wanted.about.event_type.as_deref());
                self.events_of(&around.types_of(&key, named), DEFAULT_EVENTS).await?
            };
            let (checked, against) = (Arc::clone(document), Arc::clone(snapshot));
            let report = move |budget: &Budget| report_of(&checked, &against, (&key, &events), budget);
            if let Some(report) = self.compute(report).await? {
                reports.insert(
                    change.name.clone(),
                    report.map_err(|problem| ApplyError::Problems(vec![*problem]))?,
                );
            }
        }
        Ok(reports)
    }
}

/// The traffic check of a template in a document; `None` if it is missing or new.
fn report_of(
    document: &Document,
    snapshot: &CatalogSnapshot,
    (key, events): (&str, &[PastEvent]),
    budget: &Budget,
) -> Option<Result<TrafficReport, Box<CatalogProblem>>> {
    let around = CheckContext::of(document, Some(snapshot));
    let wanted = document.templates.iter().find(|t| t.key == key)?;
    let known = snapshot.templates.iter().find(|t| t.key == key)?;
    let live = snapshot.versions.iter().find(|v| Some(v.id) == known.live);
    let types = around.types_of(key, wanted.about.event_type.as_deref());
    let draft = Candidate { channel: wanted.channel, content: &wanted.content, partials: &around.partials };
    let report = report(draft, live, &types, (events, budget));
    Some(match budget.spent() {
        None => Ok(report),
        Some(spent) => Err(Box::new(too_complex(spent))),
    })
}

/// Renders content for events, or for the samples of its types if there are none.
pub(super) fn report(
    draft: Candidate<'_>,
    live: Option<&TemplateVersion>,
    types: &[Leading<'_>],
    (events, budget): (&[PastEvent], &Budget),
) -> TrafficReport {
    let draft = Compiled::new(draft, budget);
    let live = live.map(|live| {
        let TemplateVersion { channel, content, partials, .. } = live;
        Compiled::new(Candidate { channel: *channel, content, partials }, budget)
    });
    let based_on = if events.is_empty() { "samples" } else { "events" }.to_owned();
    let mut report = TrafficReport { based_on, ..TrafficReport::default() };
    let mut bytes = Vec::new();
    if events.is_empty() {
        for entry in types {
            for (name, sample) in &entry.samples {
                let data = masked(sample, &entry.sensitive);
                report.look((name, &data, None), &draft, live.as_ref(), (&mut bytes, budget));
            }
        }
    }
    for PastEvent { id, event_type, data, locale, .. } in events {
        // Values that became sensitive after the event was stored are not masked in it.
        for form in types.iter().filter(|t| t.name.as_str() == event_type) {
            if budget.steps(1).is_err() {
                return report;
            }
            let data = masked(&form.data(data.clone()), &form.sensitive);
            let named = (&*id.to_string(), &data, locale.as_deref());
            report.look(named, &draft, live.as_ref(), (&mut bytes, budget));
        }
    }
    bytes.sort_unstable();
    report.p99_bytes = bytes.get(bytes.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
    report
}

impl TrafficReport {
    fn look(
        &mut self,
        (name, data, wish): (&str, &Value, Option<&str>),
        draft: &Compiled<'_>,
        live: Option<&Compiled<'_>>,
        (bytes, budget): (&mut Vec<usize>, &Budget),
    ) {
        self.checked += 1;
        let now = live.and_then(|live| live.choose(wish)).map(|(_, content)| shown(content, data, budget));
        let Some((locale, content)) = draft.choose(wish) else {
            self.hole(name, draft.content.choose_locale(wish), None, "the copy does not compile".to_owned());
            return;
        };
        match shown(content, data, budget) {
            Err(error) => {
                self.newly_held += usize::from(now.is_none_or(|now| now.is_ok()));
                let path = match &error {
                    ValueError::Missing { path, .. } => Some(path.clone()),
                    ValueError::Blank { .. } | ValueError::Unsafe { .. } | ValueError::Limit { .. } => None,
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
        if self.held_events.len() < SHOWN {
            self.held_events.push(HeldEvent {
                event: event.to_owned(),
                locale: locale.to_owned(),
                path,
                detail,
            });
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

    /// The measured sizes, for the checks; `None` if there were only samples.
    pub(super) fn observed(&self) -> Option<Observed> {
        (self.based_on == "events").then_some(Observed { events: self.checked, p99_bytes: self.p99_bytes })
    }
}

/// The rendered message for an event, and the size of its values in bytes.
fn shown(
    content: &CompiledContent,
    data: &Value,
    budget: &Budget,
) -> Result<(BTreeMap<String, String>, usize), ValueError> {
    let person = Person { user: Value::Object(Map::new()) };
    let fields = preview(content, data, &person, budget)?.fields;
    let entry = Value::Object(content.values(data, budget)?).to_string();
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
