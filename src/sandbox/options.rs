//! How a sandbox is set up.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

pub use super::plan::SandboxPlan;

/// The app of a development sandbox.
const DEV_APP: Uuid = Uuid::from_u128(0x5a0d_0000_0000_4000_8000_0000_0000_0001);

/// A simulated app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxApp {
    /// The app's id.
    pub id: Uuid,
    /// The App API key that calls have to carry.
    pub key: String,
    /// The value of `{{ app.name }}`.
    pub name: String,
}

/// A call to OneSignal's API with its response.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// `POST` and the like.
    pub method: &'a str,
    /// The path with its parameters' names, such as `/apps/{app}/users`.
    pub route: &'a str,
    /// The body of the call.
    pub request: &'a [u8],
    /// The status of the answer.
    pub status: u16,
    /// Its content type.
    pub content_type: &'a str,
    /// Its body.
    pub answer: &'a [u8],
}

/// An observer of every exchange without a fault.
#[derive(Clone)]
pub struct Observer(pub Arc<dyn Fn(&Exchange<'_>) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}

/// How often one recipient may be pushed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrequencyCap {
    /// So many messages …
    pub messages: usize,
    /// … in so many hours.
    pub hours: u32,
}

/// How a sandbox is set up; the default is OneSignal's free plan with the development app.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// The apps there are. A call for any other is refused like one with a wrong key.
    pub apps: Vec<SandboxApp>,
    /// Names that it answers to beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// The key that copies templates between apps, the Organization API key.
    pub organization_key: String,
    /// The plan's limits other than the rate limit.
    pub plan: SandboxPlan,
    /// Create and cancel calls per second and app before `429`; `0` lifts the limit.
    pub calls_per_second: u32,
    /// Views of messages, templates and users per second and app, ten of them at once; `0` lifts the limit.
    pub views_per_second: u32,
    /// Changes of users and subscriptions per second and app; `0` lifts the limit.
    pub user_calls_per_second: u32,
    /// Changes of one user per second; `0` lifts the limit.
    pub calls_per_user_per_second: u32,
    /// How many subscriptions the app counts as having: above ten messages for each in a quarter of an hour it is
    /// switched off. `None`: those that were made known while `strict_users` holds, else no limit.
    pub subscriptions: Option<u64>,
    /// The maximum pushes with `enable_frequency_cap` per recipient within this many hours.
    pub frequency_cap: Option<FrequencyCap>,
    /// Maximum targets of one Create message: 20,000 in OneSignal's documentation, 2,000 in its SDKs.
    pub targets_per_call: usize,
    /// The data file; `None` keeps data only in memory.
    pub data_file: Option<PathBuf>,
    /// `true`: only people made known with `POST /_sandbox/users` exist. `false`: everybody else exists too and is
    /// subscribed on every channel.
    pub strict_users: bool,
    /// The external IDs that segments and filters reach while there are no explicit users.
    pub audience: Vec<String>,
    /// Whether an answer with an empty id is remembered with its idempotency key, which the contract leaves open.
    pub remember_empty_answers: bool,
    /// Receives every call and response: tests validate them against OneSignal's description.
    pub observer: Option<Observer>,
    /// How many people each app keeps; those made known first go first.
    pub keep_people: usize,
    /// Maximum stored messages; the oldest are deleted first.
    pub keep_messages: usize,
    /// Approximate maximum size of stored messages in bytes; the oldest are deleted first.
    pub keep_bytes: usize,
    /// How many idempotency keys are remembered (for 30 days); the oldest go first.
    pub keep_keys: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            apps: vec![SandboxApp {
                id: DEV_APP,
                key: "os_v2_app_sandbox".to_owned(),
                name: "Herald sandbox".to_owned(),
            }],
            hosts: Vec::new(),
            organization_key: "os_v2_org_sandbox".to_owned(),
            plan: SandboxPlan::FREE,
            calls_per_second: 150,
            views_per_second: 1,
            user_calls_per_second: 1_000,
            calls_per_user_per_second: 1,
            subscriptions: None,
            frequency_cap: None,
            targets_per_call: 20_000,
            data_file: None,
            strict_users: false,
            audience: ["user-1", "user-2", "user-3"].map(str::to_owned).to_vec(),
            remember_empty_answers: false,
            observer: None,
            keep_people: 200_000,
            keep_messages: 100_000,
            keep_bytes: 512 * 1024 * 1024,
            keep_keys: 1_000_000,
        }
    }
}

impl SandboxOptions {
    /// A paid plan: 6,000 calls a second, custom events, segments, message history.
    pub fn paid() -> Self {
        Self { plan: SandboxPlan::PAID, calls_per_second: 6_000, ..Self::default() }
    }

    /// Without any rate, so that a limit strikes only where a test wants it.
    pub fn unhurried() -> Self {
        Self {
            calls_per_second: 0,
            views_per_second: 0,
            user_calls_per_second: 0,
            calls_per_user_per_second: 0,
            ..Self::default()
        }
    }
}
