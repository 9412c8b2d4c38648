//! OneSignal's plans, as far as they limit the API.

/// A plan's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxPlan {
    /// Maximum tags per user; `None`: no limit.
    pub tags_per_user: Option<usize>,
    /// Whether custom events are taken.
    pub custom_events: bool,
    /// Maximum segments created by API; `None`: no limit, `Some(0)`: not allowed.
    pub segments: Option<usize>,
    /// Whether a message's history can be exported.
    pub history: bool,
}

impl SandboxPlan {
    /// The free plan.
    pub const FREE: Self =
        Self { tags_per_user: Some(2), custom_events: false, segments: Some(0), history: false };
    /// A paid plan.
    pub const PAID: Self =
        Self { tags_per_user: Some(100), custom_events: true, segments: Some(200), history: true };
}
