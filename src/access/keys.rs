//! API keys: made once, shown once, found by hash.

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

/// How long a key that was found is believed without looking again: what a revocation takes at most.
const BELIEVED: TimeDelta = TimeDelta::seconds(2);
/// How exactly the last use of a key is kept: each use would be a write otherwise.
const USED_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// Keys in memory at most.
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
    /// The locale of the source's events, if they don't say.
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

    /// Whether the key sees the events of some sources only.
    pub fn is_limited(&self) -> bool {
        self.visible_sources.is_some()
    }

    /// Whether the key may let others post these event types (`None`: all): not more than it may post itself.
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
    /// A source that proved itself otherwise than by an API key: it may post events, and nothing else. `key` names
    /// what it proved itself with.
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

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// The source that will use it; it is entered if it is new.
    pub source: String,
    /// Reaches sandbox apps only.
    pub is_test: bool,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The event types it may post; `None`: all that its source may.
    pub allowed_types: Option<Vec<String>>,
    /// The names of the sources whose events it may see; `None`: all.
    pub allowed_sources: Option<Vec<String>>,
    /// When it ends; `None`: when it is revoked.
    pub expires_at: Option<Timestamp>,
}

impl KeyRequest {
    /// A key of a source that may do what these scopes say, without further limits.
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
    /// What may be shown of it.
    pub hint: String,
}

/// A text that can't be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key must be `hk_test_` or `hk_live_` followed by letters, digits or `_`, 32 to 128 characters in total"
)]
pub struct KeyTextError;

/// Whether `text` can be a key; returns whether it is a test key.
///
/// # Errors
/// [`KeyTextError`] says what a key looks like.
pub fn check_key_text(text: &str) -> Result<bool, KeyTextError> {
    let is_test = text.starts_with("hk_test_");
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !(is_test || text.starts_with("hk_live_")) || !is_plain || !(32..=128).contains(&text.len()) {
        return Err(KeyTextError);
    }
    Ok(is_test)
}

type Found = HashMap<[u8; 32], (Timestamp, Arc<Identity>)>;

/// Finds out who is asking.
pub struct Access {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    found: Mutex<Found>,
    limits: RateLimits,
}

impl Access {
    /// Knows nobody yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>, ids: Arc<IdSource>) -> Self {
        Self { store, clock, ids, found: Mutex::default(), limits: RateLimits::default() }
    }

    /// Whose key this is, if it is one and not revoked.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps.
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
            // Who asks does not wait for it; the next look says it again.
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

    /// What a key may do with a use of the API, and the events that it may see: the one rule for all keys.
    ///
    /// # Errors
    /// [`Denied`] says why not; or the database is away.
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

    /// Whether this key was found to be good a moment ago. Asks nobody.
    pub fn is_known(&self, key: &str) -> bool {
        let now = self.clock.now();
        check_key_text(key).is_ok()
            && self.found.lock().get(&sha256(key.as_bytes())).is_some_and(|(at, _)| *at + BELIEVED > now)
    }

    /// Counts `events` against the source's rate limit, if it has one.
    ///
    /// # Errors
    /// How long the source has to wait.
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

    /// Makes the key with this text known, such as the development key. The text has been checked before.
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

    /// Revokes a key; `false` if there is none that could be. Other processes refuse it within two seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_key(&self, id: KeyId) -> Result<bool, StoreError> {
        let revoked = self.store.revoke_key(id, self.clock.now()).await?;
        self.found.lock().retain(|_, (_, identity)| identity.key != id);
        Ok(revoked)
    }
}

/// Whether every type that `narrow` names is one that `wide` names.
fn includes(wide: &str, narrow: &str) -> bool {
    let family = |pattern: &str| pattern.strip_suffix('*').map(str::to_owned);
    wide == narrow || family(wide).is_some_and(|prefix| narrow.starts_with(&prefix))
}

/// Why a key may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It lacks this scope.
    MissingScope(Scope),
    /// It is a test key, and something live would be touched.
    TestKey,
    /// It is limited to the events of some sources, and more would be touched.
    LimitedKey,
}

/// What may be shown of a key: its kind and its last two characters.
fn hint(text: &str) -> String {
    let (kind, rest) = text.split_at(8.min(text.len()));
    format!("{kind}…{}", &rest[rest.len().saturating_sub(2)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_from_other_texts() {
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
