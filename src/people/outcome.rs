//! What an answer means for a person's changes: pure, one function per kind of answer.
//!
//! Every refusal ends in a named state of the refused part, and never holds back the person's other changes.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use super::PeopleLimits;
use crate::domain::clock::Timestamp;
use crate::domain::user::{Known, PartKey, Planned, UserAnswer, UserCall};
use crate::store::user_writes::{ClaimedWrite, WriteResult};

/// The shortest time between two calls about one user (OneSignal's limit is one write a second).
const USER_GAP: TimeDelta = TimeDelta::seconds(1);
/// The longest delay between attempts.
const LONGEST_DELAY: Duration = Duration::from_mins(5);
/// The delay while an app can't be called.
const APP_DELAY: TimeDelta = TimeDelta::seconds(30);
/// The delay while OneSignal does not know a user whom it has just created.
const NOT_YET_DELAY: TimeDelta = TimeDelta::seconds(5);

/// What is known of a claimed person, for planning their next call.
pub(super) fn known(claim: &ClaimedWrite, hash: impl Fn(&str) -> String) -> Known {
    let is_confirmed = |key: &PartKey, value: &Value| {
        let confirmed = claim.confirmed.get(&key.to_string());
        confirmed.is_some_and(|confirmed| *confirmed == hash(&value.to_string()))
    };
    let confirmed =
        claim.changes.0.iter().filter(|(key, value)| !claim.was_in_doubt && is_confirmed(key, value));
    let removed = hash(&json!("").to_string());
    let tags = claim.confirmed.iter().filter(|(_, hash)| **hash != removed).filter_map(|(key, _)| match key
        .parse()
    {
        Ok(PartKey::Tag(name)) => Some(name),
        Ok(_) | Err(_) => None,
    });
    Known {
        aliases: claim.aliases.clone(),
        refused_aliases: claim
            .refused
            .iter()
            .filter_map(|part| part.strip_prefix("alias/"))
            .map(str::to_owned)
            .collect(),
        confirmed: confirmed.map(|(key, _)| key.clone()).collect(),
        tags: tags.collect(),
        exists: claim.exists_since.is_some(),
        creates: claim.creates,
        max_new_tags: claim.max_new_tags.and_then(|max| usize::try_from(max).ok()),
    }
}

/// An answer with what it is about.
pub(super) struct Answered<'a> {
    pub claim: &'a ClaimedWrite,
    pub planned: &'a Planned,
    pub answer: &'a UserAnswer,
    pub limits: PeopleLimits,
    pub now: Timestamp,
}

/// The result of a claim without a call: everything was already as it should be.
pub(super) fn unchanged(claim: &ClaimedWrite, planned: &Planned, now: Timestamp) -> WriteResult {
    let mut result = empty(claim, now);
    settle(&mut result, claim, &planned.unchanged);
    // Without an alias there is nobody to write about.
    if planned.covers.is_empty() && planned.call.is_none() {
        settle(&mut result, claim, &claim.changes.0.keys().cloned().collect());
    }
    result
}

impl Answered<'_> {
    /// The result to be recorded. `jitter` is between 0 and 1.
    pub fn result(&self, hash: impl Fn(&str) -> String + Copy, jitter: f64) -> WriteResult {
        let mut result = empty(self.claim, self.now);
        result.is_called = true;
        result.answer = self.answer.code();
        self.answer.detail().clone_into(&mut result.detail);
        settle(&mut result, self.claim, &self.planned.unchanged);
        match self.answer {
            UserAnswer::Done { onesignal_id } => {
                result.onesignal_id = *onesignal_id;
                self.done(&mut result, hash);
            }
            UserAnswer::UnknownUser => self.unknown_user(&mut result),
            UserAnswer::AliasConflict { .. } => self.alias_conflict(&mut result),
            UserAnswer::TagLimit { .. } => self.tag_limit(&mut result, &known(self.claim, hash).tags),
            UserAnswer::SubscriptionLimit { .. } => {
                self.refuse(&mut result, |key| matches!(key, PartKey::Subscription(_)));
            }
            UserAnswer::Refused { .. } => self.refuse(&mut result, |_| true),
            UserAnswer::AppUnusable { .. } => result.due_at = self.now + APP_DELAY,
            UserAnswer::RateLimited { retry_after } => {
                let asked = retry_after.unwrap_or_default().clamp(Duration::from_secs(1), LONGEST_DELAY);
                result.due_at = self.now + delta(asked) + delta(Duration::from_secs_f64(jitter));
            }
            UserAnswer::NotConnected { .. } => self.retry(&mut result, jitter),
            UserAnswer::Ambiguous { .. } => {
                result.is_in_doubt = true;
                self.retry(&mut result, jitter);
            }
        }
        result
    }

    fn done(&self, result: &mut WriteResult, hash: impl Fn(&str) -> String) {
        let deletes = matches!(self.planned.call, Some(UserCall::RemoveAlias { .. }));
        let confirmed = self.planned.covers.iter().filter_map(|key| {
            let value = self.claim.changes.0.get(key)?;
            Some((key.to_string(), json!(hash(&value.to_string()))))
        });
        result.confirm = Value::Object(confirmed.collect());
        result.does_exist = !deletes || self.claim.exists_since.is_some();
        if self.claim.exists_since.is_none() && matches!(self.planned.call, Some(UserCall::Upsert { .. })) {
            result.next_at = self.now + delta(self.limits.cool_down);
            result.due_at = result.next_at;
            result.holds_until = Some(result.next_at);
        }
        settle(result, self.claim, &self.planned.covers);
        result.is_in_doubt &= !result.is_settled;
    }

    /// A user who was just created may not be visible yet. One who can be created is, by the next call. Otherwise the
    /// changes are refused: OneSignal has nobody to apply them to.
    fn unknown_user(&self, result: &mut WriteResult) {
        let is_fresh =
            self.claim.exists_since.is_some_and(|since| since + delta(self.limits.visible_after) > self.now);
        if is_fresh {
            result.due_at = self.now + NOT_YET_DELAY;
            return;
        }
        if matches!(self.planned.call, Some(UserCall::RemoveAlias { .. })) {
            settle(result, self.claim, &self.planned.covers);
            return;
        }
        result.forgets = true;
        if !self.claim.creates || matches!(self.planned.call, Some(UserCall::Upsert { .. })) {
            self.refuse(result, |_| true);
        }
    }

    /// Nothing was applied: the aliases are refused, and the rest is written without them.
    fn alias_conflict(&self, result: &mut WriteResult) {
        let has_aliases =
            self.planned.covers.iter().any(|key| matches!(key, PartKey::Alias(label) if !self.names(label)));
        // Only the alias that names the user is left, and someone else has it: nothing can be written.
        self.refuse(result, |key| !has_aliases || matches!(key, PartKey::Alias(label) if !self.names(label)));
    }

    fn names(&self, label: &str) -> bool {
        let first =
            self.claim.aliases.get_key_value("external_id").or_else(|| self.claim.aliases.first_key_value());
        first.is_some_and(|(name, _)| name == label)
    }

    /// Nothing was applied. Half as many new tags are tried, until one alone does not fit: then no new one does.
    fn tag_limit(&self, result: &mut WriteResult, known: &BTreeSet<String>) {
        let is_new = |key: &PartKey| matches!(key, PartKey::Tag(name) if !known.contains(name));
        let tried = self.planned.covers.iter().filter(|key| is_new(key) && !self.removes(key)).count();
        if tried > 1 {
            result.max_new_tags = i16::try_from(tried / 2).ok();
            return;
        }
        let all: BTreeSet<PartKey> =
            self.claim.changes.0.keys().filter(|key| is_new(key) && !self.removes(key)).cloned().collect();
        if all.is_empty() {
            self.refuse(result, |key| matches!(key, PartKey::Tag(_)));
        } else {
            self.refuse_parts(result, &all);
        }
    }

    fn removes(&self, key: &PartKey) -> bool {
        self.claim.changes.0.get(key) == Some(&json!(""))
    }

    /// Refuses the parts of the call that `is_refused` names.
    fn refuse(&self, result: &mut WriteResult, is_refused: impl Fn(&PartKey) -> bool) {
        let refused = self.planned.covers.iter().filter(|key| is_refused(key)).cloned().collect();
        self.refuse_parts(result, &refused);
    }

    fn refuse_parts(&self, result: &mut WriteResult, refused: &BTreeSet<PartKey>) {
        let reason = json!({"code": self.answer.code(), "detail": self.answer.detail(), "at": self.now});
        let reasons: Map<String, Value> =
            refused.iter().map(|key| (key.to_string(), reason.clone())).collect();
        result.refuse = Value::Object(reasons);
        settle(result, self.claim, refused);
    }

    fn retry(&self, result: &mut WriteResult, jitter: f64) {
        let doublings = u32::try_from(self.claim.attempts.clamp(0, 16)).unwrap_or_default();
        let delay = Duration::from_secs(1).saturating_mul(1 << doublings).min(LONGEST_DELAY);
        result.attempts = self.claim.attempts.saturating_add(1);
        result.due_at = self.now + delta(delay) + delta(delay.mul_f64(jitter / 2.0));
    }
}

/// A result that settles nothing yet.
fn empty(claim: &ClaimedWrite, now: Timestamp) -> WriteResult {
    WriteResult {
        user_id: claim.user,
        epoch: claim.epoch,
        version: claim.version,
        settled: json!({}),
        is_settled: claim.changes.is_empty(),
        due_at: now + USER_GAP,
        attempts: 0,
        max_new_tags: claim.max_new_tags,
        // Until everything is settled, an earlier call may still have changed any part.
        is_in_doubt: claim.was_in_doubt,
        is_called: false,
        confirm: json!({}),
        forgets: false,
        refuse: json!({}),
        onesignal_id: None,
        does_exist: false,
        next_at: now + USER_GAP,
        holds_until: None,
        answer: "done",
        detail: String::new(),
    }
}

/// Settles parts with the values that were claimed.
fn settle(result: &mut WriteResult, claim: &ClaimedWrite, keys: &BTreeSet<PartKey>) {
    let Value::Object(settled) = &mut result.settled else { return };
    for key in keys {
        if let Some(value) = claim.changes.0.get(key) {
            settled.insert(key.to_string(), value.clone());
        }
    }
    result.is_settled = settled.len() == claim.changes.0.len();
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
