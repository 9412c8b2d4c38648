//! Gates: stops for an app, a template version or a rule. Deliveries stay `queued` behind them and show it.

use super::app::AppId;
use super::clock::Timestamp;
use super::id::{RuleId, TemplateVersionId, TypedId};

/// What a gate stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateSubject {
    /// Everything sent through an app.
    App(AppId),
    /// Everything sent with a version.
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

    /// Parses it; `None` if nothing of this scope can be stopped.
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
    /// A description.
    pub detail: String,
    /// Closed until this time; half open afterwards, until a call succeeds.
    pub closed_until: Timestamp,
}

/// Closed by a 429.
pub const RATE_LIMITED: &str = "rate_limited";
/// Too many calls got no definite answer.
pub const BREAKER_OPEN: &str = "breaker_open";
/// OneSignal kept rejecting a version's deliveries.
pub const REFUSED: &str = "refused";
/// Closed by a person, who also has to open it.
pub const PAUSED: &str = "paused";
