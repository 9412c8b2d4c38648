//! Choices, read in sequence: a shorter tape, or smaller numbers on it, make simpler things.

/// The choices of one case.
pub struct Tape {
    choices: Vec<u32>,
    at: usize,
}

impl Tape {
    /// A tape with these choices; past its end every choice is the first.
    pub fn new(choices: Vec<u32>) -> Self {
        Self { choices, at: 0 }
    }

    /// A number below `max`.
    pub fn below(&mut self, max: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        choice as usize % max.max(1)
    }

    /// Holds once in `times`; at the end of the tape never.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
