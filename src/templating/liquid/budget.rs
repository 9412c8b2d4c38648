//! What a rendering may use up.

use crate::domain::clock::Deadline;

/// How far one rendering may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes that the text, and any text on the way to it, may have.
    pub output_bytes: usize,
    /// The most steps: nodes visited, elements handled, tests made.
    pub steps: usize,
    /// When to give up, if ever.
    pub deadline: Option<Deadline>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output_bytes: 256 * 1024, steps: 100_000, deadline: None }
    }
}

/// A budget is spent; the text says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent(pub &'static str);

/// How many bytes may be handled on the way, for each byte that may come out.
const WORK_PER_BYTE: usize = 64;
/// How many charges pass between two looks at the clock.
const CHARGES_BETWEEN_LOOKS: usize = 64;

/// What is left of the limits.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    steps: usize,
    work: usize,
    charges: usize,
}

impl Budget {
    /// A full budget.
    pub fn new(limits: &Limits) -> Self {
        let work = limits.output_bytes.saturating_mul(WORK_PER_BYTE);
        Self { limits: *limits, steps: limits.steps, work, charges: 0 }
    }

    /// Takes `count` steps.
    pub fn steps(&mut self, count: usize) -> Result<(), Spent> {
        self.steps = self.steps.checked_sub(count).ok_or(Spent("steps"))?;
        self.look(1)
    }

    /// Takes the handling of `count` bytes.
    pub fn work(&mut self, count: usize) -> Result<(), Spent> {
        self.work = self.work.checked_sub(count).ok_or(Spent("work on text"))?;
        self.look(1 + count / 1024)
    }

    /// Refuses a text that is longer than any may be.
    pub fn length(&self, bytes: usize) -> Result<(), Spent> {
        if bytes > self.limits.output_bytes { Err(Spent("output")) } else { Ok(()) }
    }

    fn look(&mut self, charges: usize) -> Result<(), Spent> {
        self.charges += charges;
        if self.charges < CHARGES_BETWEEN_LOOKS {
            return Ok(());
        }
        self.charges = 0;
        if self.limits.deadline.is_some_and(|deadline| deadline.passed()) {
            Err(Spent("time"))
        } else {
            Ok(())
        }
    }
}
