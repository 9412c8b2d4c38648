//! The written form of a digest.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::FormProblem;
use super::rule::{RuleForm, seconds, whole};
use crate::domain::rule::Digest;

/// The longest digest window.
const LONGEST_WINDOW: Duration = Duration::from_hours(7 * 24);
/// The maximum events in a digest.
const MAX_ITEMS: u32 = 100;

/// Combines events into one message, whose `data` is that of the last event plus `data.items` and `data.count`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DigestForm {
    /// Events with the same value of this expression are combined; if omitted, all events of a recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How long after the first event the message is sent, such as `10m`.
    #[serde(with = "humantime_serde")]
    #[schema(value_type = String)]
    pub window: Duration,
    /// Maximum number of events; the latest are kept.
    #[serde(default = "usual")]
    pub max: u32,
}

fn usual() -> u32 {
    50
}

impl DigestForm {
    /// The form of a digest.
    pub fn of(digest: Digest) -> Self {
        Self { key: digest.key, window: seconds(digest.window_s), max: digest.max }
    }

    /// Parses it, with all problems.
    pub(super) fn read(&self, rule: &RuleForm, problems: &mut Vec<FormProblem>) -> Digest {
        let mut wrong = |message: String, hint: &str| {
            problems.push(FormProblem::new("bad_digest", "digest", message).hint(hint));
        };
        if rule.template.is_none() {
            wrong("only a rule that sends a template can have a digest".to_owned(), "remove the digest");
        }
        if rule.at.is_some() {
            wrong(
                "a digest starts with its first event, not at a time given in the event".to_owned(),
                "remove either `at` or the digest",
            );
        }
        if self.window < Duration::from_secs(1) || self.window > LONGEST_WINDOW {
            wrong("a digest must last between one second and seven days".to_owned(), "write 10m");
        }
        if !(1..=MAX_ITEMS).contains(&self.max) {
            wrong(format!("a digest must have 1 to {MAX_ITEMS} events"), "the latest events are kept");
        }
        let window_s = whole("digest", self.window, problems);
        Digest { key: self.key.clone(), window_s, max: self.max }
    }
}
