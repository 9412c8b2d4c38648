//! An adaptive limit on concurrent calls that follows the provider's latency.
//!
//! More concurrent calls help only while they don't slow each other down. The limit grows by one for each call that
//! returned at the usual latency while all slots were taken (so at first it doubles every round), and shrinks when
//! calls take much longer than usual or get no answer.

use std::time::Duration;

/// The minimum: even a failing provider gets a few calls, or a recovery would never be noticed.
const FEWEST: f64 = 4.0;
/// The initial limit.
const AT_FIRST: f64 = 16.0;
/// Calls are slow if they take this many times as long as usual …
const SLOW: f64 = 2.0;
/// … and this much longer: smaller differences are noise.
const SLACK_S: f64 = 0.05;
/// The factor applied to the limit after a slow call, and after one without an answer.
const AFTER_SLOW: f64 = 0.95;
const AFTER_NONE: f64 = 0.7;
/// Some calls always fail. The limit shrinks when this share of the recent calls got no answer …
const MANY_WITHOUT: f64 = 0.25;
/// … where each call has this weight in a moving average.
const LAST_CALL: f64 = 0.05;
/// How quickly the usual latency follows: up slowly, so that congestion does not become the norm; down at once.
const DRIFT: f64 = 0.0001;

/// What the end of a call says about the provider's health.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CallEnd {
    /// It answered, after this long.
    Answered(Duration),
    /// It did not answer, or only with a failure.
    WithIssue,
    /// It was never called, or its answer says nothing about its health.
    Neutral,
}

/// An adaptive limit.
#[derive(Debug, Clone)]
pub(super) struct Concurrency {
    limit: f64,
    max: f64,
    usual_s: Option<f64>,
    /// The share of the recent calls that got no answer.
    without: f64,
    /// Calls that have to end before the limit may shrink again: those that were in flight when it last did.
    hold: usize,
}

impl Concurrency {
    pub fn new(max: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a setting of some hundreds")]
        let max = (max.max(1)) as f64;
        Self { limit: AT_FIRST.min(max), max, usual_s: None, without: 0.0, hold: 0 }
    }

    /// The limit, in slots.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between one and the setting"
    )]
    pub fn slots(&self) -> usize {
        self.limit.max(1.0) as usize
    }

    /// Records the end of a call, with the number of calls in flight, including this one.
    pub fn ended(&mut self, end: CallEnd, under_way: usize) {
        self.hold = self.hold.saturating_sub(1);
        match end {
            CallEnd::Neutral => {}
            CallEnd::WithIssue => {
                self.without += (1.0 - self.without) * LAST_CALL;
                if self.without > MANY_WITHOUT {
                    self.shrink(AFTER_NONE, under_way);
                }
            }
            CallEnd::Answered(took) => {
                self.without -= self.without * LAST_CALL;
                let took = took.as_secs_f64();
                let usual =
                    self.usual_s.map_or(took, |usual| usual.min(took) + DRIFT * (took - usual).max(0.0));
                self.usual_s = Some(usual);
                if took > usual * SLOW && took > usual + SLACK_S {
                    self.shrink(AFTER_SLOW, under_way);
                } else if under_way >= self.slots() {
                    self.limit = (self.limit + 1.0).min(self.max);
                }
            }
        }
    }

    fn shrink(&mut self, part: f64, under_way: usize) {
        if self.hold == 0 {
            self.limit = (self.limit * part).max(FEWEST.min(self.max));
            self.hold = under_way;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(concurrency: &mut Concurrency, calls: usize, end: CallEnd) -> usize {
        for _ in 0..calls {
            let under_way = concurrency.slots();
            concurrency.ended(end, under_way);
        }
        concurrency.slots()
    }

    fn ms(ms: u64) -> CallEnd {
        CallEnd::Answered(Duration::from_millis(ms))
    }

    #[test]
    fn it_grows_while_calls_stay_quick_and_all_places_are_taken() {
        let mut limit = Concurrency::new(200);
        assert_eq!(after(&mut limit, 300, ms(100)), 200);
    }

    #[test]
    fn it_stays_where_it_is_while_places_are_free() {
        let mut limit = Concurrency::new(200);
        for _ in 0..300 {
            limit.ended(ms(100), 1);
        }
        assert_eq!(limit.slots(), 16);
    }

    #[test]
    fn it_shrinks_when_calls_take_much_longer_and_recovers_when_they_don_t() {
        let mut limit = Concurrency::new(100);
        after(&mut limit, 200, ms(100));
        let jammed = after(&mut limit, 2_000, ms(900));
        assert!(jammed < 60, "{jammed}");
        assert_eq!(after(&mut limit, 400, ms(100)), 100);
    }

    #[test]
    fn a_failing_provider_gets_a_few_calls_and_no_more() {
        let mut limit = Concurrency::new(100);
        after(&mut limit, 200, ms(100));
        assert_eq!(after(&mut limit, 2_000, CallEnd::WithIssue), 4);
    }

    #[test]
    fn a_few_calls_without_an_answer_change_nothing() {
        let mut limit = Concurrency::new(100);
        after(&mut limit, 200, ms(100));
        for _ in 0..100 {
            after(&mut limit, 19, ms(100));
            after(&mut limit, 1, CallEnd::WithIssue);
        }
        assert_eq!(limit.slots(), 100);
    }

    #[test]
    fn calls_that_fail_together_shrink_it_once() {
        let mut limit = Concurrency::new(100);
        after(&mut limit, 200, ms(100));
        for _ in 0..50 {
            limit.ended(CallEnd::WithIssue, 100);
        }
        assert_eq!(limit.slots(), 70);
    }

    #[test]
    fn a_setting_of_one_is_kept() {
        let mut limit = Concurrency::new(1);
        assert_eq!(after(&mut limit, 50, CallEnd::WithIssue), 1);
        assert_eq!(after(&mut limit, 50, ms(1)), 1);
    }
}
