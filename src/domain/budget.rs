//! Limits on the cost of work on input.
//!
//! The author of copy, an expression, a schema or an event determines how long it takes to process, and no timeout
//! outside can stop a loop. So everything that parses, checks, renders, converts or evaluates input takes a [`Budget`]
//! and pays from it as it goes; once the budget is spent, each further payment fails and the work ends.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::clock::Deadline;

/// The maximum cost of a piece of work.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Steps in all: tokens read, nodes visited, elements handled, tests made.
    pub steps: u64,
    /// Bytes read, compared or written, in all.
    pub work: u64,
    /// Bytes of values and texts made, in all.
    pub memory: u64,
    /// Bytes of the longest text that may be made.
    pub length: usize,
    /// Levels of nesting that are followed.
    pub depth: usize,
    /// When the work has to end, if ever.
    pub deadline: Option<Deadline>,
}

impl Limits {
    /// One field of one message.
    pub const RENDERING: Self = Self {
        steps: 100_000,
        work: 16 * 1024 * 1024,
        memory: 16 * 1024 * 1024,
        length: 256 * 1024,
        depth: 64,
        deadline: None,
    };

    /// One expression for one event.
    pub const EXPRESSION: Self = Self {
        steps: 100_000,
        work: 32 * 1024 * 1024,
        memory: 1024 * 1024,
        length: 1024 * 1024,
        depth: 64,
        deadline: None,
    };

    /// The data of one event, validated against its schema.
    pub const VALIDATION: Self = Self { steps: 20_000_000, ..Self::EXPRESSION };

    /// The copy of one message in one locale, compiled or checked for one event type.
    pub const COPY: Self = Self { steps: 2_000_000, work: 256 * 1024 * 1024, ..Self::JOB };

    /// A whole job: the work of one request or one event.
    pub const JOB: Self = Self {
        steps: 50_000_000,
        work: 1024 * 1024 * 1024,
        memory: 128 * 1024 * 1024,
        length: 1024 * 1024,
        depth: 128,
        deadline: None,
    };

    /// A small event, planned on the thread that read it: about a millisecond.
    pub const INLINE: Self = Self {
        steps: 20_000,
        work: 2 * 1024 * 1024,
        memory: 1024 * 1024,
        length: 64 * 1024,
        depth: 64,
        deadline: None,
    };

    /// The same with a deadline.
    #[must_use]
    pub fn until(self, deadline: Deadline) -> Self {
        Self { deadline: Some(deadline), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::JOB
    }
}

/// A budget is spent; the text says which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent(pub &'static str);

impl fmt::Display for Spent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            "steps" => "it needs too many steps",
            "output" => "it produces a text that is too long",
            "memory" => "it needs too much memory",
            "depth" => "it is nested too deeply",
            "time" => "it takes too long",
            _ => "it processes too much text",
        })
    }
}

impl std::error::Error for Spent {}

/// The number of payments between two checks of the deadline.
const PAYMENTS_BETWEEN_LOOKS: u32 = 64;
/// Bytes of work that count as one payment.
const WORK_PER_PAYMENT: u64 = 1024;

/// What is left of some [`Limits`]. A clone is another handle of the same budget.
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    limits: Limits,
    steps: AtomicU64,
    work: AtomicU64,
    memory: AtomicU64,
    payments: AtomicU32,
    spent: OnceLock<Spent>,
    whole: Option<Budget>,
}

impl Budget {
    /// A full budget.
    pub fn new(limits: Limits) -> Self {
        Self::open(limits, None)
    }

    /// A budget within this one: what is paid from it is paid from both, and whichever is spent first ends the work.
    #[must_use]
    pub fn part(&self, limits: Limits) -> Self {
        Self::open(limits, Some(self.clone()))
    }

    fn open(limits: Limits, whole: Option<Budget>) -> Self {
        Self(Arc::new(Account {
            steps: AtomicU64::new(limits.steps),
            work: AtomicU64::new(limits.work),
            memory: AtomicU64::new(limits.memory),
            // So that a deadline that has passed is seen at the first payment.
            payments: AtomicU32::new(PAYMENTS_BETWEEN_LOOKS),
            spent: OnceLock::new(),
            limits,
            whole,
        }))
    }

    /// Takes `count` steps.
    ///
    /// # Errors
    /// [`Spent`], now and from then on.
    pub fn steps(&self, count: usize) -> Result<(), Spent> {
        self.pay(|account| &account.steps, count, "steps", 1)
    }

    /// Reads, compares or writes `bytes` bytes.
    ///
    /// # Errors
    /// [`Spent`], now and from then on.
    pub fn work(&self, bytes: usize) -> Result<(), Spent> {
        let payments = 1 + u32::try_from(wide(bytes) / WORK_PER_PAYMENT).unwrap_or(PAYMENTS_BETWEEN_LOOKS);
        self.pay(|account| &account.work, bytes, "work on text", payments)
    }

    /// Produces values of `bytes` bytes.
    ///
    /// # Errors
    /// [`Spent`], now and from then on.
    pub fn memory(&self, bytes: usize) -> Result<(), Spent> {
        self.pay(|account| &account.memory, bytes, "memory", 1)
    }

    /// Rejects a text that is longer than the limit.
    ///
    /// # Errors
    /// [`Spent`], now and from then on.
    pub fn length(&self, bytes: usize) -> Result<(), Spent> {
        self.accounts().try_for_each(|account| account.within(bytes <= account.limits.length, "output"))
    }

    /// Rejects nesting deeper than the limit.
    ///
    /// # Errors
    /// [`Spent`], now and from then on.
    pub fn depth(&self, depth: usize) -> Result<(), Spent> {
        self.accounts().try_for_each(|account| account.within(depth <= account.limits.depth, "depth"))
    }

    /// What was spent first, if anything.
    pub fn spent(&self) -> Option<Spent> {
        self.accounts().find_map(|account| account.spent.get().copied())
    }

    /// What has been paid from this budget's own limits so far: steps, bytes of work, bytes of memory.
    pub fn paid(&self) -> (u64, u64, u64) {
        let Account { limits, steps, work, memory, .. } = &*self.0;
        let paid = |limit: u64, left: &AtomicU64| limit - left.load(Ordering::Relaxed);
        (paid(limits.steps, steps), paid(limits.work, work), paid(limits.memory, memory))
    }

    fn accounts(&self) -> impl Iterator<Item = &Account> {
        std::iter::successors(Some(&*self.0), |account| account.whole.as_ref().map(|whole| &*whole.0))
    }

    fn pay(
        &self,
        kind: impl Fn(&Account) -> &AtomicU64,
        amount: usize,
        what: &'static str,
        payments: u32,
    ) -> Result<(), Spent> {
        self.accounts().try_for_each(|account| {
            account.spent.get().map_or(Ok(()), |spent| Err(*spent))?;
            let take = |left: u64| left.checked_sub(wide(amount));
            let is_left = kind(account).try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
            account.within(is_left, what)?;
            account.look(payments)
        })
    }
}

impl Account {
    fn within(&self, is_within: bool, what: &'static str) -> Result<(), Spent> {
        if is_within { Ok(()) } else { Err(*self.spent.get_or_init(|| Spent(what))) }
    }

    /// Checks the deadline now and then.
    fn look(&self, payments: u32) -> Result<(), Spent> {
        let Some(deadline) = self.limits.deadline else { return Ok(()) };
        if self.payments.fetch_add(payments, Ordering::Relaxed) < PAYMENTS_BETWEEN_LOOKS {
            return Ok(());
        }
        self.payments.store(0, Ordering::Relaxed);
        self.within(!deadline.passed(), "time")
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (steps, work, memory) = self.paid();
        formatter
            .debug_struct("Budget")
            .field("steps_paid", &steps)
            .field("work_paid", &work)
            .field("memory_paid", &memory)
            .field("spent", &self.spent())
            .finish_non_exhaustive()
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_part_pays_from_the_whole_and_ends_with_it() {
        let whole = Budget::new(Limits { steps: 10, ..Limits::JOB });
        let part = whole.part(Limits { steps: 6, ..Limits::JOB });
        assert_eq!(part.steps(6), Ok(()));
        assert_eq!(part.steps(1), Err(Spent("steps")));
        assert_eq!(whole.spent(), None, "a part that is spent leaves the rest of the whole");
        let other = whole.part(Limits::JOB);
        assert_eq!(other.steps(5), Err(Spent("steps")));
        assert_eq!((whole.spent(), other.spent()), (Some(Spent("steps")), Some(Spent("steps"))));
    }

    #[test]
    fn what_is_spent_stays_spent() {
        let budget = Budget::new(Limits { work: 3, ..Limits::JOB });
        assert_eq!(budget.work(4), Err(Spent("work on text")));
        assert_eq!(budget.steps(1), Err(Spent("work on text")));
    }

    #[test]
    fn a_deadline_that_has_passed_is_seen_at_once() {
        let budget = Budget::new(Limits::JOB.until(Deadline::after(Duration::ZERO)));
        assert_eq!(budget.steps(1), Err(Spent("time")));
        let part = Budget::new(Limits::JOB.until(Deadline::after(Duration::ZERO))).part(Limits::RENDERING);
        assert_eq!(part.work(1), Err(Spent("time")));
    }

    #[test]
    fn depth_and_length_are_bounds_and_no_sums() {
        let budget = Budget::new(Limits { depth: 2, length: 5, ..Limits::JOB });
        assert!((0..100).all(|_| budget.depth(2).is_ok() && budget.length(5).is_ok()));
        assert_eq!(budget.length(6), Err(Spent("output")));
        let budget = Budget::new(Limits { depth: 2, ..Limits::JOB });
        assert_eq!(budget.depth(3), Err(Spent("depth")));
    }
}
