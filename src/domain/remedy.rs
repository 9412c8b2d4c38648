//! What to do about deliveries that need a person.

/// What to do about deliveries that stand like this, by their state and the code of the last decision about them.
pub fn remedy(state: &str, code: &str) -> &'static str {
    match (state, code) {
        ("held", "missing_value") => {
            "have the producer send the value, or release it with the value or another version"
        }
        ("held", "unsafe_value") => "look at the value: release it with a good one",
        ("held", "no_live_version") => "publish the template, then release",
        ("held", "too_large") => "shorten the copy or the values, publish, and release with that version",
        ("held", "needs_release") => "look at whom it goes to, then release",
        ("held", "poisonous") => "look at the log of the time it was tried; release it once that is repaired",
        ("held", _) => "look at the delivery, then release it",
        ("rejected", _) => "fix what OneSignal names, then replay with the new version",
        ("exhausted", _) => "once OneSignal answers again, replay",
        ("unknown", _) => "look in OneSignal whether it arrived; replay with may_duplicate if not",
        ("unreachable", _) => "nobody to reach: the person has no working subscription",
        ("expired", _) => "replay with even_if_expired if it still matters",
        _ => "look at the delivery",
    }
}
