//! Compares two versions of a template. There is one look at the data, at a size that is fixed beforehand: with an
//! interval that is read every day, a difference shows up in a quarter of the comparisons of equal versions.

use chrono::NaiveDate;

use crate::domain::clock::Timestamp;
use crate::domain::outcome::WINDOW;

/// The quantile of a 95 % interval.
const Z: f64 = 1.959_964;
/// Versions were sent side by side if this share of the people of each was reached on days of both.
const SIDE_BY_SIDE: f64 = 0.9;
/// And on at least this many days: on one day, a version may have replaced the other.
const SHARED_DAYS: usize = 2;

/// One day of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCount {
    /// The day on which the messages were sent.
    pub day: NaiveDate,
    /// People with any outcome.
    pub people: i64,
    /// Those of them who did what is compared.
    pub successes: i64,
}

/// People of one version, and how many of them did it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arm {
    /// People.
    pub people: i64,
    /// Successes.
    pub successes: i64,
}

impl Arm {
    /// The share; `None` without people.
    #[expect(clippy::cast_precision_loss, reason = "counts of people are far below 2^52")]
    pub fn rate(self) -> Option<f64> {
        (self.people > 0).then(|| self.successes as f64 / self.people as f64)
    }
}

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// Not enough people yet.
    TooEarly {
        /// People of the smaller version so far.
        people: i64,
    },
    /// The interval contains 0.
    NoDifference,
    /// The second version is better.
    Better,
    /// The second version is worse.
    Worse,
}

/// A comparison at its fixed size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The first version.
    pub a: Arm,
    /// The second version.
    pub b: Arm,
    /// The 95 % interval of the difference; `None` while it is too early.
    pub difference: Option<(f64, f64)>,
    /// The result.
    pub verdict: Verdict,
    /// Whether both were sent at the same time; otherwise it is a before and after, and no test.
    pub is_test: bool,
}

/// Compares two versions as soon as each has reached `people` on days whose outcomes are complete. Later days change
/// nothing.
pub fn compare(a: &[DayCount], b: &[DayCount], people: i64, now: Timestamp) -> Comparison {
    let (a_days, b_days) = (complete(a, now), complete(b, now));
    let is_test = are_side_by_side(&a_days, &b_days);
    let (a, b) = if is_test {
        // Both up to the same day.
        let mut days: Vec<NaiveDate> = a_days.iter().chain(&b_days).map(|day| day.day).collect();
        days.sort_unstable();
        days.dedup();
        let upto = |last: NaiveDate| (sum(&a_days, Some(last)), sum(&b_days, Some(last)));
        let reached = days.into_iter().map(upto).find(|(a, b)| a.people.min(b.people) >= people);
        reached.unwrap_or_else(|| (sum(&a_days, None), sum(&b_days, None)))
    } else {
        (first(&a_days, people), first(&b_days, people))
    };
    let smaller = a.people.min(b.people);
    if smaller < people.max(1) {
        return Comparison {
            a,
            b,
            difference: None,
            verdict: Verdict::TooEarly { people: smaller },
            is_test,
        };
    }
    let (low, high) = newcombe(a, b);
    let verdict = if low > 0.0 {
        Verdict::Better
    } else if high < 0.0 {
        Verdict::Worse
    } else {
        Verdict::NoDifference
    };
    Comparison { a, b, difference: Some((low, high)), verdict, is_test }
}

/// The days whose outcomes no longer change, in their order.
fn complete(days: &[DayCount], now: Timestamp) -> Vec<DayCount> {
    let is_complete = |day: NaiveDate| {
        let end = day.succ_opt().unwrap_or(day).and_time(chrono::NaiveTime::MIN).and_utc();
        end + WINDOW <= now
    };
    let mut days: Vec<DayCount> =
        days.iter().copied().filter(|day| is_complete(day.day) && day.people > 0).collect();
    days.sort_by_key(|day| day.day);
    days
}

fn sum(days: &[DayCount], last: Option<NaiveDate>) -> Arm {
    let counted = days.iter().filter(|day| last.is_none_or(|last| day.day <= last));
    counted.fold(Arm::default(), |arm, day| Arm {
        people: arm.people + day.people,
        successes: arm.successes + day.successes,
    })
}

/// The first days of a version that together reach this many people.
fn first(days: &[DayCount], people: i64) -> Arm {
    let mut upto = days.iter().map(|day| sum(days, Some(day.day)));
    upto.find(|arm| arm.people >= people).unwrap_or_else(|| sum(days, None))
}

#[expect(clippy::cast_precision_loss, reason = "counts of people are far below 2^52")]
fn are_side_by_side(a: &[DayCount], b: &[DayCount]) -> bool {
    let shared = |one: &[DayCount], other: &[DayCount]| {
        let both = one.iter().filter(|day| other.iter().any(|its| its.day == day.day));
        let (days, people) = both.fold((0, 0), |(days, people), day| (days + 1, people + day.people));
        (days, people as f64 >= SIDE_BY_SIDE * sum(one, None).people as f64)
    };
    let ((days, most_of_a), (_, most_of_b)) = (shared(a, b), shared(b, a));
    days >= SHARED_DAYS && most_of_a && most_of_b
}

/// Newcombe's 95 % interval of the difference of two shares, from the Wilson interval of each.
fn newcombe(a: Arm, b: Arm) -> (f64, f64) {
    let (rate_a, rate_b) = (a.rate().unwrap_or_default(), b.rate().unwrap_or_default());
    let ((low_a, high_a), (low_b, high_b)) = (wilson(a), wilson(b));
    let difference = rate_b - rate_a;
    (
        difference - (rate_b - low_b).hypot(high_a - rate_a),
        difference + (high_b - rate_b).hypot(rate_a - low_a),
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts of people are far below 2^52")]
fn wilson(arm: Arm) -> (f64, f64) {
    let (people, rate) = (arm.people.max(1) as f64, arm.rate().unwrap_or_default());
    let squared = Z * Z;
    let centre = rate + squared / (2.0 * people);
    let width = Z * (rate * (1.0 - rate) / people + squared / (4.0 * people * people)).sqrt();
    let scale = 1.0 + squared / people;
    ((centre - width) / scale, (centre + width) / scale)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn day(n: u64) -> NaiveDate {
        "2026-11-01".parse::<NaiveDate>().unwrap() + chrono::Days::new(n)
    }

    /// The end of this day's outcomes.
    fn after(n: u64) -> Timestamp {
        day(n + 1).and_time(chrono::NaiveTime::MIN).and_utc() + WINDOW
    }

    fn days(counts: &[(u64, i64, i64)]) -> Vec<DayCount> {
        counts
            .iter()
            .map(|(n, people, successes)| DayCount { day: day(*n), people: *people, successes: *successes })
            .collect()
    }

    #[test]
    fn the_interval_is_that_of_newcombe_s_paper() {
        // Table II (a), method 10: 56/70 and 48/80.
        let (low, high) = newcombe(Arm { people: 80, successes: 48 }, Arm { people: 70, successes: 56 });
        assert!((low - 0.0524).abs() < 5e-5 && (high - 0.3339).abs() < 5e-5, "{low} {high}");
    }

    #[test]
    fn before_the_fixed_size_it_is_too_early_and_afterwards_nothing_changes() {
        let a = days(&[(0, 310, 31), (1, 700, 70), (2, 900, 0)]);
        let b = days(&[(0, 320, 40), (1, 700, 150), (2, 900, 900)]);
        assert_eq!(compare(&a, &b, 1_000, after(0)).verdict, Verdict::TooEarly { people: 310 });
        let reached = compare(&a, &b, 1_000, after(1));
        assert_eq!(reached.verdict, Verdict::Better);
        assert_eq!((reached.a.people, reached.b.people, reached.is_test), (1_010, 1_020, true));
        assert_eq!(compare(&a, &b, 1_000, after(9)), reached, "the same on day 2 and on day 10");
    }

    #[test]
    fn versions_one_after_the_other_are_no_test() {
        let a = days(&[(0, 1_000, 100), (1, 1_000, 100)]);
        let b = days(&[(1, 50, 5), (2, 1_000, 180), (3, 1_000, 180)]);
        let compared = compare(&a, &b, 1_000, after(5));
        assert!(!compared.is_test);
        assert_eq!(compared.verdict, Verdict::Better);
    }

    #[test]
    fn equal_versions_read_daily_differ_in_at_most_one_of_twenty() {
        let mut random = StdRng::seed_from_u64(27);
        let mut draw = |people: i64| (0..people).filter(|_| random.random_bool(0.2)).count();
        let mut wrong = 0;
        for _ in 0..2_000 {
            let mut arm = || -> Vec<DayCount> {
                let day =
                    |n| DayCount { day: day(n), people: 60, successes: i64::try_from(draw(60)).unwrap() };
                (0..12).map(day).collect()
            };
            let (a, b) = (arm(), arm());
            let mut looks = (0..12).map(|n| compare(&a, &b, 500, after(n)).verdict);
            wrong += i32::from(looks.any(|verdict| matches!(verdict, Verdict::Better | Verdict::Worse)));
        }
        assert!(wrong <= 100, "{wrong} of 2,000");
    }
}
