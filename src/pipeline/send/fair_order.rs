//! The order of the memory queue: sources take turns, and a person with many pending messages lets others pass.
//!
//! Each delivery gets a number when it is queued, and the lowest is sent first. A source's next delivery comes one
//! after its previous one, but never before what has already been reached: ten thousand deliveries of a noisy source
//! and one of a quiet one are sent nearly side by side. Each priority is counted separately.

use std::collections::HashMap;

use crate::domain::channel::Priority;
use crate::domain::event::Recipient;
use crate::domain::id::SourceId;

/// How many others may pass between two deliveries to the same person: they can't share a call anyway.
const PERSON_GAP: u64 = 64;

/// The last number of each source and person, and the number that has been reached.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct FairOrder {
    reached: HashMap<Priority, u64>,
    last_of_source: HashMap<(Priority, SourceId), u64>,
    last_of_person: HashMap<(Priority, Recipient), u64>,
}

impl FairOrder {
    /// The number of one more delivery; never 0.
    pub fn turn_of(&mut self, priority: Priority, source: SourceId, person: Option<&Recipient>) -> u64 {
        let reached = self.reached.get(&priority).copied().unwrap_or_default();
        let last = self.last_of_source.entry((priority, source)).or_default();
        let mut turn = reached.max(*last) + 1;
        *last = turn;
        if let Some(person) = person {
            // Its position in its source stays counted, but it waits a little longer: the source's others pass.
            let last = self.last_of_person.entry((priority, person.clone())).or_default();
            if *last > reached {
                turn = turn.max(*last + PERSON_GAP);
            }
            *last = turn;
        }
        turn
    }

    /// Notes a number that was reached.
    pub fn reached(&mut self, priority: Priority, turn: u64) {
        let reached = self.reached.entry(priority).or_default();
        *reached = (*reached).max(turn);
    }

    /// Forgets everything once the queue is empty.
    pub fn begin_anew(&mut self) {
        self.reached.clear();
        self.last_of_source.clear();
        self.last_of_person.clear();
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::id::TypedId;
    use crate::pipeline::send::fair_order::*;
    use uuid::Uuid;

    fn source(n: u128) -> SourceId {
        SourceId::from_uuid(Uuid::from_u128(n))
    }

    fn person(name: &str) -> Recipient {
        Recipient::parse("external_id", name).unwrap()
    }

    #[test]
    fn a_quiet_source_is_not_behind_everything_of_a_noisy_one() {
        let mut order = FairOrder::default();
        let noisy: Vec<u64> = (0..1_000).map(|_| order.turn_of(Priority::Normal, source(1), None)).collect();
        order.reached(Priority::Normal, noisy[99]);
        let quiet = order.turn_of(Priority::Normal, source(2), None);
        assert_eq!(quiet, noisy[100]);
    }

    #[test]
    fn one_source_goes_in_order() {
        let mut order = FairOrder::default();
        let turns: Vec<u64> = (0..10).map(|_| order.turn_of(Priority::Normal, source(1), None)).collect();
        assert!(turns.is_sorted() && turns[0] > 0);
    }

    #[test]
    fn ten_thousand_to_one_person_let_the_others_pass() {
        let mut order = FairOrder::default();
        let hot = person("hot");
        let hot: Vec<u64> =
            (0..10_000).map(|_| order.turn_of(Priority::Normal, source(1), Some(&hot))).collect();
        let other = order.turn_of(Priority::Normal, source(1), Some(&person("other")));
        let before = hot.iter().filter(|turn| **turn < other).count();
        assert!(before < 200, "{before} of the noisy source's come first");
    }

    #[test]
    fn priorities_are_counted_apart() {
        let mut order = FairOrder::default();
        for _ in 0..100 {
            order.turn_of(Priority::Bulk, source(1), None);
        }
        assert_eq!(order.turn_of(Priority::Urgent, source(1), None), 1);
    }
}
