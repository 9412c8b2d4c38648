//! What goes wrong with a call, by kind.

use std::collections::BTreeSet;

use rand::RngExt;

use crate::onesignal::dice;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing special.
    Fine,
    NoConnection,
    /// It never arrives, and no one says so.
    LostOnTheWay,
    /// It is done, and the reply never comes.
    Silent,
    /// It is done this many seconds later, and the reply never comes.
    Late(i64),
    Reset,
    /// The reply is whole for HTTP, and half of its JSON.
    CutShort,
    /// The reply breaks off.
    CutOff,
    /// It is done, and answered with this error.
    ErrorWith(u16),
    ErrorWithout(u16),
    RateLimited(Option<u64>),
    /// The app's key is refused for so many seconds.
    KeyRefused(i64),
    TemplateLost,
    Conflict,
    /// An empty id, though the person is subscribed.
    NobodyYet,
}

impl Plan {
    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "none",
            Self::NoConnection => "no connection",
            Self::LostOnTheWay => "timeout without effect",
            Self::Silent => "timeout with effect",
            Self::Late(_) => "late effect",
            Self::Reset => "reset after accept",
            Self::CutShort => "half a reply",
            Self::CutOff => "reply broken off",
            Self::ErrorWith(_) => "error with effect",
            Self::ErrorWithout(_) => "error without effect",
            Self::RateLimited(None) => "429",
            Self::RateLimited(Some(0..=900)) => "429 with Retry-After",
            Self::RateLimited(Some(_)) => "429 with an absurd Retry-After",
            Self::KeyRefused(_) => "401 or 403 for a while",
            Self::TemplateLost => "template lost",
            Self::Conflict => "409",
            Self::NobodyYet => "empty id",
        }
    }
}

const ERRORS: [u16; 6] = [408, 500, 502, 503, 520, 504];

/// What becomes of the `nth` call about these events.
pub fn plan_for(seed: u64, marks: &BTreeSet<String>, nth: u64) -> Plan {
    let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
    let mut random = dice(seed, &marks, nth);
    let error = ERRORS[random.random_range(0..ERRORS.len())];
    // What was tried often goes through: a seed is to end.
    if nth > 4 || random.random_range(0..100) < 45 {
        return Plan::Fine;
    }
    match random.random_range(0..100) {
        0..12 => Plan::Silent,
        12..20 => Plan::LostOnTheWay,
        20..32 => Plan::Late(random.random_range(1..=100)),
        32..42 => Plan::Reset,
        42..47 => Plan::CutShort,
        47..50 => Plan::CutOff,
        50..58 => Plan::ErrorWith(error),
        58..66 => Plan::ErrorWithout(error),
        66..74 => Plan::NoConnection,
        74..76 => Plan::RateLimited(None),
        76..78 => Plan::RateLimited(Some(random.random_range(0..120))),
        78..79 => Plan::RateLimited(Some(u64::MAX)),
        79..84 => Plan::KeyRefused(random.random_range(1..900)),
        84..89 => Plan::TemplateLost,
        89..94 => Plan::Conflict,
        _ => Plan::NobodyYet,
    }
}
