//! The work of an erasure. Every step can be repeated, and is, until nothing is left.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use uuid::Uuid;

use super::{AppProgress, Progress};
use crate::domain::app::App;
use crate::domain::erasure::Identifier;
use crate::domain::event::RecipientLabel;
use crate::domain::user::{UserAnswer, UserCall};
use crate::people::People;
use crate::store::erased_history::Names;
use crate::store::erasures::ClaimedErasure;
use crate::store::users::Alias;
use crate::store::{StoreError, user_removal};

/// The maximum number of erasures claimed at once.
const AT_ONCE: i64 = 4;
/// How long a claim lasts: a long history takes minutes.
const CLAIM: TimeDelta = TimeDelta::minutes(30);
/// How much longer than a call everything takes that was in progress when an erasure was requested.
const SETTLE_MARGIN: TimeDelta = TimeDelta::seconds(30);
/// OneSignal deletes later: when it is asked whether it has.
const ASK_AGAIN: TimeDelta = TimeDelta::minutes(1);
/// The delay after an error, at first; it doubles.
const AFTER_ERROR: TimeDelta = TimeDelta::seconds(15);
const LONGEST_DELAY: TimeDelta = TimeDelta::hours(1);

impl People {
    /// Works on the erasures that are due; returns how many.
    pub(in crate::people) async fn erasure_step(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let claimed = self.store.claim_erasures(AT_ONCE, now + CLAIM, now).await?;
        for one in &claimed {
            if let Err(error) = self.work_on(one).await {
                let erasure = one.erasure.id;
                tracing::warn!(erasure.id = %erasure, error = %error.with_causes(), "an erasure failed; trying again");
                let due = self.clock.now() + delay(one.attempts);
                self.store.save_erasure(erasure, &one.erasure.progress, Some(due), now).await?;
            }
        }
        Ok(claimed.len())
    }

    async fn work_on(&self, claimed: &ClaimedErasure) -> Result<(), StoreError> {
        let erasure = &claimed.erasure;
        let mut progress = Progress::of(erasure);
        if self.record.is_some() && !self.record_erasures().await {
            let due = self.clock.now() + delay(claimed.attempts);
            return self
                .store
                .save_erasure(erasure.id, &progress.to_json(), Some(due), self.clock.now())
                .await;
        }
        let mut identifiers = claimed.identifiers.clone();
        if progress.is_restored && !progress.is_searched {
            identifiers.extend(self.find_again(erasure.id).await?);
            progress.is_searched = true;
        }
        // What began before the request may still write: only what is found afterwards is certain.
        let is_settled = self.clock.now() >= erasure.requested_at + self.settle_time();
        let mut has_error = false;
        for app in self.store.apps().await? {
            let state = progress.apps.entry(app.id.to_string()).or_default();
            if state.gone_at.is_none() {
                has_error |= !self.erase_at(&app, state, &mut identifiers, is_settled).await;
            }
        }
        self.remove_rest(&mut identifiers).await?;
        let is_new = identifiers != claimed.identifiers;
        if is_new {
            self.store.add_identifiers(erasure.id, &identifiers).await?;
            self.record_erasures().await;
        }
        let names = names_of(&identifiers);
        let (ended, recalled) = self.deliveries.end_for_erased(&names).await?;
        (progress.ended, progress.recalled) = (progress.ended + ended, progress.recalled + recalled);
        if is_settled {
            let mut rows = self.store.erase_history(&names).await?;
            rows.import_rows = self.erase_import_rows(&identifiers).await?;
            progress.rows.add(rows);
        }
        let now = self.clock.now();
        let is_gone = progress.apps.values().all(|app| app.gone_at.is_some());
        let due = match () {
            () if has_error => Some(now + delay(claimed.attempts)),
            () if !is_settled => Some(erasure.requested_at + self.settle_time()),
            () if !is_gone || is_new || progress.rows.waiting > 0 => Some(now + ASK_AGAIN),
            () => None,
        };
        if due.is_none() {
            tracing::info!(erasure.id = %erasure.id, "an erasure is done");
        }
        self.store.save_erasure(erasure.id, &progress.to_json(), due, now).await
    }

    /// How long after a request everything that was in progress then has ended.
    fn settle_time(&self) -> TimeDelta {
        TimeDelta::from_std(self.limits.call_timeout).unwrap_or(TimeDelta::MAX) + SETTLE_MARGIN
    }

    /// Deletes a person at OneSignal, until it no longer knows them. Returns whether it answered.
    async fn erase_at(
        &self,
        app: &App,
        state: &mut AppProgress,
        identifiers: &mut BTreeSet<Identifier>,
        is_settled: bool,
    ) -> bool {
        if app.paused.is_some() {
            "the app is paused: no calls are made through it".clone_into(&mut state.last_answer);
            return false;
        }
        let names: Vec<Alias> = identifiers.iter().filter_map(alias_at_onesignal).collect();
        if names.is_empty() {
            "OneSignal finds no users by an address; name the person by external_id to delete them there"
                .clone_into(&mut state.last_answer);
        }
        for by in names {
            if state.deletions == 0 {
                match self.provider.identifiers_of(app, &by).await {
                    Ok(found) => identifiers.extend(found.into_iter().flatten()),
                    Err(error) => {
                        state.last_answer = error.to_string();
                        return false;
                    }
                }
            }
            let answer = self.provider.write_user(app, &UserCall::Delete { by }).await;
            answer.code().clone_into(&mut state.last_answer);
            match answer {
                UserAnswer::UnknownUser => {}
                // Their other aliases name the same user; one call a second is allowed.
                UserAnswer::Done { .. } => {
                    state.deletions += 1;
                    return true;
                }
                _ => return false,
            }
        }
        if is_settled {
            state.gone_at = Some(self.clock.now());
        }
        true
    }

    /// Removes what was stored since, by something that was in progress at the request.
    async fn remove_rest(&self, identifiers: &mut BTreeSet<Identifier>) -> Result<(), StoreError> {
        let aliases: BTreeSet<Alias> =
            identifiers.iter().map(|each| (each.label.clone(), each.id.clone())).collect();
        let mut tx = self.store.begin().await?;
        let mut removed = user_removal::remove(&mut tx, &aliases).await?;
        identifiers.extend(removed.identifiers.iter().cloned());
        let sent = user_removal::remove_mentions(&mut tx, &names_of(identifiers)).await?;
        tx.commit().await?;
        removed.actions.extend(sent);
        self.finish_removed(&removed).await
    }

    /// Deletes rejected rows of imports that name a person, and what is known of their rows in connectors' sources.
    async fn erase_import_rows(&self, identifiers: &BTreeSet<Identifier>) -> Result<u64, StoreError> {
        let ids: Vec<&str> = identifiers.iter().map(|each| each.id.as_str()).collect();
        let (mut after, mut erased) = ((Uuid::nil(), 0), self.store.erase_set_aside(&ids).await?);
        loop {
            let rows = self.store.rejected_rows_with(&ids, after).await?;
            let Some((import, line, _)) = rows.last() else { return Ok(erased) };
            after = (*import, *line);
            let theirs: Vec<(Uuid, i64)> = rows
                .iter()
                .filter(|(_, _, raw)| ids.iter().any(|id| has_field(raw, id)))
                .map(|(import, line, _)| (*import, *line))
                .collect();
            erased += self.store.delete_import_rows(&theirs).await?;
        }
    }
}

/// The alias by which OneSignal finds a user.
fn alias_at_onesignal(identifier: &Identifier) -> Option<Alias> {
    match identifier.recipient()?.label {
        RecipientLabel::ExternalId | RecipientLabel::OnesignalId | RecipientLabel::Alias(_) => {
            Some((identifier.label.clone(), identifier.id.clone()))
        }
        RecipientLabel::SubscriptionId | RecipientLabel::Email | RecipientLabel::Phone => None,
    }
}

fn names_of(identifiers: &BTreeSet<Identifier>) -> Names {
    Names::new(identifiers.iter().filter_map(Identifier::recipient).collect())
}

/// Whether a line of a CSV file has a field with this text, whatever its delimiter.
fn has_field(raw: &str, text: &str) -> bool {
    let fields = raw.split([',', ';', '\t', '|', '\n', '\r']);
    fields
        .map(|field| field.trim().trim_matches(['"', '\'']).trim())
        .any(|field| field.to_lowercase() == text.to_lowercase())
}

/// The delay after this many attempts.
fn delay(attempts: i32) -> TimeDelta {
    let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(10);
    (AFTER_ERROR * 2_i32.pow(doublings)).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_names_a_person_only_by_a_whole_field() {
        for raw in ["77,ann@shop.example", "x;\"Ann@shop.example\"", "ann@shop.example\t1"] {
            assert!(has_field(raw, "ann@shop.example"), "{raw}");
        }
        for raw in ["joann@shop.example,1", "ann@shop.example.org", ""] {
            assert!(!has_field(raw, "ann@shop.example"), "{raw}");
        }
        assert!(!has_field("177,x", "77"));
    }

    #[test]
    fn delays_double_up_to_an_hour() {
        assert_eq!(delay(1), TimeDelta::seconds(15));
        assert_eq!(delay(3), TimeDelta::minutes(1));
        assert_eq!(delay(i32::MAX), TimeDelta::hours(1));
    }
}
