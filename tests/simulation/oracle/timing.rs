//! What the oracle says about time: calls that came too late or too soon, and batches after an opt-out.

use std::collections::HashMap;

use chrono::TimeDelta;
use herald::domain::clock::Timestamp;

use super::{Batch, Oracle};
use crate::onesignal::{Known, Post};
use crate::run::OptOut;

/// OneSignal may work on a call for so long.
const GAP: TimeDelta = TimeDelta::seconds(100);

impl Oracle<'_> {
    /// O8, and the gap after a call that may still be worked on.
    pub(super) fn calls_came_in_time(&mut self) {
        let mut late = Vec::new();
        let mut gaps = Vec::new();
        let mut before: HashMap<&str, &Post> = HashMap::new();
        for post in &self.posts {
            // An end is a time of the database's clock; the gap is one of OneSignal's.
            let began = self.run.step.as_ref().map_or(post.started_at, |s| s.by_database(post.started_at));
            let end = post.marks.iter().filter_map(|mark| self.end_of(mark, post)).min();
            let detail = format!("{} began at {began} and was over at {end:?}", post.key);
            late.push((end.is_none_or(|end| began < end), detail));
            if let Some(earlier) = before.insert(&post.key, post)
                && !post.is_urgent
                && !post.left_late
                && !earlier.left_late
                && earlier.known == Known::Nothing
            {
                let gap = post.started_at - earlier.started_at;
                gaps.push((
                    gap >= GAP,
                    format!("{} was tried again after {} s", post.key, gap.num_seconds()),
                ));
            }
        }
        for (holds, detail) in late {
            self.check("O8 no call after its time", holds, || detail);
        }
        for (holds, detail) in gaps {
            self.check("the gap after a doubtful call", holds, || detail);
        }
    }

    /// Until when an event's message is worth sending, by what its source and its rule say.
    fn end_of(&self, mark: &str, post: &Post) -> Option<Timestamp> {
        let posted = self.run.posted.iter().find(|posted| posted.mark == mark)?;
        let (_, came_at) = self.events.values().find(|(key, _)| *key == posted.event_key)?;
        let channel = post.body["target_channel"].as_str()?;
        let rule = posted.spec.rules.iter().find(|rule| rule.channel == channel)?;
        let end = *came_at + TimeDelta::seconds(rule.delay_s + rule.life_s);
        Some(posted.expires_at.map_or(end, |asked| asked.min(end)))
    }

    /// F68: nothing is frozen for who has opted out.
    pub(super) fn opted_out_is_left_alone(&mut self) {
        let mut found = Vec::new();
        for opt_out in &self.run.opt_outs {
            for batch in self.batches.iter().filter(|batch| self.is_later(batch, opt_out)) {
                let is_in = self.deliveries.iter().any(|d| {
                    batch.members.contains(&d.id)
                        && d.target == opt_out.person
                        && d.channel == opt_out.channel
                });
                let detail =
                    format!("{} is in a batch after opting out of {}", opt_out.person, opt_out.channel);
                found.push((!is_in, detail));
            }
        }
        for (holds, detail) in found {
            self.check("who opted out is left alone", holds, || detail);
        }
    }

    /// Whether a batch was made after someone opted out. Times on the two sides of a step can't be compared.
    fn is_later(&self, batch: &Batch, opt_out: &OptOut) -> bool {
        let is_later = batch.created_at > opt_out.since;
        match &self.run.step {
            None => is_later,
            Some(step) if opt_out.is_after_step => is_later && !step.batches.contains(&batch.id),
            Some(step) => is_later || !step.batches.contains(&batch.id),
        }
    }
}
