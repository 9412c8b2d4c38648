//! What a run counts, for people to read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// What happened, over one seed or many.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub seeds: u64,
    pub steps: u64,
    pub events: u64,
    pub calls: u64,
    /// Issues by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Deliveries by the state that they ended in.
    pub ends: BTreeMap<String, u64>,
    /// Checks by invariant.
    pub checks: BTreeMap<&'static str, u64>,
    /// Virtual time that went by.
    pub hours: f64,
}

impl Report {
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.events += other.events;
        self.calls += other.calls;
        self.hours += other.hours;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (state, count) in &other.ends {
            *self.ends.entry(state.clone()).or_default() += count;
        }
        for (name, count) in &other.checks {
            *self.checks.entry(name).or_default() += count;
        }
    }

    pub fn text(&self, took: Duration) -> String {
        let mut text = format!(
            "{} seeds, {} steps, {} events, {} calls, {:.0} simulated hours in {:.1} s\n",
            self.seeds,
            self.steps,
            self.events,
            self.calls,
            self.hours,
            took.as_secs_f64()
        );
        section(&mut text, "faults", self.faults.iter().map(|(k, v)| (*k, *v)));
        section(&mut text, "ends", self.ends.iter().map(|(k, v)| (k.as_str(), *v)));
        section(&mut text, "checks", self.checks.iter().map(|(k, v)| (*k, *v)));
        text
    }
}

fn section<'a>(text: &mut String, title: &str, counts: impl Iterator<Item = (&'a str, u64)>) {
    let line: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(text, "  {title}: {}", line.join(", "));
}
