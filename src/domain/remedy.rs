//! What to do about deliveries that need a person.

/// What to do about deliveries with this state and this code of their last decision.
pub fn remedy(state: &str, code: &str) -> &'static str {
    match (state, code) {
        ("held", "missing_value") => {
            "have the producer send the value, or release it with the value or another version"
        }
        ("held", "unsafe_value") => "check the value and release it with a valid one",
        ("held", "no_live_version") => "publish the template, then release",
        ("held", "too_large") => "shorten the copy or the values, publish, and release with that version",
        ("held", "needs_release") => "check the audience, then release",
        ("held", "poisonous") => {
            "check the log at the time of the attempts; release it once the cause is fixed"
        }
        ("held", _) => "check the delivery, then release it",
        ("rejected", _) => "fix what OneSignal reports, then replay with the new version",
        ("exhausted", _) => "replay once OneSignal is available again",
        ("unknown", _) => "check in OneSignal whether it arrived; if not, replay with may_duplicate",
        ("unreachable", _) => "the person has no working subscription",
        ("expired", _) => "replay with even_if_expired if it still matters",
        _ => "check the delivery",
    }
}
