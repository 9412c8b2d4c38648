//! Statistics of outcomes: sums of the counts, and whether the counts are what the rows say.

use std::collections::{BTreeMap, HashSet};

use chrono::NaiveDate;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::outcomes::{Copy, Dimensions, SENT_COLUMNS, SentDelivery, facts_of, read_sent};
use super::{Store, StoreError, Tx};
use crate::domain::channel::Channel;
use crate::domain::outcome::Counts;

/// Deliveries that are counted again in one step.
const ROWS_AT_ONCE: i64 = 5_000;

/// What statistics are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of `outcome_counts`")]
pub enum GroupBy {
    Template,
    Version,
    Rule,
    EventType,
    Channel,
    Locale,
    Day,
}

impl GroupBy {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Template, Self::Version, Self::Rule, Self::EventType, Self::Channel, Self::Locale, Self::Day];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Version => "version",
            Self::Rule => "rule",
            Self::EventType => "event_type",
            Self::Channel => "channel",
            Self::Locale => "locale",
            Self::Day => "day",
        }
    }

    /// The columns, as texts.
    fn columns(self) -> [&'static str; 2] {
        match self {
            Self::Template => ["template_key", "''"],
            Self::Version => ["template_key", "lpad(template_version::text, 10, '0')"],
            Self::Rule => ["rule_key", "''"],
            Self::EventType => ["event_type", "''"],
            Self::Channel => ["channel::text", "''"],
            Self::Locale => ["locale", "''"],
            Self::Day => ["day::text", "''"],
        }
    }
}

/// Which counts are summed up.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "conditions on the columns of `outcome_counts`")]
pub struct StatsFilter {
    pub since: NaiveDate,
    pub until: NaiveDate,
    pub template: Option<String>,
    pub version: Option<i32>,
    pub rule: Option<String>,
    pub event_type: Option<String>,
    pub channel: Option<Channel>,
    pub locale: Option<String>,
}

/// Counts of a group on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCounts {
    /// The group: for a version its template and its number, padded with zeros; otherwise one text.
    pub group: (String, String),
    /// The channel.
    pub channel: Channel,
    /// The newest day in it.
    pub last_day: NaiveDate,
    /// The counts.
    pub counts: Counts,
}

const SUMS: &str = "sum(accepted)::bigint AS accepted, sum(reported)::bigint AS reported,
    sum(measurable)::bigint AS measurable, sum(sent)::bigint AS sent, sum(delivered)::bigint AS delivered,
    sum(opened)::bigint AS opened, sum(opened_soon)::bigint AS opened_soon, sum(clicked)::bigint AS clicked,
    sum(clicked_soon)::bigint AS clicked_soon, sum(failed)::bigint AS failed, sum(bounced)::bigint AS bounced,
    sum(suppressed)::bigint AS suppressed, sum(unsubscribed)::bigint AS unsubscribed,
    sum(complained)::bigint AS complained, sum(devices)::bigint AS devices,
    sum(devices_delivered)::bigint AS devices_delivered";

fn read_counts(row: &PgRow) -> Result<Counts, sqlx::Error> {
    Ok(Counts {
        accepted: row.try_get("accepted")?,
        reported: row.try_get("reported")?,
        measurable: row.try_get("measurable")?,
        sent: row.try_get("sent")?,
        delivered: row.try_get("delivered")?,
        opened: row.try_get("opened")?,
        opened_soon: row.try_get("opened_soon")?,
        clicked: row.try_get("clicked")?,
        clicked_soon: row.try_get("clicked_soon")?,
        failed: row.try_get("failed")?,
        bounced: row.try_get("bounced")?,
        suppressed: row.try_get("suppressed")?,
        unsubscribed: row.try_get("unsubscribed")?,
        complained: row.try_get("complained")?,
        devices: row.try_get("devices")?,
        devices_delivered: row.try_get("devices_delivered")?,
    })
}

fn channel_of(row: &PgRow) -> Result<Channel, StoreError> {
    let name: &str = row.try_get("channel_text")?;
    name.parse().map_err(|_| StoreError::corrupt("outcome_counts", "channel", name))
}

impl Store {
    /// The counts of each group, by channel.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn outcome_stats(
        &self,
        by: GroupBy,
        filter: &StatsFilter,
    ) -> Result<Vec<GroupCounts>, StoreError> {
        let [first, second] = by.columns();
        let query = format!(
            "SELECT {first} AS first, {second} AS second, channel::text AS channel_text, max(day) AS last_day, {SUMS}
             FROM outcome_counts
             WHERE day BETWEEN $1 AND $2 AND ($3::text IS NULL OR template_key = $3)
               AND ($4::integer IS NULL OR template_version = $4) AND ($5::text IS NULL OR rule_key = $5)
               AND ($6::text IS NULL OR event_type = $6) AND ($7::text IS NULL OR channel = $7::channel)
               AND ($8::text IS NULL OR locale = $8)
             GROUP BY 1, 2, 3
             ORDER BY 1, 2, 3"
        );
        let rows = sqlx::query(AssertSqlSafe(query))
            .bind(filter.since)
            .bind(filter.until)
            .bind(&filter.template)
            .bind(filter.version)
            .bind(&filter.rule)
            .bind(&filter.event_type)
            .bind(filter.channel.map(Channel::as_str))
            .bind(&filter.locale)
            .fetch_all(self.pool())
            .await?;
        let read = |row: &PgRow| {
            Ok(GroupCounts {
                group: (row.try_get("first")?, row.try_get("second")?),
                channel: channel_of(row)?,
                last_day: row.try_get("last_day")?,
                counts: read_counts(row)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Counts everything again that is still stored, at one moment, and returns where the counts differ, with the
    /// correct ones. Days from which deliveries may have been deleted are left out.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn check_outcome_counts(&self) -> Result<Vec<(Dimensions, Counts, Counts)>, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
        let stored = stored_counts(&mut tx).await?;
        let counted = recount(&mut tx).await?;
        let first_kept: Option<NaiveDate> = sqlx::query_scalar(
            "SELECT min(right(c.relname, 8)::date) FROM pg_inherits i
                JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'deliveries'::regclass",
        )
        .fetch_one(&mut *tx)
        .await?;
        let first_kept = first_kept.unwrap_or_default();
        // A delivery ends up to a month after the day of its id.
        let is_cut = stored.keys().any(|by| by.day < first_kept);
        let from = if is_cut { first_kept + chrono::Days::new(31) } else { first_kept };
        let keys: std::collections::BTreeSet<&Dimensions> = stored.keys().chain(counted.keys()).collect();
        let of = |all: &BTreeMap<Dimensions, Counts>, by| all.get(by).copied().unwrap_or_default();
        let differ = keys
            .into_iter()
            .filter(|by| by.day >= from)
            .map(|by| (by.clone(), of(&stored, by), of(&counted, by)))
            .filter(|(_, stored, counted)| stored != counted);
        Ok(differ.collect())
    }

    /// Sets counts to the correct ones. Nothing may have been recorded since they were counted: the feed's position is
    /// locked and the counts are checked again.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn repair_outcome_counts(&self) -> Result<usize, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query("SELECT number FROM outcome_position FOR UPDATE").execute(&mut *tx).await?;
        let wrong = self.check_outcome_counts().await?;
        let changes = wrong.iter().map(|(by, stored, counted)| (by.clone(), *counted - *stored)).collect();
        super::outcomes::add_counts(&mut tx, &changes).await?;
        tx.commit().await?;
        Ok(wrong.len())
    }
}

async fn stored_counts(tx: &mut Tx) -> Result<BTreeMap<Dimensions, Counts>, StoreError> {
    let rows = sqlx::query("SELECT c.*, c.channel::text AS channel_text FROM outcome_counts c")
        .fetch_all(&mut **tx)
        .await?;
    let read = |row: &PgRow| {
        let by = Dimensions {
            day: row.try_get("day")?,
            template: row.try_get("template_key")?,
            version: row.try_get("template_version")?,
            rule: row.try_get("rule_key")?,
            event_type: row.try_get("event_type")?,
            channel: channel_of(row)?,
            locale: row.try_get("locale")?,
        };
        Ok((by, read_counts(row)?))
    };
    rows.iter().map(read).collect()
}

/// Counts all deliveries that ended, a part at a time.
async fn recount(tx: &mut Tx) -> Result<BTreeMap<Dimensions, Counts>, StoreError> {
    let uncounted: HashSet<Uuid> = uncounted(tx).await?;
    let query = format!(
        "SELECT d.*, e.type AS event_type
         FROM ({SENT_COLUMNS} WHERE d.id > $1 AND d.finished_at IS NOT NULL ORDER BY d.id LIMIT $2) AS d
         LEFT JOIN events e ON e.id = d.event_id
         ORDER BY d.id"
    );
    let mut counted: BTreeMap<Dimensions, Counts> = BTreeMap::new();
    let mut after = Uuid::nil();
    loop {
        let rows = sqlx::query(AssertSqlSafe(query.clone()))
            .bind(after)
            .bind(ROWS_AT_ONCE)
            .fetch_all(&mut **tx)
            .await?;
        let mut sent = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut delivery = read_sent(row)?;
            delivery.dimensions.event_type =
                row.try_get::<Option<String>, _>("event_type")?.unwrap_or_default();
            sent.push(delivery);
        }
        let Some(last) = sent.last().map(|sent| crate::domain::id::TypedId::uuid(sent.id)) else { break };
        after = last;
        add_part(tx, &sent, &uncounted, &mut counted).await?;
    }
    counted.retain(|_, counts| !counts.is_zero());
    Ok(counted)
}

async fn add_part(
    tx: &mut Tx,
    sent: &[SentDelivery],
    uncounted: &HashSet<Uuid>,
    counted: &mut BTreeMap<Dimensions, Counts>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = sent.iter().map(|sent| crate::domain::id::TypedId::uuid(sent.id)).collect();
    let people: Vec<(Uuid, String)> = sqlx::query_as(
        "SELECT DISTINCT o.delivery_id, o.person FROM outcomes o WHERE o.delivery_id = ANY ($1)",
    )
    .bind(&ids)
    .fetch_all(&mut **tx)
    .await?;
    let copies: Vec<Copy> =
        people.into_iter().map(|(id, person)| (crate::domain::id::TypedId::from_uuid(id), person)).collect();
    let facts = facts_of(tx, &copies).await?;
    let mut by_delivery: BTreeMap<_, Counts> = BTreeMap::new();
    for (one, id) in sent.iter().zip(ids) {
        if one.is_accepted && !uncounted.contains(&id) {
            by_delivery.entry(one.id).or_default().accepted += 1;
        }
    }
    let ended: BTreeMap<_, _> = sent.iter().map(|one| (one.id, one)).collect();
    for ((delivery, _), facts) in &facts {
        if let Some(at) = ended.get(delivery).and_then(|one| one.sent_at) {
            *by_delivery.entry(*delivery).or_default() += Counts::of(facts, at);
        }
    }
    for (id, counts) in by_delivery {
        if let Some(one) = ended.get(&id) {
            *counted.entry(one.dimensions.clone()).or_default() += counts;
        }
    }
    Ok(())
}

/// Deliveries that are accepted and not counted yet.
async fn uncounted(tx: &mut Tx) -> Result<HashSet<Uuid>, StoreError> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT unnest(coalesce(m.uncounted, b.members))
         FROM provider_messages m
         JOIN batches b ON b.id = m.batch_id
         WHERE m.due_at IS NOT NULL",
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().collect())
}
