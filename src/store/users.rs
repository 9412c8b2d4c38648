//! Users: identities and their aliases.
//!
//! A change of a person locks their row first, so that changes of one person happen one after the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::user::{Changes, PartKey};

/// An alias: a label with an id.
pub type Alias = (String, String);

/// What changes in a person's own row.
#[derive(Debug, Clone, Default)]
pub struct RowChange {
    /// The locale that they read.
    pub locale: Option<String>,
    /// Their time zone's IANA name.
    pub time_zone: Option<String>,
}

/// The people whom these aliases name.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn resolve(
    connection: &mut PgConnection,
    aliases: &BTreeSet<Alias>,
) -> Result<HashMap<Alias, Uuid>, StoreError> {
    let rows = sqlx::query(
        "SELECT a.label, a.alias, a.user_id
         FROM unnest($1::text[], $2::text[]) AS r (label, alias)
         JOIN user_aliases a ON a.label = r.label AND a.alias = r.alias",
    )
    .bind(aliases.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>())
    .bind(aliases.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let named =
        rows.iter().map(|row| Ok(((row.try_get("label")?, row.try_get("alias")?), row.try_get("user_id")?)));
    named.collect()
}

/// Locks people in the order of their ids; returns those who were erased.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(
    connection: &mut PgConnection,
    users: &BTreeSet<Uuid>,
) -> Result<BTreeSet<Uuid>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, erased_at IS NOT NULL AS is_erased FROM users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
    )
    .bind(users.iter().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut erased = BTreeSet::new();
    for row in &rows {
        if row.try_get("is_erased")? {
            erased.insert(row.try_get("id")?);
        }
    }
    Ok(erased)
}

/// Inserts people.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    connection: &mut PgConnection,
    users: &BTreeSet<Uuid>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (id, created_at, updated_at) SELECT id, $2, $2 FROM unnest($1::uuid[]) AS n (id)",
    )
    .bind(users.iter().copied().collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// The people whom these aliases name; those who are unknown are inserted, with ids from `fresh`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn ensure(
    connection: &mut PgConnection,
    aliases: &BTreeSet<Alias>,
    mut fresh: impl FnMut() -> Uuid,
    now: Timestamp,
) -> Result<HashMap<Alias, Uuid>, StoreError> {
    let known = resolve(connection, aliases).await?;
    let missing: BTreeMap<Alias, Uuid> = aliases
        .iter()
        .filter(|alias| !known.contains_key(*alias))
        .map(|alias| (alias.clone(), fresh()))
        .collect();
    if missing.is_empty() {
        return Ok(known);
    }
    let inserted: BTreeSet<Uuid> = missing.values().copied().collect();
    insert(connection, &inserted, now).await?;
    if set_aliases(connection, &missing).await? == missing.len() {
        return Ok(known.into_iter().chain(missing).collect());
    }
    // Someone else inserted some of them at the same moment: theirs count.
    sqlx::query(
        "DELETE FROM users u
         WHERE u.id = ANY($1) AND NOT EXISTS (SELECT 1 FROM user_aliases a WHERE a.user_id = u.id)",
    )
    .bind(inserted.iter().copied().collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    resolve(connection, aliases).await
}

/// Gives people aliases, each instead of their previous one under the same label; returns how many are stored. An
/// alias that someone else took in the meantime is not.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_aliases(
    connection: &mut PgConnection,
    aliases: &BTreeMap<Alias, Uuid>,
) -> Result<usize, StoreError> {
    let (labels, ids, users) = columns(aliases);
    sqlx::query(
        "DELETE FROM user_aliases a
         USING unnest($1::text[], $2::text[], $3::uuid[]) AS n (label, alias, user_id)
         WHERE a.user_id = n.user_id AND a.label = n.label AND a.alias <> n.alias",
    )
    .bind(&labels)
    .bind(&ids)
    .bind(&users)
    .execute(&mut *connection)
    .await?;
    let stored: i64 = sqlx::query_scalar(
        "WITH added AS (
            INSERT INTO user_aliases (label, alias, user_id)
            SELECT label, alias, user_id
            FROM unnest($1::text[], $2::text[], $3::uuid[]) AS n (label, alias, user_id)
            ORDER BY label, alias
            ON CONFLICT DO NOTHING
            RETURNING label, alias, user_id
         )
         SELECT count(*)
         FROM unnest($1::text[], $2::text[], $3::uuid[]) AS n (label, alias, user_id)
         WHERE EXISTS (
            SELECT 1 FROM added a WHERE (a.label, a.alias, a.user_id) = (n.label, n.alias, n.user_id)
            UNION ALL
            SELECT 1 FROM user_aliases a WHERE (a.label, a.alias, a.user_id) = (n.label, n.alias, n.user_id)
         )",
    )
    .bind(&labels)
    .bind(&ids)
    .bind(&users)
    .fetch_one(connection)
    .await?;
    Ok(usize::try_from(stored).unwrap_or_default())
}

fn columns(aliases: &BTreeMap<Alias, Uuid>) -> (Vec<&str>, Vec<&str>, Vec<Uuid>) {
    (
        aliases.keys().map(|(label, _)| label.as_str()).collect(),
        aliases.keys().map(|(_, id)| id.as_str()).collect(),
        aliases.values().copied().collect(),
    )
}

/// Removes the aliases that people have under these labels.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remove_aliases(
    connection: &mut PgConnection,
    removed: &[(Uuid, String)],
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM user_aliases a
         USING unnest($1::uuid[], $2::text[]) AS n (user_id, label)
         WHERE a.user_id = n.user_id AND a.label = n.label",
    )
    .bind(removed.iter().map(|(user, _)| *user).collect::<Vec<_>>())
    .bind(removed.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The number of aliases that each of these people has.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_aliases(
    connection: &mut PgConnection,
    users: &BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, i64>, StoreError> {
    let rows = sqlx::query(
        "SELECT user_id, count(*) AS count FROM user_aliases WHERE user_id = ANY($1) GROUP BY user_id",
    )
    .bind(users.iter().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((row.try_get("user_id")?, row.try_get("count")?))).collect()
}

/// Changes people's own rows.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn update(
    connection: &mut PgConnection,
    changes: &BTreeMap<Uuid, RowChange>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE users u
         SET locale = coalesce(n.locale, u.locale), time_zone = coalesce(n.time_zone, u.time_zone), updated_at = $4
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n (id, locale, time_zone)
         WHERE u.id = n.id",
    )
    .bind(changes.keys().copied().collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.locale.as_deref()).collect::<Vec<_>>())
    .bind(changes.values().map(|change| change.time_zone.as_deref()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets whether a person may be sent messages on channels; `true` is an opt-out. Returns whether anything changed.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_opt_outs(
    connection: &mut PgConnection,
    user: Uuid,
    opt_outs: &BTreeMap<Channel, bool>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed: i64 = sqlx::query_scalar(
        "WITH wanted AS (
            SELECT channel::channel, is_out FROM unnest($2::text[], $3::boolean[]) AS n (channel, is_out)
         ),
         added AS (
            INSERT INTO user_opt_outs (user_id, channel, since)
            SELECT $1, channel, $4 FROM wanted WHERE is_out
            ON CONFLICT DO NOTHING
            RETURNING 1
         ),
         removed AS (
            DELETE FROM user_opt_outs o
            USING wanted w
            WHERE o.user_id = $1 AND o.channel = w.channel AND NOT w.is_out
            RETURNING 1
         )
         SELECT (SELECT count(*) FROM added) + (SELECT count(*) FROM removed)",
    )
    .bind(user)
    .bind(opt_outs.keys().map(|channel| channel.as_str()).collect::<Vec<_>>())
    .bind(opt_outs.values().copied().collect::<Vec<_>>())
    .bind(now)
    .fetch_one(connection)
    .await?;
    Ok(changed > 0)
}

/// The tags that Herald has written, or is about to write, for these people in an app.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn known_tags(
    connection: &mut PgConnection,
    app: AppId,
    users: &BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, BTreeSet<String>>, StoreError> {
    let rows = sqlx::query(
        "SELECT u.user_id, k.key
         FROM (
            SELECT user_id, confirmed AS parts FROM user_syncs WHERE app_id = $1 AND user_id = ANY($2)
            UNION ALL
            SELECT user_id, changes FROM user_writes WHERE app_id = $1 AND user_id = ANY($2)
         ) AS u
         CROSS JOIN LATERAL jsonb_object_keys(u.parts) AS k (key)
         WHERE k.key LIKE 'tag/%'",
    )
    .bind(app.0)
    .bind(users.iter().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut known: HashMap<Uuid, BTreeSet<String>> = HashMap::new();
    for row in &rows {
        let key: String = row.try_get("key")?;
        if let Ok(PartKey::Tag(name)) = key.parse() {
            known.entry(row.try_get("user_id")?).or_default().insert(name);
        }
    }
    Ok(known)
}

/// Hashes of the values that OneSignal has confirmed, by part, of those people about whom nothing is pending.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn confirmed(
    connection: &mut PgConnection,
    app: AppId,
    users: &BTreeSet<Uuid>,
) -> Result<HashMap<Uuid, BTreeMap<String, String>>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.user_id, s.confirmed
         FROM user_syncs s
         WHERE s.app_id = $1 AND s.user_id = ANY($2)
           AND NOT EXISTS (SELECT 1 FROM user_writes w WHERE w.app_id = $1 AND w.user_id = s.user_id)",
    )
    .bind(app.0)
    .bind(users.iter().copied().collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let Json(confirmed) = row.try_get("confirmed")?;
            Ok((row.try_get("user_id")?, confirmed))
        })
        .collect()
}

/// What Herald holds about a person.
#[derive(Debug, Clone)]
pub struct StoredUser {
    /// Their id.
    pub id: Uuid,
    /// Their aliases.
    pub aliases: BTreeMap<String, String>,
    /// The locale that they read.
    pub locale: Option<String>,
    /// Their time zone's IANA name.
    pub time_zone: Option<String>,
    /// Channels that they opted out of.
    pub opted_out: Vec<String>,
    /// When they became known.
    pub created_at: Timestamp,
    /// When anything about them last changed.
    pub updated_at: Timestamp,
    /// Their state in each app.
    pub apps: Vec<AppState>,
}

/// What is known of a person in one app at OneSignal.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The app.
    pub app: AppId,
    /// Changes that OneSignal has not confirmed.
    pub pending: Option<PendingChanges>,
    /// The last call's answer.
    pub last: Option<LastAnswer>,
}

impl AppState {
    /// The state in one word: `in_sync`, `pending`, `retrying` or `refused`.
    pub fn label(&self) -> &'static str {
        match (&self.pending, &self.last) {
            (Some(pending), _) if pending.attempts > 0 => "retrying",
            (Some(_), _) => "pending",
            (None, Some(last)) if !last.refused.is_empty() => "refused",
            (None, _) => "in_sync",
        }
    }
}

/// Changes that OneSignal has not confirmed.
#[derive(Debug, Clone)]
pub struct PendingChanges {
    /// The newest value of each part.
    pub changes: Changes,
    /// Failed attempts so far.
    pub attempts: i16,
    /// When the next call is made.
    pub due_at: Timestamp,
    /// When the oldest of them was accepted.
    pub since: Timestamp,
}

/// The last answer about a person, and what is known since.
#[derive(Debug, Clone)]
pub struct LastAnswer {
    /// The names of confirmed parts.
    pub confirmed: Vec<String>,
    /// Refused parts, each with code, detail and time.
    pub refused: Map<String, Value>,
    /// OneSignal's id of the user.
    pub onesignal_id: Option<Uuid>,
    /// Since when OneSignal has confirmed writes of this user.
    pub exists_since: Option<Timestamp>,
    /// The answer's code.
    pub answer: String,
    /// OneSignal's text.
    pub detail: String,
    /// When it came.
    pub answered_at: Timestamp,
}

impl Store {
    /// What Herald holds about the person whom this alias names.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_user(&self, label: &str, id: &str) -> Result<Option<StoredUser>, StoreError> {
        let row = sqlx::query(
            "SELECT u.*,
                (SELECT jsonb_object_agg(o.label, o.alias) FROM user_aliases o WHERE o.user_id = u.id) AS aliases,
                (SELECT coalesce(array_agg(o.channel::text ORDER BY o.channel), '{}')
                    FROM user_opt_outs o WHERE o.user_id = u.id) AS opted_out
             FROM user_aliases a
             JOIN users u ON u.id = a.user_id
             WHERE a.label = $1 AND a.alias = $2",
        )
        .bind(label)
        .bind(id)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let id: Uuid = row.try_get("id")?;
        let aliases: Json<BTreeMap<String, String>> = row.try_get("aliases")?;
        Ok(Some(StoredUser {
            id,
            aliases: aliases.0,
            locale: row.try_get("locale")?,
            time_zone: row.try_get("time_zone")?,
            opted_out: row.try_get("opted_out")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            apps: self.app_states(id).await?,
        }))
    }

    async fn app_states(&self, user: Uuid) -> Result<Vec<AppState>, StoreError> {
        let rows = sqlx::query(
            "SELECT coalesce(w.app_id, s.app_id) AS app_id, w.changes, w.attempts, w.due_at, w.created_at,
                s.confirmed, s.refused, s.onesignal_id, s.exists_since, s.answer, s.detail, s.answered_at
             FROM (SELECT * FROM user_writes WHERE user_id = $1) AS w
             FULL JOIN (SELECT * FROM user_syncs WHERE user_id = $1) AS s ON s.app_id = w.app_id
             ORDER BY 1",
        )
        .bind(user)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| read_state(row, user)).collect()
    }
}

fn read_state(row: &PgRow, user: Uuid) -> Result<AppState, StoreError> {
    let changes: Option<Json<Map<String, Value>>> = row.try_get("changes")?;
    let pending = match changes {
        Some(Json(changes)) => Some(PendingChanges {
            changes: Changes::from_json(changes)
                .map_err(|_| StoreError::corrupt("user_writes", "changes", user))?,
            attempts: row.try_get("attempts")?,
            due_at: row.try_get("due_at")?,
            since: row.try_get("created_at")?,
        }),
        None => None,
    };
    let confirmed: Option<Json<BTreeMap<String, String>>> = row.try_get("confirmed")?;
    let refused: Option<Json<Map<String, Value>>> = row.try_get("refused")?;
    let last = match (confirmed, refused) {
        (Some(Json(confirmed)), Some(Json(refused))) => Some(LastAnswer {
            confirmed: confirmed.into_keys().collect(),
            refused,
            onesignal_id: row.try_get("onesignal_id")?,
            exists_since: row.try_get("exists_since")?,
            answer: row.try_get("answer")?,
            detail: row.try_get("detail")?,
            answered_at: row.try_get("answered_at")?,
        }),
        (Some(_), None) | (None, _) => None,
    };
    Ok(AppState { app: AppId(row.try_get("app_id")?), pending, last })
}
