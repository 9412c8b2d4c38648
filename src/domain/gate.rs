//! Gates: stops for an app, a template version or a rule. Deliveries stay `queued` behind them and say so.

use super::app::AppId;
use super::clock::Timestamp;
use super::id::{RuleId, TemplateVersionId, TypedId};

/// What a gate stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateSubject {
    /// Everything that goes through an app.
    App(AppId),
    /// Everything that says what a version says.
    Version(TemplateVersionId),
    /// Everything that a rule sends.
    Rule(RuleId),
}

impl GateSubject {
    /// What kind of thing it stops: `app`, `template_version`, `rule`.
    pub fn scope(self) -> &'static str {
        match self {
            Self::App(_) => "app",
            Self::Version(_) => "template_version",
            Self::Rule(_) => "rule",
        }
    }

    /// The id of it, as a UUID.
    pub fn uuid(self) -> uuid::Uuid {
        match self {
            Self::App(app) => app.0,
            Self::Version(version) => version.uuid(),
            Self::Rule(rule) => rule.uuid(),
        }
    }

    /// Reads it back; `None` if nothing of this scope can be stopped.
    pub fn find(scope: &str, id: uuid::Uuid) -> Option<Self> {
        match scope {
            "app" => Some(Self::App(AppId(id))),
            "template_version" => Some(Self::Version(TemplateVersionId::from_uuid(id))),
            "rule" => Some(Self::Rule(RuleId::from_uuid(id))),
            _ => None,
        }
    }
}

/// A closed or half-open gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// What it stops.
    pub subject: GateSubject,
    /// Why: one of the codes below.
    pub code: String,
    /// The same in plain words.
    pub detail: String,
    /// Closed until then; half open afterwards, until a call succeeds.
    pub closed_until: Timestamp,
}

/// A 429 closed it.
pub const RATE_LIMITED: &str = "rate_limited";
/// Too many calls brought no clear answer.
pub const BREAKER_OPEN: &str = "breaker_open";
/// OneSignal refused one delivery after the other of a version.
pub const REFUSED: &str = "refused";
/// A person closed it, and a person opens it.
pub const PAUSED: &str = "paused";
