//! A person, and where they can be reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::json::Object;
use super::super::message::{Channel, Recipient};
use super::kinds::Kind;
use super::{Name, Reach, made_up_uuid};
use crate::domain::clock::Timestamp;

/// IDs that OneSignal doesn't allow.
pub(in crate::sandbox) const BLOCKED_EXTERNAL_IDS: [&str; 9] =
    ["", "null", "NULL", "NA", "undefined", "0", "-1", "all", "00000000-0000-0000-0000-000000000000"];

/// A person made known through OneSignal's API or with `POST /_sandbox/users`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sandbox) struct Person {
    /// The app whose user it is; absent: every app has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_id: Option<Uuid>,
    pub external_id: Option<String>,
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Made from the other ids when it is not given.
    #[serde(default)]
    pub onesignal_id: Option<Uuid>,
    /// Absent: subscribed on every channel. Empty: on none.
    pub subscriptions: Option<Vec<Subscription>>,
    /// Reached on the channels that `subscriptions` doesn't mention, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub everywhere: bool,
    #[serde(default)]
    pub tags: Object,
    pub language: Option<String>,
    pub timezone_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The other properties, as they were given.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub properties: Object,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
}

/// Where a person can be reached, or no longer wants to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sandbox) struct Subscription {
    /// One of OneSignal's types, `Email`, `SMS`, `iOSPush` …; a channel's name stands for its usual one.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The address; for push, the device's token.
    pub token: Option<String>,
    #[serde(default = "enabled")]
    pub enabled: bool,
    pub id: Option<Uuid>,
    /// 1 on, -2 switched off by the user, -31 switched off through the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_types: Option<i64>,
    /// The device's model, its system and the like, as they were given.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub device: Object,
}

fn enabled() -> bool {
    true
}

impl Subscription {
    pub(in crate::sandbox) fn channel(&self) -> Channel {
        self.kind.channel()
    }

    /// The name that it is found by: no two people of an app have the same.
    pub(in crate::sandbox) fn token_name(&self) -> Option<Name> {
        let token = self.token.clone()?;
        Some((token_label(self.kind), token))
    }
}

/// The label of a subscription's token among the names of people.
pub(in crate::sandbox) fn token_label(kind: Kind) -> String {
    kind.channel().address_label().map_or_else(|| format!("token of {}", kind.name()), str::to_owned)
}

impl Person {
    /// Fills in defaults and validates.
    pub(in crate::sandbox) fn complete(mut self) -> Result<Self, String> {
        if self.external_id.is_none() && self.aliases.is_empty() {
            return Err("a user requires an `external_id` or one of `aliases`".to_owned());
        }
        if let Some(id) = self.external_id.as_deref().filter(|id| BLOCKED_EXTERNAL_IDS.contains(id)) {
            return Err(format!("`{id}` is not allowed as an external ID by OneSignal"));
        }
        let seed = format!("{:?}{:?}", self.external_id, self.aliases);
        self.onesignal_id.get_or_insert_with(|| made_up_uuid("onesignal_id", &seed));
        for (n, subscription) in self.subscriptions.iter_mut().flatten().enumerate() {
            if subscription.channel() != Channel::Push && subscription.token.is_none() {
                return Err("an email or SMS subscription needs its address as `token`".to_owned());
            }
            subscription.id.get_or_insert_with(|| made_up_uuid("subscription", &format!("{seed}{n}")));
        }
        Ok(self)
    }

    /// Whether they are reached on channels without a subscription of their own.
    pub(in crate::sandbox) fn is_everywhere(&self) -> bool {
        self.everywhere || self.subscriptions.is_none()
    }

    /// The subscriptions, made a list of their own where they were left open.
    pub(in crate::sandbox) fn subscriptions_mut(&mut self) -> &mut Vec<Subscription> {
        self.everywhere |= self.subscriptions.is_none();
        self.subscriptions.get_or_insert_default()
    }

    /// The subscriptions that there are.
    pub(in crate::sandbox) fn own_subscriptions(&self) -> &[Subscription] {
        self.subscriptions.as_deref().unwrap_or_default()
    }

    /// How many of their subscriptions are switched on, those that were left open among them.
    pub(super) fn subscribed(&self) -> usize {
        let own = self.own_subscriptions();
        let has = |channel| own.iter().any(|own| own.channel() == channel);
        let open = [Channel::Push, Channel::Email, Channel::Sms].into_iter().filter(|channel| !has(*channel));
        let open = if self.is_everywhere() { open.count() } else { 0 };
        open + own.iter().filter(|own| own.enabled).count()
    }

    /// The subscription that a message on `channel` goes to; with `also_disabled`, one that is switched off too.
    pub(in crate::sandbox) fn subscription(
        &self,
        channel: Channel,
        also_disabled: bool,
    ) -> Option<&Subscription> {
        let of_channel = || self.own_subscriptions().iter().filter(move |own| own.channel() == channel);
        of_channel().find(|own| own.enabled).or_else(|| of_channel().find(|_| also_disabled))
    }

    pub(super) fn reach(
        self: &Arc<Self>,
        label: &str,
        id: &str,
        channel: Channel,
        also_disabled: bool,
    ) -> Reach {
        let has_own = self.own_subscriptions().iter().any(|own| own.channel() == channel);
        let open = self.is_everywhere() && !has_own;
        if !open && self.subscription(channel, also_disabled).is_none() {
            return Reach::Unsubscribed;
        }
        Reach::Reached(Recipient { label: label.to_owned(), id: id.to_owned(), person: Some(self.clone()) })
    }

    /// Their aliases, `external_id` and `onesignal_id` among them.
    pub(in crate::sandbox) fn identity(&self) -> BTreeMap<String, String> {
        let external = self.external_id.iter().map(|id| ("external_id".to_owned(), id.clone()));
        let onesignal = self.onesignal_id.iter().map(|id| ("onesignal_id".to_owned(), id.to_string()));
        let aliases = self.aliases.iter().map(|(label, id)| (label.clone(), id.clone()));
        external.chain(onesignal).chain(aliases).collect()
    }

    /// Every name that the person can be found by.
    pub(in crate::sandbox) fn names(&self) -> Vec<Name> {
        let subscriptions = self.own_subscriptions().iter().flat_map(|own| {
            let id = own.id.map(|id| ("subscription_id".to_owned(), id.to_string()));
            id.into_iter().chain(own.token_name())
        });
        self.identity().into_iter().chain(subscriptions).collect()
    }
}
