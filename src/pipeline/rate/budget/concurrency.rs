//! How many calls may be under way at once, as the provider's latency allows.
//!
//! More calls at once help only while they don't make each other slower. The limit grows by one for each call that came
//! back as quickly as ever while all places were taken (so it doubles with each round at first), and shrinks when calls
//! take much longer than they used to or bring no answer.

use std::time::Duration;

/// Places that there always are: even a failing provider gets a few calls, or nothing would ever be learnt.
const FEWEST: f64 = 4.0;
/// The limit at the start.
const AT_FIRST: f64 = 16.0;
/// Calls are slow when they take this many times as long as they used to …
const SLOW: f64 = 2.0;
/// … and this much longer: differences below it say nothing.
const SLACK_S: f64 = 0.05;
/// What is left of the limit after a slow call, and after one without an answer.
const AFTER_SLOW: f64 = 0.95;
const AFTER_NONE: f64 = 0.7;
/// Some calls always bring no answer. The limit shrinks when this part of the last calls did …
const MANY_WITHOUT: f64 = 0.25;
/// … where each call counts this much, and those before it the less for that.
const LAST_CALL: f64 = 0.05;
/// How quickly the usual latency follows: up slowly, so that a jam does not become the usual; down at once.
const DRIFT: f64 = 0.0001;

/// What a call's end says about the provider.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CallEnd {
    /// It answered, after this long.
    Answered(Duration),
    /// It did not, or only that it fails.
    WithIssue,
    /// It was never asked, or its answer says nothing of how it is.
    Neutral,
}

/// An adaptive limit.
#[derive(Debug, Clone)]
pub(super) struct Concurrency {
    limit: f64,
    max: f64,
    usual_s: Option<f64>,
    /// The part of the last calls that brought no answer.
    without: f64,
    /// Calls that have to end before the limit shrinks again: those that were under way when it last did.
    hold: usize,
}

impl Concurrency {
    pub fn new(max: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a setting of some hundreds")]
        let max = (max.max(1)) as f64;
        Self { limit: AT_FIRST.min(max), max, usual_s: None, without: 0.0, hold: 0 }
    }

    /// Places in all.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between one and the setting"
    )]
    pub fn places(&self) -> usize {
        self.limit.max(1.0) as usize
    }

    /// Takes note of a call that came back while `under_way` calls were out, itself among them.
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
                } else if under_way >= self.places() {
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
            let under_way = concurrency.places();
            concurrency.ended(end, under_way);
        }
        concurrency.places()
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
        assert_eq!(limit.places(), 16);
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
        assert_eq!(limit.places(), 100);
    }

    #[test]
    fn calls_that_fail_together_shrink_it_once() {
        let mut limit = Concurrency::new(100);
        after(&mut limit, 200, ms(100));
        for _ in 0..50 {
            limit.ended(CallEnd::WithIssue, 100);
        }
        assert_eq!(limit.places(), 70);
    }

    #[test]
    fn a_setting_of_one_is_kept() {
        let mut limit = Concurrency::new(1);
        assert_eq!(after(&mut limit, 50, CallEnd::WithIssue), 1);
        assert_eq!(after(&mut limit, 50, ms(1)), 1);
    }
}
