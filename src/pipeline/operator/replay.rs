//! Replays: deliveries that a person has sent again, planned first and then carried out.
//!
//! A replay is a new delivery that references the old one; the old one keeps its state. Deliveries that may have
//! reached someone are replayed only with `may_duplicate`, and expired ones only with `even_if_expired`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::StateName;
use crate::domain::id::{DeliveryId, EventId, ReplayId, TemplateVersionId, TypedId, made_at};
use crate::domain::retry::delta;
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::plan::redaction::MASK;
use crate::pipeline::send::load::Loaded;
use crate::pipeline::send::record::committed;
use crate::store::decisions::{self, NewDecision};
use crate::store::replays::{self, Again, Found, ReplayFilter, ReplayRow};
use crate::store::secrets::{delivery_place, insert_delivery_values};
use crate::store::{StoreError, commit};

/// The maximum number of deliveries in one replay.
pub const MAX: usize = 5_000;
/// How many days before an event is dropped its deliveries can no longer be replayed.
const DROPPED_SOON_DAYS: i64 = 7;

/// The version that a replay uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplayVersion {
    /// The one that the old delivery was pinned to; the live one if it had none.
    #[default]
    Same,
    /// The one that is live now.
    Live,
    /// This one.
    Number(i32),
}

/// A replay request.
#[derive(Debug, Clone, Default)]
pub struct ReplayWish {
    /// Which deliveries.
    pub filter: ReplayFilter,
    /// Which version they use.
    pub version: ReplayVersion,
    /// Why.
    pub reason: String,
    /// Include those that reached, or may have reached, someone.
    pub may_duplicate: bool,
    /// Include expired ones: they then get the default time to live.
    pub even_if_expired: bool,
}

/// Why a delivery can't be replayed, or not without a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It was sent or may have been: `may_duplicate`.
    MayHaveReached,
    /// A replay of it is in progress or was sent: `may_duplicate`.
    ReplayedAlready,
    /// It has expired: `even_if_expired`.
    Expired,
    /// Its sensitive values were erased after use.
    ValuesErased,
    /// Its event is gone, or will be soon.
    EventGone,
    /// The template has no such version, or none is live.
    NoVersion,
    /// The template's copy needs approval, and this version was not approved.
    NotApproved,
    /// It would be held at once: the event lacks a value that the version needs.
    WouldBeHeld,
}

impl LeftOut {
    /// Its code.
    pub fn code(self) -> &'static str {
        match self {
            Self::MayHaveReached => "may_have_reached",
            Self::ReplayedAlready => "replayed_already",
            Self::Expired => "expired",
            Self::ValuesErased => "values_erased",
            Self::EventGone => "event_gone",
            Self::NoVersion => "no_version",
            Self::NotApproved => "not_approved",
            Self::WouldBeHeld => "would_be_held",
        }
    }

    /// A description, with what to do.
    pub fn detail(self) -> &'static str {
        match self {
            Self::MayHaveReached => {
                "it was sent, or may have been: use `may_duplicate` to send it again anyway"
            }
            Self::ReplayedAlready => {
                "an earlier replay is in progress or was sent: use `may_duplicate` to send another"
            }
            Self::Expired => "it has expired: use `even_if_expired` to send it anyway",
            Self::ValuesErased => "its sensitive values were erased after use: post a new event",
            Self::EventGone => "its event is no longer kept: post a new event",
            Self::NoVersion => "the template has no such version, or none is live",
            Self::NotApproved => "this version is not approved, and the template's copy needs approval",
            Self::WouldBeHeld => "the event lacks a value that this version needs: name another version",
        }
    }
}

/// A delivery that a replay would create.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The old delivery.
    pub of: DeliveryId,
    /// Its event.
    pub event: EventId,
    /// How it ended.
    pub state: StateName,
    /// Its last decision: code and detail.
    pub why: Option<(String, String)>,
    /// Its rule's and its template's key.
    pub rule: String,
    /// See `rule`.
    pub template: String,
    /// The number of the version that it would use.
    pub version: i32,
    /// Whether the recipient may get it a second time.
    pub may_be_second_copy: bool,
    again: Again,
    values: Option<Vec<u8>>,
}

/// The plan of a replay.
#[derive(Debug, Clone, Default)]
pub struct ReplayPlan {
    /// What would be created, oldest first.
    pub candidates: Vec<Candidate>,
    /// How many are left out, by reason.
    pub left_out: BTreeMap<LeftOut, usize>,
    /// Whether the filter matched no more than one replay may contain.
    pub is_complete: bool,
}

impl ReplayPlan {
    /// How many people may get a duplicate.
    pub fn second_copies(&self) -> usize {
        self.candidates.iter().filter(|candidate| candidate.may_be_second_copy).count()
    }
}

/// A replay that was carried out.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The stored replay; `None` if there was nothing to replay.
    pub replay: Option<ReplayRow>,
    /// The new deliveries with the old ones; empty if the same request was carried out before.
    pub made: Vec<(DeliveryId, DeliveryId)>,
    /// Its plan.
    pub plan: ReplayPlan,
}

/// Whether versions may be sent, cached for one plan.
type Approvals = HashMap<TemplateVersionId, bool>;

/// Who requests a replay.
#[derive(Debug, Clone, Copy)]
pub struct ReplayedBy<'a> {
    /// The name in the audit log.
    pub actor: &'a str,
    /// The key or the person.
    pub id: Uuid,
    /// Identifies repeated requests.
    pub request_key: Option<&'a str>,
    /// The request as it was sent.
    pub request: &'a Value,
}

impl Pipeline {
    /// What a replay would create, and what it would leave out and why. Nothing changes.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn plan_replay(&self, wish: &ReplayWish) -> Result<ReplayPlan, StoreError> {
        let now = self.clock.now();
        let limit = i64::try_from(MAX + 1).unwrap_or(i64::MAX);
        let mut found = self.store.find_replayable(&wish.filter, limit).await?;
        let is_complete = found.len() <= MAX;
        found.truncate(MAX);
        self.catalog.warm(&self.store).await?;
        let ids: Vec<DeliveryId> = found.iter().map(|one| one.id).collect();
        let loaded = self.load(&ids).await?;
        let mut plan = ReplayPlan { is_complete, ..ReplayPlan::default() };
        let mut approvals = Approvals::new();
        for one in found {
            let judged = match loaded.get(&one.id) {
                Some(loaded) => self.evaluate((one, loaded), wish, &mut approvals, now).await?,
                None => Err(LeftOut::EventGone),
            };
            match judged {
                Ok(candidate) => plan.candidates.push(candidate),
                Err(why) => *plan.left_out.entry(why).or_default() += 1,
            }
        }
        Ok(plan)
    }

    async fn evaluate(
        &self,
        (found, loaded): (Found, &Loaded),
        wish: &ReplayWish,
        approvals: &mut Approvals,
        now: Timestamp,
    ) -> Result<Result<Candidate, LeftOut>, StoreError> {
        let row = &loaded.row;
        let has_reached = ["accepted", "unknown"].contains(&row.state.as_str());
        if has_reached && !wish.may_duplicate {
            return Ok(Err(LeftOut::MayHaveReached));
        }
        if found.replayed_as.is_some() && !wish.may_duplicate {
            return Ok(Err(LeftOut::ReplayedAlready));
        }
        let is_over = row.expires_at <= now + self.margin(crate::domain::channel::Priority::Bulk);
        if is_over && !wish.even_if_expired {
            return Ok(Err(LeftOut::Expired));
        }
        let kept_until = made_at(loaded.event.id.uuid())
            + chrono::TimeDelta::days(i64::from(self.limits.keep_days.payloads) - DROPPED_SOON_DAYS);
        if kept_until <= now {
            return Ok(Err(LeftOut::EventGone));
        }
        if holds_mask(loaded.data()) {
            return Ok(Err(LeftOut::ValuesErased));
        }
        let Some(version) = self.replay_version(loaded, wish.version).await? else {
            return Ok(Err(LeftOut::NoVersion));
        };
        if !self.may_reach_people(&version, approvals).await? {
            return Ok(Err(LeftOut::NotApproved));
        }
        let wanted = row.locale.as_deref().or(loaded.event.locale.as_deref());
        let locale = version.version.choose_locale(wanted).to_owned();
        if self.compose(&version, &locale, loaded.data()).await.is_err() {
            return Ok(Err(LeftOut::WouldBeHeld));
        }
        let expires_at = if is_over { now + delta(self.limits.default_ttl) } else { row.expires_at };
        let id: DeliveryId = self.ids.next(now);
        let values = if loaded.has_values_of_its_own() {
            let plain = loaded.data().to_string();
            Some(self.store.vault().seal(&delivery_place(id), plain.as_bytes())?)
        } else {
            None
        };
        Ok(Ok(Candidate {
            of: row.id,
            event: row.event,
            state: row.state,
            why: found.why,
            rule: row.rule.1.clone(),
            template: row.template.clone(),
            version: version.version.number,
            may_be_second_copy: has_reached || found.replayed_as.is_some(),
            again: Again {
                id,
                of: row.id,
                version: (version.version.id, version.version.number),
                locale,
                expires_at,
            },
            values,
        }))
    }

    async fn may_reach_people(
        &self,
        version: &CompiledVersion,
        approvals: &mut Approvals,
    ) -> Result<bool, StoreError> {
        let (id, number) = (version.version.id, version.version.number);
        if let Some(known) = approvals.get(&id) {
            return Ok(*known);
        }
        let may = self.store.may_reach_people(&version.version.template, number).await?;
        approvals.insert(id, may);
        Ok(may)
    }

    async fn replay_version(
        &self,
        loaded: &Loaded,
        wanted: ReplayVersion,
    ) -> Result<Option<Arc<CompiledVersion>>, StoreError> {
        let template = &loaded.row.template;
        let id = match (wanted, loaded.row.version) {
            (ReplayVersion::Number(number), _) => {
                self.store.find_version_number(template, number).await?.map(|found| found.version.id)
            }
            (ReplayVersion::Same, Some((id, _))) => Some(id),
            (ReplayVersion::Same, None) | (ReplayVersion::Live, _) => {
                let catalog = self.catalog.get(&self.store).await?;
                return Ok(catalog.live_version(template).cloned());
            }
        };
        match id {
            Some(id) => self.catalog.version(&self.store, id).await,
            None => Ok(None),
        }
    }

    /// Replays deliveries. Repeating a request with the same request key replays them once.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; nothing was created then, or repeating the request returns it.
    pub async fn replay(&self, wish: &ReplayWish, by: ReplayedBy<'_>) -> Result<Replayed, StoreError> {
        let mut plan = self.plan_replay(wish).await?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        replays::lock(&mut tx).await?;
        // The same request may have been carried out since it was looked up.
        if let Some(key) = by.request_key
            && let Some(earlier) = replays::find_of_request(&mut tx, key).await?
        {
            return Ok(Replayed { replay: Some(earlier), made: Vec::new(), plan: ReplayPlan::default() });
        }
        if plan.candidates.is_empty() {
            return Ok(Replayed { replay: None, made: Vec::new(), plan });
        }
        let again: Vec<Again> = plan.candidates.iter().map(|candidate| candidate.again.clone()).collect();
        let made = replays::insert(&mut tx, &again, wish.may_duplicate, now).await?;
        let made: HashSet<DeliveryId> = made.into_iter().collect();
        let planned = plan.candidates.len();
        plan.candidates.retain(|candidate| made.contains(&candidate.again.id));
        if plan.candidates.len() < planned {
            // Another request replayed these first.
            *plan.left_out.entry(LeftOut::ReplayedAlready).or_default() += planned - plan.candidates.len();
        }
        if plan.candidates.is_empty() {
            return Ok(Replayed { replay: None, made: Vec::new(), plan });
        }
        let made: Vec<&Candidate> = plan.candidates.iter().collect();
        for candidate in &made {
            if let Some(sealed) = &candidate.values {
                insert_delivery_values(&mut tx, candidate.again.id, sealed, by.id, now).await?;
            }
        }
        let row = ReplayRow {
            id: self.ids.next(now),
            at: now,
            actor: by.actor.to_owned(),
            reason: wish.reason.clone(),
            request: by.request.clone(),
            deliveries: i32::try_from(made.len()).unwrap_or(i32::MAX),
        };
        replays::insert_row(&mut tx, &row, by.request_key).await?;
        self.note_replay(&mut tx, &made, &row, now).await?;
        committed(commit(tx).await)?;
        self.look.notify_one();
        let made = made.into_iter().map(|candidate| (candidate.again.id, candidate.of)).collect();
        Ok(Replayed { replay: Some(row), made, plan })
    }

    /// Notes on the old and the new deliveries who replayed them and why.
    async fn note_replay(
        &self,
        tx: &mut crate::store::Tx,
        made: &[&Candidate],
        row: &ReplayRow,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let replay: ReplayId = row.id;
        let decision = |candidate: &Candidate, about: DeliveryId, words: String| {
            let detail = format!("{words} by {}: {}", row.actor, row.reason);
            Decision::new(DecisionCode::Replayed, detail)
                .with("replay", replay.to_string())
                .of_rule(&candidate.rule)
                .of_delivery(about)
        };
        let noted: Vec<(EventId, Decision)> = made
            .iter()
            .flat_map(|c| {
                let old = decision(c, c.of, format!("it was replayed as {}", c.again.id));
                let new = decision(c, c.again.id, format!("it is a replay of {}, made", c.of));
                [(c.event, old), (c.event, new)]
            })
            .collect();
        let rows: Vec<NewDecision<'_>> = noted
            .iter()
            .map(|(event, decision)| NewDecision { id: self.ids.next(now), event: *event, decision })
            .collect();
        decisions::insert_all(tx, &rows).await
    }
}

/// Whether some value was removed and no longer exists.
fn holds_mask(data: &Value) -> bool {
    match data {
        Value::String(text) => text == MASK,
        Value::Array(items) => items.iter().any(holds_mask),
        Value::Object(members) => members.values().any(holds_mask),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
