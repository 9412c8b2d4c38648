//! Users: what Herald writes about a person to OneSignal, in parts that are sent, confirmed and refused one by one.

mod call;
mod part;
mod plan;

pub use call::{Subscription, UserAnswer, UserCall, UserFields};
pub use part::{Changes, PartKey, Property, UnknownPart};
pub use plan::{Known, Planned, next_call};

/// Where a change comes from. Smaller ones are written first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An event, or a rule on it.
    Event,
    /// A call of the API, or a person in the console.
    Api,
    /// A database connector.
    Connector,
    /// A CSV import.
    Import,
}

impl Origin {
    /// Every origin, in the order in which their changes are written.
    pub const ALL: [Self; 4] = [Self::Event, Self::Api, Self::Connector, Self::Import];

    /// The rank as it is stored.
    pub fn rank(self) -> i16 {
        match self {
            Self::Event => 0,
            Self::Api => 1,
            Self::Connector => 2,
            Self::Import => 3,
        }
    }
}

/// The maximum number of aliases of a user, besides the External ID (OneSignal's limit).
pub const MAX_ALIASES: usize = 20;
/// The maximum number of subscriptions of a user (OneSignal's limit).
pub const MAX_SUBSCRIPTIONS: usize = 20;
/// The maximum number of property updates in one call. OneSignal's limit is 100; some of ours may count twice there.
pub const MAX_PROPERTIES_PER_CALL: usize = 90;
