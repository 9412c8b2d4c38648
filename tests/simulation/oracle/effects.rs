//! What the oracle says about effects: each fits the state of its delivery, and someone had asked for it.

use herald::domain::clock::Timestamp;

use super::Oracle;
use crate::catalog::SEGMENT;
use crate::onesignal::Reached;

impl Oracle<'_> {
    /// O2: accepted is one effect, unknown is one or none, every other end is none.
    pub(super) fn effects_fit_states(&mut self) {
        const NAME: &str = "O2 effects fit states";
        let fitting: Vec<(bool, String)> = self
            .deliveries
            .iter()
            .filter_map(|delivery| {
                let posted = self.posted_of(delivery.event)?;
                let reached = (posted.mark.clone(), delivery.channel.clone(), delivery.target.clone());
                let of_it = self.effects.get(&reached).map_or(&[][..], Vec::as_slice);
                let effects = of_it.len();
                let fits = match delivery.state.as_str() {
                    "accepted" => effects == 1,
                    "unknown" => effects <= 1,
                    _ => effects == 0,
                } || self.fits_after_restore(&delivery.state, of_it);
                let detail = format!(
                    "{} of {} to {} is {} with {effects} effects: {of_it:?}",
                    delivery.id, posted.event_key, delivery.target, delivery.state
                );
                Some((fits, detail))
            })
            .collect();
        for (fits, detail) in fitting {
            self.check(NAME, fits, || detail);
        }
    }

    /// O3: only intended recipients were reached.
    pub(super) fn no_effect_without_a_post(&mut self) {
        let effects: Vec<Reached> = self.effects.keys().cloned().collect();
        for (mark, channel, target) in effects {
            let posted = self.run.posted.iter().find(|posted| posted.mark == mark);
            let is_wanted = posted.is_some_and(|posted| {
                posted.spec.rules.iter().any(|rule| {
                    let targets = if rule.is_audience { vec![SEGMENT] } else { posted.recipients.clone() };
                    rule.channel == channel && targets.contains(&target.as_str())
                })
            });
            self.check("O3 no effect without a post", is_wanted, || {
                format!("{mark} to {target} by {channel}")
            });
        }
    }

    /// After a restore, calls that it lost count as well: their effects are there, whatever the books say. One that had
    /// been made alone is recognized when it is made again; one that several had shared may have a second effect.
    fn fits_after_restore(&self, state: &str, effects: &[(Timestamp, String)]) -> bool {
        let Some(restored) = self.run.restored else { return false };
        let lost: Vec<_> = self.posts.iter().filter(|post| restored.lost(post.started_at)).collect();
        let is_lost = |(_, key): &&(Timestamp, String)| lost.iter().any(|post| post.key == *key);
        let had_shared = |key: &str| lost.iter().any(|post| post.key == key && post.targets.len() > 1);
        let shared = effects.iter().any(|(_, key)| had_shared(key));
        let since = effects.len() - effects.iter().filter(is_lost).count();
        let max = if shared { 2 } else { 1 };
        match state {
            "accepted" => (1..=max).contains(&effects.len()),
            "unknown" => effects.len() <= max && since <= 1,
            _ => effects.len() <= max && since == 0,
        }
    }
}
