//! Accepting changes: many people in one transaction, each change complete or not at all.
//!
//! People are looked up by their aliases, locked in the order of their ids, and looked up again: between the two, an
//! alias may have moved. A new person whose alias someone else inserted at the same moment is looked up once more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use uuid::Uuid;

use super::People;
use super::document::UserInput;
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::erasure::Identifier;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{TypedId, UserId};
use crate::domain::user::{Changes, MAX_ALIASES, Origin, PartKey, Property};
use crate::store::user_writes::NewWrite;
use crate::store::users::{Alias, RowChange};
use crate::store::{Committed, StoreError, Tx, commit, erasures, user_writes, users};

/// How often a transaction is repeated because someone else changed the same aliases.
const TRIES: usize = 5;

/// How a change treats what it does not mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Adds to what is known. A user whom OneSignal does not know is not created for properties alone.
    Merge,
    /// Adds to what is known, and creates the user if needed.
    Upsert,
    /// Creates the user if needed; the tags, if any are mentioned, replace all that Herald has written.
    Replace,
}

/// A change of one person.
#[derive(Debug, Clone)]
pub struct UserChange {
    /// The content.
    pub input: UserInput,
    /// How it treats what it does not mention.
    pub mode: Mode,
}

/// An accepted change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedUser {
    /// The person.
    pub user: UserId,
    /// Whether they were unknown to Herald.
    pub is_new: bool,
    /// The version of their changes.
    pub version: i64,
}

/// Why a change is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The aliases name different people.
    #[error(
        "`{label}` `{id}` belongs to another user: users are not merged; remove that alias from the other user first"
    )]
    AliasTaken {
        /// The label.
        label: String,
        /// The id.
        id: String,
    },
    /// Too many aliases with those that the person has.
    #[error("the user would have more than {MAX_ALIASES} aliases; remove some with `null`")]
    TooManyAliases,
    /// The person was erased.
    #[error("this person was erased")]
    Erased,
}

/// Why a request is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// Others change the same people all the time.
    #[error("the same users are being changed by others; try again")]
    Busy,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result for each change, in the order of the request.
pub type Results = Vec<Result<AcceptedUser, ChangeError>>;

/// How changes are accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepting {
    /// The app.
    pub app: AppId,
    /// Where they come from.
    pub origin: Origin,
    /// Whether people with nothing to write get no outbox row.
    pub skips_unchanged: bool,
    /// Whether nothing is written: only what would happen is computed.
    pub is_dry: bool,
}

/// What a transaction accepted.
pub(super) struct Accepted {
    /// The result for each change.
    pub results: Results,
    /// People with something to write.
    pub changed: BTreeSet<Uuid>,
    /// The number of tags that are removed.
    pub removed_tags: usize,
}

impl People {
    /// Accepts changes for one app, in one transaction. A change that conflicts does not affect the others; later
    /// changes of the same person replace earlier ones.
    ///
    /// # Errors
    /// [`AcceptError`]; nothing is stored then.
    pub async fn accept(
        &self,
        app: AppId,
        changes: &[UserChange],
        origin: Origin,
    ) -> Result<Results, AcceptError> {
        let how = Accepting { app, origin, skips_unchanged: false, is_dry: false };
        for _ in 0..TRIES {
            let mut tx = self.store.begin().await?;
            let Some(accepted) = self.try_accept(&mut tx, how, changes, self.clock.now()).await? else {
                continue;
            };
            return match commit(tx).await {
                Committed::Yes => {
                    self.wake();
                    Ok(accepted.results)
                }
                Committed::No(error) | Committed::Unclear(error) => Err(error.into()),
            };
        }
        Err(AcceptError::Busy)
    }

    /// What would be answered, without storing anything.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn would_accept(
        &self,
        app: AppId,
        changes: &[UserChange],
        origin: Origin,
    ) -> Result<Results, AcceptError> {
        let how = Accepting { app, origin, skips_unchanged: false, is_dry: true };
        for _ in 0..TRIES {
            let mut tx = self.store.begin().await?;
            if let Some(accepted) = self.try_accept(&mut tx, how, changes, self.clock.now()).await? {
                return Ok(accepted.results);
            }
        }
        Err(AcceptError::Busy)
    }

    /// Accepts changes within a transaction. `None`: someone else changed the same aliases; it has to be repeated.
    pub(super) async fn try_accept(
        &self,
        tx: &mut Tx,
        how: Accepting,
        changes: &[UserChange],
        now: Timestamp,
    ) -> Result<Option<Accepted>, StoreError> {
        let named: BTreeSet<Alias> = changes.iter().flat_map(|change| aliases_of(&change.input)).collect();
        let before = users::resolve(tx, &named).await?;
        let known: BTreeSet<Uuid> = before.values().copied().collect();
        let erased = users::lock(tx, &known).await?;
        if users::resolve(tx, &named).await? != before {
            return Ok(None);
        }
        let gone = self.naming_erased(tx, changes).await?;
        let counts = users::count_aliases(tx, &known).await?;
        let mut draft = Draft { named: before, erased, counts, ..Draft::default() };
        let results: Vec<Result<(Uuid, bool), ChangeError>> = changes
            .iter()
            .zip(gone)
            .map(|(change, is_gone)| {
                if is_gone {
                    return Err(ChangeError::Erased);
                }
                draft.add(&change.input, || self.ids.next::<UserId>(now).uuid())
            })
            .collect();
        let tags = users::known_tags(tx, how.app, &draft.replaced(changes, &results)).await?;
        let mut writes = self.writes(changes, &results, tags);
        if how.skips_unchanged {
            self.drop_unchanged(tx, how.app, &known, &mut writes).await?;
        }
        let is_removal =
            |(key, value): (&PartKey, &Value)| matches!(key, PartKey::Tag(_)) && *value == json!("");
        let mut accepted = Accepted {
            results: Vec::new(),
            changed: writes.iter().map(|write| write.user).collect(),
            removed_tags: writes
                .iter()
                .map(|write| write.changes.0.iter().filter(|part| is_removal(*part)).count())
                .sum(),
        };
        let versions = if how.is_dry {
            HashMap::new()
        } else {
            let Some(versions) = store(tx, how, &draft, &writes, now).await? else { return Ok(None) };
            versions
        };
        let of = |(user, is_new): (Uuid, bool)| AcceptedUser {
            user: UserId::from_uuid(user),
            is_new,
            version: versions.get(&user).copied().unwrap_or_default(),
        };
        accepted.results = results.into_iter().map(|result| result.map(of)).collect();
        Ok(Some(accepted))
    }

    /// Whether each change has an alias, an address or a token of someone who was erased.
    async fn naming_erased(&self, tx: &mut Tx, changes: &[UserChange]) -> Result<Vec<bool>, StoreError> {
        let named: Vec<BTreeSet<Identifier>> =
            changes.iter().map(|change| identifiers_of(&change.input)).collect();
        let digests = self.store.digests(named.iter().flatten()).await?;
        let erased = erasures::erased_among(tx, &digests.keys().copied().collect()).await?;
        // Spellings of one address have one hash: each is looked up by its text.
        let texts: BTreeSet<String> = digests
            .into_iter()
            .filter(|(digest, _)| erased.contains(digest.as_slice()))
            .map(|(_, each)| each.matching_text())
            .collect();
        let is_erased = |each: &Identifier| !texts.is_empty() && texts.contains(&each.matching_text());
        Ok(named.iter().map(|each| each.iter().any(is_erased)).collect())
    }

    /// Drops people about whom OneSignal has confirmed everything, unless something else is about to be written.
    async fn drop_unchanged(
        &self,
        tx: &mut Tx,
        app: AppId,
        known: &BTreeSet<Uuid>,
        writes: &mut Vec<NewWrite>,
    ) -> Result<(), StoreError> {
        let confirmed = users::confirmed(tx, app, known).await?;
        writes.retain(|write| {
            let Some(confirmed) = confirmed.get(&write.user) else { return true };
            write.changes.0.iter().any(|(key, value)| {
                confirmed.get(&key.to_string()).is_none_or(|known| *known != self.hash(&value.to_string()))
            })
        });
        Ok(())
    }

    /// The outbox rows: one per person, with later changes over earlier ones.
    fn writes(
        &self,
        changes: &[UserChange],
        results: &[Result<(Uuid, bool), ChangeError>],
        mut tags: HashMap<Uuid, BTreeSet<String>>,
    ) -> Vec<NewWrite> {
        let mut writes: BTreeMap<Uuid, NewWrite> = BTreeMap::new();
        for (change, result) in changes.iter().zip(results) {
            let Ok((user, _)) = result else { continue };
            let creates = change.mode != Mode::Merge || change.input.names_identity();
            let mut parts = change.input.changes(creates, |text| self.hash(text));
            let mentioned = tags.entry(*user).or_default();
            if let Some(wanted) = &change.input.tags {
                if change.mode == Mode::Replace {
                    let gone = mentioned.iter().filter(|name| !wanted.contains_key(*name));
                    parts.0.extend(gone.map(|name| (PartKey::Tag(name.clone()), "".into())));
                }
                mentioned.extend(wanted.keys().cloned());
            }
            let write = writes.entry(*user).or_insert_with(|| NewWrite {
                user: *user,
                changes: Changes::default(),
                creates: false,
            });
            write.changes.merge(parts);
            write.creates |= creates;
        }
        writes.into_values().collect()
    }

    /// A keyed hash of personal data, as hexadecimal text.
    pub(super) fn hash(&self, text: &str) -> String {
        self.store.vault().short_fingerprint(text)
    }
}

/// Writes what a transaction accepted; returns the version of each person's changes. `None`: someone else took an alias.
async fn store(
    tx: &mut Tx,
    how: Accepting,
    draft: &Draft,
    writes: &[NewWrite],
    now: Timestamp,
) -> Result<Option<HashMap<Uuid, i64>>, StoreError> {
    users::insert(tx, &draft.new, now).await?;
    users::remove_aliases(tx, &draft.removed).await?;
    if users::set_aliases(tx, &draft.set).await? < draft.set.len() {
        return Ok(None);
    }
    users::update(tx, &draft.rows, now).await?;
    let versions = user_writes::accept(tx, how.app, writes, how.origin, now).await?;
    Ok(Some(versions.into_iter().collect()))
}

pub(super) fn aliases_of(input: &UserInput) -> impl Iterator<Item = Alias> {
    let name = alias_of(&input.name);
    std::iter::once(name).chain(input.aliases.iter().map(|(label, id)| (label.clone(), id.clone())))
}

/// Everything in a change by which a person is recognised.
fn identifiers_of(input: &UserInput) -> BTreeSet<Identifier> {
    let aliases = aliases_of(input).map(|(label, id)| Identifier { label, id });
    aliases.chain(input.subscriptions.iter().map(Identifier::from)).collect()
}

fn alias_of(name: &Recipient) -> Alias {
    (name.label.as_str().to_owned(), name.id.clone())
}

/// What a transaction is about to write.
#[derive(Default)]
struct Draft {
    named: HashMap<Alias, Uuid>,
    erased: BTreeSet<Uuid>,
    counts: HashMap<Uuid, i64>,
    new: BTreeSet<Uuid>,
    set: BTreeMap<Alias, Uuid>,
    removed: Vec<(Uuid, String)>,
    rows: BTreeMap<Uuid, RowChange>,
}

impl Draft {
    /// Adds a change; returns the person, and whether they are new.
    fn add(&mut self, input: &UserInput, fresh: impl FnOnce() -> Uuid) -> Result<(Uuid, bool), ChangeError> {
        let name = alias_of(&input.name);
        let user = self.person(input, &name)?;
        let is_new = user.is_none();
        let user = user.unwrap_or_else(fresh);
        if self.erased.contains(&user) {
            return Err(ChangeError::Erased);
        }
        self.count(input, user)?;
        if is_new {
            self.new.insert(user);
        }
        for alias in aliases_of(input) {
            // The person's earlier alias under the same label is replaced, by an earlier change of this request too.
            self.set.retain(|(label, _), owner| *owner != user || *label != alias.0);
            self.named.retain(|(label, id), owner| *owner != user || *label != alias.0 || *id == alias.1);
            self.named.insert(alias.clone(), user);
            self.set.insert(alias, user);
        }
        for label in &input.removed_aliases {
            self.set.retain(|(set, _), owner| *owner != user || set != label);
            self.named.retain(|(set, _), owner| *owner != user || set != label);
            self.removed.push((user, label.clone()));
        }
        let row = self.rows.entry(user).or_default();
        let text =
            |property| input.properties.get(&property).and_then(|value| value.as_str()).map(str::to_owned);
        row.locale = text(Property::Language).or(row.locale.take());
        row.time_zone = text(Property::TimeZone).or(row.time_zone.take());
        Ok((user, is_new))
    }

    /// The one person whom a change's aliases name, if they are known.
    fn person(&self, input: &UserInput, name: &Alias) -> Result<Option<Uuid>, ChangeError> {
        let mut person = self.named.get(name).copied();
        for (label, id) in &input.aliases {
            let owner = self.named.get(&(label.clone(), id.clone())).copied();
            match (person, owner) {
                (Some(person), Some(owner)) if person != owner => {
                    return Err(ChangeError::AliasTaken { label: label.clone(), id: id.clone() });
                }
                (None, Some(owner)) => person = Some(owner),
                (Some(_) | None, _) => {}
            }
        }
        Ok(person)
    }

    /// Counts a person's aliases; the External ID and OneSignal's id do not count.
    fn count(&mut self, input: &UserInput, user: Uuid) -> Result<(), ChangeError> {
        let is_counted = |label: &str| matches!(RecipientLabel::from_label(label), RecipientLabel::Alias(_));
        let added = aliases_of(input)
            .filter(|alias| is_counted(&alias.0) && self.named.get(alias).is_none_or(|owner| *owner != user))
            .count();
        let count = self.counts.entry(user).or_default();
        let total = *count + i64::try_from(added).unwrap_or(i64::MAX);
        let removed = i64::try_from(input.removed_aliases.len()).unwrap_or_default();
        if added > 0 && total - removed > i64::try_from(MAX_ALIASES).unwrap_or(i64::MAX) + 1 {
            return Err(ChangeError::TooManyAliases);
        }
        *count = (total - removed).max(0);
        Ok(())
    }

    /// The people whose tags a change replaces.
    fn replaced(
        &self,
        changes: &[UserChange],
        results: &[Result<(Uuid, bool), ChangeError>],
    ) -> BTreeSet<Uuid> {
        let replacing = changes
            .iter()
            .zip(results)
            .filter(|(change, _)| change.mode == Mode::Replace && change.input.tags.is_some());
        replacing
            .filter_map(|(_, result)| result.as_ref().ok())
            .map(|(user, _)| *user)
            .filter(|user| !self.new.contains(user))
            .collect()
    }
}
