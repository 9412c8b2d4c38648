//! Scheduling between priorities: the most urgent pending one is served first, but lower ones never starve.

use crate::domain::channel::Priority;

/// What a pending priority earns with each call that another one gets, as a fraction of a call.
const NORMAL_EARNS: f32 = 0.25;
const BULK_EARNS: f32 = 0.1;

/// The priorities that have something to send, in the order of [`Priority::ALL`].
pub type Waiting = [bool; 3];

/// Scheduling between the priorities of one app.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    earned: [f32; 3],
}

impl Turns {
    /// The priority to serve next; `None` if nothing is pending.
    pub fn next(&self, waiting: Waiting) -> Option<Priority> {
        let is_owed = |index: &usize| waiting[*index] && self.earned[*index] >= 1.0;
        // The least urgent one first: it earns the least, so it is due least often.
        let owed = (0..Priority::ALL.len()).rev().find(is_owed);
        owed.or_else(|| waiting.iter().position(|waits| *waits)).map(|index| Priority::ALL[index])
    }

    /// Records a call for `priority` while these priorities were pending.
    pub fn took(&mut self, priority: Priority, waiting: Waiting) {
        for (index, earns) in [0.0, NORMAL_EARNS, BULK_EARNS].into_iter().enumerate() {
            if Priority::ALL[index] == priority {
                self.earned[index] = 0.0;
            } else if waiting[index] {
                self.earned[index] += earns;
            } else {
                self.earned[index] = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(waiting: Waiting, calls: usize) -> [usize; 3] {
        let mut turns = Turns::default();
        let mut had = [0; 3];
        for _ in 0..calls {
            let Some(priority) = turns.next(waiting) else { break };
            turns.took(priority, waiting);
            had[Priority::ALL.iter().position(|l| *l == priority).unwrap()] += 1;
        }
        had
    }

    #[test]
    fn urgent_goes_first_and_nothing_starves() {
        let [urgent, normal, bulk] = turns([true, true, true], 1_000);
        assert!(urgent > 650 && normal > 150 && bulk > 80, "{urgent} {normal} {bulk}");
    }

    #[test]
    fn who_is_alone_gets_every_turn() {
        assert_eq!(turns([false, false, true], 10), [0, 0, 10]);
        assert_eq!(turns([false, false, false], 10), [0, 0, 0]);
    }

    #[test]
    fn bulk_gets_one_turn_in_eleven_beside_normal() {
        let [_, normal, bulk] = turns([false, true, true], 1_100);
        assert_eq!((normal, bulk), (1_000, 100));
    }
}
