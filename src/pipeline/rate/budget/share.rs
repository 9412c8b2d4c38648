//! This replica's share of an app's rate, agreed on without a lock or a message per call.
//!
//! Once a second, while it is busy, each replica writes down how much of the rate it could use and reads what the
//! others wrote. A small part of the rate is split evenly, so that an idle replica can send at once; the rest is split
//! by demand. A lower share applies at once; a higher one applies after every other replica has had time to read it.
//! The shares therefore add up to no more than the whole, except for a moment when a replica starts or becomes active.

/// The part of the rate that is split evenly, regardless of demand.
const EVEN: f64 = 0.1;
/// Exchanges after which the others have certainly read what was written.
const READ_AFTER: usize = 3;

/// What the last exchange returned about the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Others {
    /// Other live replicas.
    pub count: usize,
    /// The sum of their demands, each between 0 and 1.
    pub demand: f64,
}

/// One replica's view of one app.
#[derive(Debug, Clone)]
pub(super) struct Share {
    written: [f64; READ_AFTER],
    others: Others,
}

impl Default for Share {
    fn default() -> Self {
        Self { written: [0.0; READ_AFTER], others: Others { count: 0, demand: 0.0 } }
    }
}

impl Share {
    /// A replica that knows only how many others there are: they are assumed to want everything.
    pub fn beside(others: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a handful of replicas")]
        let demand = others as f64;
        Self { others: Others { count: others, demand }, ..Self::default() }
    }

    /// Whether it recently reported demand.
    pub fn is_wanted(&self) -> bool {
        self.written.iter().any(|demand| *demand > 0.0)
    }

    /// The part of the rate that this replica may use now, greater than 0 and at most 1.
    pub fn part(&self) -> f64 {
        if self.others.count == 0 {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of replicas")]
        let even = EVEN / (self.others.count + 1) as f64;
        let mine = self.written.iter().copied().fold(1.0, f64::min);
        let all = mine + self.others.demand;
        if all <= 0.0 { even } else { even + (1.0 - EVEN) * mine / all.max(mine) }
    }

    /// Applies an exchange: what was written, and what the others had written.
    pub fn exchanged(&mut self, written: f64, others: Others) {
        self.written.rotate_right(1);
        self.written[0] = written.clamp(0.0, 1.0);
        self.others = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn alone_it_has_everything_at_once() {
        assert!((Share::default().part() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn two_that_want_all_get_half_each_and_an_idle_one_leaves_its_part() {
        let mut shares = [Share::default(), Share::default()];
        for _ in 0..4 {
            exchange(&mut shares, &[1.0, 1.0]);
        }
        assert!((shares[0].part() - 0.5).abs() < 1e-9);
        exchange(&mut shares, &[1.0, 0.0]);
        exchange(&mut shares, &[1.0, 0.0]);
        assert!(shares[0].part() > 0.9 && shares[1].part() > 0.04);
    }

    /// In sequence, as replicas do: each writes, then reads what is stored.
    fn exchange(shares: &mut [Share], wanted: &[f64]) {
        let mut board: Vec<f64> = shares.iter().map(|share| share.written[0]).collect();
        for (index, share) in shares.iter_mut().enumerate() {
            board[index] = wanted[index];
            let demand = board.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, d)| d).sum();
            share.exchanged(wanted[index], Others { count: wanted.len() - 1, demand });
        }
    }

    proptest! {
        #[test]
        fn shares_never_add_up_to_more_than_the_whole(rounds in prop::collection::vec(prop::collection::vec(0.0..=1.0_f64, 4), 1..30)) {
            let mut shares = vec![Share::default(); 4];
            exchange(&mut shares, &[0.0; 4]);
            for wanted in rounds {
                exchange(&mut shares, &wanted);
                let sum: f64 = shares.iter().map(Share::part).sum();
                prop_assert!(sum <= 1.0 + 1e-9, "{sum}");
            }
        }
    }
}
