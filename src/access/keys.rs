//! API keys: shown once, stored and found by hash.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};

use super::limit::RateLimits;
use super::scopes::{NarrowUse, Scope, Use};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::event::{EventTypeName, VisibleEvents, covers};
use crate::domain::id::{IdSource, KeyId, SourceId};
use crate::store::keys::{KnownKey, NewKey};
use crate::store::sources::Source;
use crate::store::{Store, StoreError};
use crate::vault::sha256;

/// How long a key is cached: the maximum delay of a revocation.
const BELIEVED: TimeDelta = TimeDelta::seconds(2);
/// Precision of a key's last use, which avoids a write for each use.
const USED_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// Maximum cached keys.
const KEYS_IN_MEMORY: usize = 10_000;

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key.
    pub key: KeyId,
    /// The source that it belongs to.
    pub source: SourceId,
    /// That source's name.
    pub source_name: String,
    /// Reaches sandbox apps only.
    pub is_test: bool,
    /// The default locale of the source's events.
    pub default_locale: Option<String>,
    scopes: Vec<Scope>,
    key_types: Option<Vec<String>>,
    source_types: Option<Vec<String>>,
    events_per_second: Option<u32>,
    visible_sources: Option<Vec<SourceId>>,
    expires_at: Option<Timestamp>,
}

impl Identity {
    /// Whether the key's scopes allow this use.
    pub fn may(&self, what: Use) -> bool {
        what.needs().iter().all(|scope| self.scopes.contains(scope))
    }

    /// Whether the key is limited to the events of some sources.
    pub fn is_limited(&self) -> bool {
        self.visible_sources.is_some()
    }

    /// Whether the key may grant these event types (`None`: all): only ones that it may post itself.
    pub fn may_grant(&self, types: Option<&[String]>) -> bool {
        match (&self.key_types, types) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(types)) => {
                types.iter().all(|wanted| own.iter().any(|own| includes(own, wanted)))
            }
        }
    }

    /// Whether key and source may post this event type.
    pub fn may_post(&self, event_type: &EventTypeName) -> bool {
        let allows = |types: &Option<Vec<String>>| {
            types.as_ref().is_none_or(|types| types.iter().any(|pattern| covers(pattern, event_type)))
        };
        allows(&self.key_types) && allows(&self.source_types)
    }
}

impl Identity {
    /// A source authenticated without an API key, which may only post events. `key` identifies the credential
    /// that was used.
    pub fn of_source(source: &Source, key: KeyId, is_test: bool) -> Self {
        Self {
            key,
            source: source.id,
            source_name: source.name.clone(),
            is_test,
            default_locale: source.default_locale.clone(),
            scopes: vec![Scope::EventsWrite],
            key_types: None,
            source_types: source.allowed_types.clone(),
            events_per_second: source.events_per_second,
            visible_sources: None,
            expires_at: None,
        }
    }

    /// The same, with the right to say facts about recipients.
    #[must_use]
    pub fn with_facts(mut self) -> Self {
        self.scopes.push(Scope::UsersWrite);
        self
    }
}

impl From<KnownKey> for Identity {
    fn from(known: KnownKey) -> Self {
        Self {
            key: known.id,
            source: known.source.id,
            source_name: known.source.name,
            is_test: known.is_test,
            default_locale: known.source.default_locale,
            scopes: known.scopes.iter().filter_map(|word| Scope::find(word)).collect(),
            key_types: known.allowed_types,
            source_types: known.source.allowed_types,
            events_per_second: known.source.events_per_second,
            visible_sources: known.visible_sources,
            expires_at: known.expires_at,
        }
    }
}

/// A key to create.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// The source that will use it; created if new.
    pub source: String,
    /// Reaches sandbox apps only.
    pub is_test: bool,
    /// Its scopes.
    pub scopes: Vec<Scope>,
    /// The event types that it may post; `None`: all of its source.
    pub allowed_types: Option<Vec<String>>,
    /// The names of the sources whose events it may access; `None`: all.
    pub allowed_sources: Option<Vec<String>>,
    /// When it expires; `None`: never.
    pub expires_at: Option<Timestamp>,
}

impl KeyRequest {
    /// A key of a source with these scopes and no further limits.
    pub fn new(source: &str, is_test: bool, scopes: Vec<Scope>) -> Self {
        let (allowed_types, allowed_sources, expires_at) = (None, None, None);
        Self { source: source.to_owned(), is_test, scopes, allowed_types, allowed_sources, expires_at }
    }
}

/// A new key: its text is never shown again.
#[derive(Debug, Clone)]
pub struct CreatedKey {
    /// Its id.
    pub id: KeyId,
    /// Its text.
    pub text: SecretString,
    /// A hint that may be shown.
    pub hint: String,
}

/// Invalid key format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key must be `hk_test_` or `hk_live_` followed by letters, digits or `_`, 32 to 128 characters in total"
)]
pub struct KeyTextError;

/// Validates the format of a key; returns whether it is a test key.
///
/// # Errors
/// [`KeyTextError`] describes the format.
pub fn check_key_text(text: &str) -> Result<bool, KeyTextError> {
    let is_test = text.starts_with("hk_test_");
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !(is_test || text.starts_with("hk_live_")) || !is_plain || !(32..=128).contains(&text.len()) {
        return Err(KeyTextError);
    }
    Ok(is_test)
}

type Found = HashMap<[u8; 32], (Timestamp, Arc<Identity>)>;

/// Authenticates API keys.
pub struct Access {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    found: Mutex<Found>,
    limits: RateLimits,
}

impl Access {
    /// Starts with an empty cache.
    pub fn new(store: Store, clock: Arc<dyn Clock>, ids: Arc<IdSource>) -> Self {
        Self { store, clock, ids, found: Mutex::default(), limits: RateLimits::default() }
    }

    /// The identity of a key, if it is valid and not revoked.
    ///
    /// # Errors
    /// [`StoreError`] if the database is unavailable; retrying helps.
    pub async fn identify(&self, key: &str) -> Result<Option<Arc<Identity>>, StoreError> {
        if check_key_text(key).is_err() {
            return Ok(None);
        }
        let hash = sha256(key.as_bytes());
        let now = self.clock.now();
        if let Some((at, identity)) = self.found.lock().get(&hash)
            && *at + BELIEVED > now
            && identity.expires_at.is_none_or(|end| end > now)
        {
            return Ok(Some(Arc::clone(identity)));
        }
        let known = self.store.find_key(&hash, now).await?;
        if let Some(known) = &known
            && known.last_used_at.is_none_or(|at| at + USED_WITHIN < now)
        {
            // The request does not wait for it; the next look-up retries.
            let (store, id) = (self.store.clone(), known.id);
            tokio::spawn(async move { store.touch_key(id, now).await });
        }
        let known = known.map(|known| Arc::new(Identity::from(known)));
        let mut found = self.found.lock();
        if found.len() >= KEYS_IN_MEMORY {
            found.clear();
        }
        match &known {
            Some(identity) => found.insert(hash, (now, Arc::clone(identity))),
            None => found.remove(&hash),
        };
        Ok(known)
    }

    /// Whether a key permits a use of the API, and the events that it may access: the single rule for all keys.
    ///
    /// # Errors
    /// [`Denied`] with the reason; or the database is unavailable.
    pub async fn permit(
        &self,
        identity: &Identity,
        what: Use,
    ) -> Result<Result<VisibleEvents, Denied>, StoreError> {
        if let Some(scope) = what.needs().iter().find(|scope| !identity.scopes.contains(scope)) {
            return Ok(Err(Denied::MissingScope(*scope)));
        }
        let mut visible = VisibleEvents::default();
        if let Some(sources) = &identity.visible_sources {
            match what.by_limited_key() {
                NarrowUse::Allowed => {}
                NarrowUse::OwnEvents => visible.sources = Some(sources.clone()),
                NarrowUse::Refused => return Ok(Err(Denied::LimitedKey)),
            }
        }
        let by_test_key = what.by_test_key();
        if identity.is_test && by_test_key != NarrowUse::Allowed && self.store.has_live_app().await? {
            match by_test_key {
                NarrowUse::Allowed => {}
                NarrowUse::OwnEvents => visible.tests_only = true,
                NarrowUse::Refused => return Ok(Err(Denied::TestKey)),
            }
        }
        Ok(Ok(visible))
    }

    /// Whether this key is in the cache. Does not query the database.
    pub fn is_known(&self, key: &str) -> bool {
        let now = self.clock.now();
        check_key_text(key).is_ok()
            && self.found.lock().get(&sha256(key.as_bytes())).is_some_and(|(at, _)| *at + BELIEVED > now)
    }

    /// Counts `events` against the source's rate limit, if it has one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn count(&self, identity: &Identity, events: usize) -> Result<(), Duration> {
        let Some(limit) = identity.events_per_second else { return Ok(()) };
        self.limits.take(identity.source, limit, events, self.clock.now())
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_key(&self, request: &KeyRequest) -> Result<CreatedKey, StoreError> {
        let random = self.ids.secret_text();
        let kind = if request.is_test { "test" } else { "live" };
        self.store_key(request, SecretString::from(format!("hk_{kind}_{random}"))).await
    }

    /// Registers a key with this text, such as the development key. The text must have been validated.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn store_key(
        &self,
        request: &KeyRequest,
        text: SecretString,
    ) -> Result<CreatedKey, StoreError> {
        let now = self.clock.now();
        let source = self.store.find_or_insert_source(self.ids.next(now), &request.source, now).await?;
        let hint = hint(text.expose_secret());
        let key = NewKey {
            id: self.ids.next(now),
            source,
            hash: sha256(text.expose_secret().as_bytes()),
            hint: hint.clone(),
            is_test: request.is_test,
            scopes: request.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            allowed_types: request.allowed_types.clone(),
            allowed_sources: request.allowed_sources.clone(),
            expires_at: request.expires_at,
        };
        self.store.insert_key(&key, now).await?;
        Ok(CreatedKey { id: key.id, text, hint })
    }

    /// Revokes a key; `false` if there is no such active key. Other processes reject it within two seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_key(&self, id: KeyId) -> Result<bool, StoreError> {
        let revoked = self.store.revoke_key(id, self.clock.now()).await?;
        self.found.lock().retain(|_, (_, identity)| identity.key != id);
        Ok(revoked)
    }
}

/// Whether `wide` covers every type of `narrow`.
fn includes(wide: &str, narrow: &str) -> bool {
    let family = |pattern: &str| pattern.strip_suffix('*').map(str::to_owned);
    wide == narrow || family(wide).is_some_and(|prefix| narrow.starts_with(&prefix))
}

/// Why a key is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It lacks this scope.
    MissingScope(Scope),
    /// It is a test key, and something live would be affected.
    TestKey,
    /// It is limited to the events of some sources, and others would be affected.
    LimitedKey,
}

/// The hint of a key: its kind and its last two characters.
fn hint(text: &str) -> String {
    let (kind, rest) = text.split_at(8.min(text.len()));
    format!("{kind}…{}", &rest[rest.len().saturating_sub(2)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_distinguished_from_other_texts() {
        assert_eq!(check_key_text("hk_test_0123456789abcdef0123456789"), Ok(true));
        assert_eq!(check_key_text("hk_live_0123456789abcdef0123456789"), Ok(false));
        for bad in
            ["", "hk_test_short", "sk_test_0123456789abcdef0123456789", "hk_test_0123456789abcdef012345 789"]
        {
            assert_eq!(check_key_text(bad), Err(KeyTextError), "{bad}");
        }
    }

    #[test]
    fn a_pattern_includes_what_it_covers_and_nothing_else() {
        for (wide, narrow) in
            [("*", "*"), ("*", "order.*"), ("order.*", "order.shipped"), ("order.*", "order.*")]
        {
            assert!(includes(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("order.*", "*"), ("order.*", "payment.failed"), ("order.shipped", "order.*")]
        {
            assert!(!includes(wide, narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn a_hint_shows_two_characters() {
        assert_eq!(hint("hk_live_0123456789abcdef01234567c2"), "hk_live_…c2");
    }
}
