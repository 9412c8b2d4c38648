//! People: users, aliases, subscriptions and tags, in sync with OneSignal; custom events for Journeys.
//!
//! Changes come from the API, from events, and from imports. `document` checks them, `accept` stores them in one outbox
//! per person and app, where newer ones replace older ones. `outbox` writes each person at most once a second, only what
//! changed, and records what OneSignal confirmed or refused. `custom_events` sends what `track` rules planned. Messages
//! are not sent here.

pub mod accept;
pub mod connector;
pub mod custom_events;
pub mod document;
pub mod erasure;
pub mod identity;
pub mod import;
mod outbox;
pub mod outcome;
mod pace;
pub mod preferences;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use self::erasure::Deliveries;
use self::erasure::record::ErasureRecord;
use crate::domain::app::App;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::IdSource;
use crate::domain::user::PartKey;
use crate::provider::PeopleProvider;
use crate::store::{Store, StoreError};

/// The limits of the outbox.
#[derive(Debug, Clone, Copy)]
pub struct PeopleLimits {
    /// Calls about users per second and app, over all processes (OneSignal's limit is 1,000).
    pub user_calls_per_second: u32,
    /// Requests with custom events per second and app, over all processes.
    pub event_calls_per_second: u32,
    /// The maximum number of concurrent calls.
    pub calls_in_flight: usize,
    /// How long imports are kept with their rejected rows, in days.
    pub import_days: u32,
    /// The longest call.
    pub call_timeout: Duration,
    /// How long OneSignal may not know a user or subscription that it has just created.
    pub visible_after: Duration,
    /// How long no second call is made about a user who was just created.
    pub cool_down: Duration,
}

impl Default for PeopleLimits {
    fn default() -> Self {
        Self {
            user_calls_per_second: 1_000,
            event_calls_per_second: 50,
            calls_in_flight: 64,
            import_days: 30,
            call_timeout: Duration::from_mins(1),
            visible_after: Duration::from_mins(1),
            cool_down: Duration::from_secs(5),
        }
    }
}

/// What the people's use cases share.
pub struct People {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    provider: Arc<dyn PeopleProvider>,
    limits: PeopleLimits,
    paces: Mutex<pace::Paces>,
    /// Slots for concurrent calls about users.
    calls: Semaphore,
    /// The deliveries of this process.
    deliveries: Arc<dyn Deliveries>,
    /// The record of erasures outside the database, if there is one.
    record: Option<ErasureRecord>,
    /// When old imports were last deleted.
    pruned_at: Mutex<Option<Timestamp>>,
    /// Notified when changes or custom events were stored.
    wake: Notify,
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("People")
    }
}

impl People {
    /// Builds it; nothing runs yet. Without a `record`, erasures are not written outside the database.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        ids: Arc<IdSource>,
        provider: Arc<dyn PeopleProvider>,
        limits: PeopleLimits,
        deliveries: Arc<dyn Deliveries>,
        record: Option<ErasureRecord>,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            ids,
            provider,
            limits,
            paces: Mutex::new(pace::Paces::default()),
            calls: Semaphore::new(limits.calls_in_flight.max(1)),
            deliveries,
            record,
            pruned_at: Mutex::new(None),
            wake: Notify::new(),
        })
    }

    /// Wakes the worker of this process: something is due.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The apps that calls may be made through now.
    async fn open_apps(&self, now: Timestamp) -> Result<Vec<App>, StoreError> {
        let apps = self.store.apps().await?;
        let paces = self.paces.lock();
        Ok(apps.into_iter().filter(|app| app.paused.is_none() && !paces.is_closed(app.id, now)).collect())
    }
}

/// What to do about a refused part of a user, by the refusal's code.
pub fn remedy(code: &str) -> &'static str {
    match code {
        "alias_conflict" => {
            "another user at OneSignal has this alias: remove it there, or delete that user, and write it again"
        }
        "tag_limit" => {
            "the plan's number of tags per user is reached: remove tags that nobody uses, or upgrade the plan"
        }
        "subscription_limit" => {
            "the user has the maximum number of subscriptions: remove one at OneSignal first"
        }
        "unknown_user" => {
            "OneSignal does not know this user: create them with PUT, or let the app log them in first"
        }
        _ => "correct the value, and write it again",
    }
}

/// Parts of a user in words: `aliases external_id, crm_id; tags plan; 2 subscriptions`.
pub fn in_words<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let (mut aliases, mut tags, mut properties, mut subscriptions) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for part in parts {
        match part.parse() {
            Ok(PartKey::Alias(label)) => aliases.push(label),
            Ok(PartKey::Tag(name)) => tags.push(name),
            Ok(PartKey::Property(property)) => properties.push(property.as_str().replace('_', " ")),
            Ok(PartKey::Subscription(_)) => subscriptions += 1,
            Err(_) => {}
        }
    }
    let listed = |one: &str, many: &str, names: &[String]| match names {
        [] => None,
        [name] => Some(format!("{one} {name}")),
        names => Some(format!("{many} {}", names.join(", "))),
    };
    let subscriptions = match subscriptions {
        0 => None,
        1 => Some("1 subscription".to_owned()),
        count => Some(format!("{count} subscriptions")),
    };
    let properties = (!properties.is_empty()).then(|| properties.join(", "));
    let groups =
        [listed("alias", "aliases", &aliases), listed("tag", "tags", &tags), properties, subscriptions];
    groups.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn parts_are_grouped_and_counted() {
        let parts = ["alias/external_id", "property/time_zone", "subscription/00ff", "tag/city", "tag/plan"];
        assert_eq!(in_words(parts), "alias external_id; tags city, plan; time zone; 1 subscription");
        assert_eq!(in_words([]), "");
    }
}
