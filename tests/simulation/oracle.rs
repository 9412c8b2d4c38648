//! What must hold once nothing moves any more (reliability's O1 to O8), from three independent accounts: what the
//! sources posted and were answered, what OneSignal did, and what Herald's books say.

mod effects;
mod timing;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use herald::domain::clock::Timestamp;
use herald::domain::id::TypedId;
use sqlx::Row;
use uuid::Uuid;

use crate::catalog::{SEGMENT, rule_of};
use crate::onesignal::{Known, Post, Reached};
use crate::run::{Posted, Run};

/// Something that must never be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub invariant: &'static str,
    pub detail: String,
}

impl Finding {
    pub fn new(invariant: &'static str, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }
}

/// A delivery in the books.
struct Delivery {
    id: Uuid,
    event: Uuid,
    rule: String,
    channel: String,
    target: String,
    state: String,
    batch: Option<Uuid>,
    decisions: i64,
    end: Option<(i32, i32)>,
}

/// A batch in the books.
struct Batch {
    id: Uuid,
    app: String,
    key: String,
    members: Vec<Uuid>,
    is_void: bool,
    created_at: Timestamp,
    attempts: Vec<(Option<String>, Option<String>)>,
}

/// Everything that is compared.
pub struct Oracle<'a> {
    run: &'a Run<'a>,
    posts: Vec<Post>,
    effects: BTreeMap<Reached, Vec<(Timestamp, String)>>,
    /// Events by id: their key, and when they came.
    events: HashMap<Uuid, (String, Timestamp)>,
    deliveries: Vec<Delivery>,
    batches: Vec<Batch>,
    /// Events and rules whose time was over when they were planned.
    over_when_planned: BTreeSet<(Uuid, String)>,
    findings: Vec<Finding>,
    checks: BTreeMap<&'static str, u64>,
}

/// Whether a batch is void, and who is in it.
type Members = (bool, BTreeSet<Uuid>);

impl<'a> Oracle<'a> {
    /// Reads the three accounts.
    pub async fn read(run: &'a Run<'a>) -> Self {
        let books = &run.world.books;
        let rows = sqlx::query("SELECT id, event_key, received_at FROM events")
            .fetch_all(books)
            .await
            .expect("events");
        let events =
            rows.iter().map(|row| (row.get("id"), (row.get("event_key"), row.get("received_at")))).collect();
        let rows = sqlx::query(include_str!("deliveries.sql")).fetch_all(books).await.expect("deliveries");
        let deliveries = rows
            .iter()
            .map(|row| Delivery {
                id: row.get("id"),
                event: row.get("event_id"),
                rule: row.get("rule_key"),
                channel: row.get("channel"),
                target: row.get::<Option<String>, _>("recipient_id").unwrap_or_else(|| SEGMENT.to_owned()),
                state: row.get("state"),
                batch: row.get("batch_id"),
                decisions: row.get("decisions"),
                end: row.get::<Option<i32>, _>("end_attempts").zip(row.get("end_generation")),
            })
            .collect();
        let over = "SELECT event_id, rule_key FROM decisions WHERE delivery_id IS NULL AND code = 'expired'";
        let rows = sqlx::query(over).fetch_all(books).await.expect("decisions");
        let over_when_planned = rows.iter().map(|row| (row.get("event_id"), row.get("rule_key"))).collect();
        Self {
            run,
            over_when_planned,
            posts: run.onesignal.posts(),
            effects: run.onesignal.effects(),
            events,
            deliveries,
            batches: read_batches(run).await,
            findings: Vec::new(),
            checks: BTreeMap::new(),
        }
    }

    /// Holds the accounts against each other.
    pub async fn examine(mut self) -> (Vec<Finding>, BTreeMap<&'static str, u64>) {
        self.acknowledged_is_kept();
        self.effects_fit_states();
        self.no_effect_without_a_post();
        self.books_are_the_providers_log();
        self.one_key_one_body();
        self.calls_came_in_time();
        self.decisions_tell_why();
        self.opted_out_is_left_alone();
        self.watch_saw_nothing().await;
        self.secrets_are_gone().await;
        self.consistency_check_passes().await;
        (self.findings, self.checks)
    }

    fn check(&mut self, invariant: &'static str, holds: bool, detail: impl FnOnce() -> String) {
        *self.checks.entry(invariant).or_default() += 1;
        if !holds {
            self.findings.push(Finding::new(invariant, detail()));
        }
    }

    fn posted_of(&self, event: Uuid) -> Option<&'a Posted> {
        let (key, _) = self.events.get(&event)?;
        self.run.posted.iter().find(|posted| posted.event_key == *key)
    }

    /// O1: what was acknowledged is there, once, with everything that it is to become.
    fn acknowledged_is_kept(&mut self) {
        const NAME: &str = "O1 acknowledged is kept";
        for posted in &self.run.posted {
            let rows = self.events.values().filter(|(key, _)| *key == posted.event_key).count();
            let ids: BTreeSet<Uuid> = posted.acknowledged.iter().map(|id| id.uuid()).collect();
            self.check(NAME, ids.len() <= 1, || format!("{} got {} ids", posted.event_key, ids.len()));
            let Some(id) = ids.first().copied() else { continue };
            let is_there = self.events.contains_key(&id) && rows == 1;
            self.check(NAME, is_there, || format!("{} stands there {rows} times", posted.event_key));
            for rule in posted.spec.rules {
                let targets = if rule.is_audience { vec![SEGMENT] } else { posted.recipients.clone() };
                for target in targets {
                    let is_it = |d: &&Delivery| d.event == id && d.rule == rule.key && d.target == target;
                    let count = self.deliveries.iter().filter(is_it).count();
                    let was_late = count == 0 && self.over_when_planned.contains(&(id, rule.key.to_owned()));
                    let detail =
                        || format!("{} has {count} deliveries by {} to {target}", posted.event_key, rule.key);
                    self.check(NAME, count == 1 || was_late, detail);
                }
            }
        }
    }

    /// O4: every call has its batch and attempt, and what the books call accepted was answered so.
    fn books_are_the_providers_log(&mut self) {
        const NAME: &str = "O4 the books are the provider's log";
        let targets: HashMap<Uuid, &str> =
            self.deliveries.iter().map(|d| (d.id, d.target.as_str())).collect();
        let mut found: Vec<(bool, String)> = Vec::new();
        let mut per_key: HashMap<&str, usize> = HashMap::new();
        // The books know nothing of calls that a restore has lost.
        let lost = |post: &&Post| self.run.restored.is_some_and(|restored| restored.lost(post.started_at));
        for post in self.posts.iter().filter(|post| !lost(post)) {
            *per_key.entry(&post.key).or_default() += 1;
            let of_key = self.batches.iter().filter(|b| b.key == post.key && b.app == post.app);
            let is_same = of_key.clone().any(|batch| {
                let members: Vec<&str> =
                    batch.members.iter().filter_map(|id| targets.get(id).copied()).collect();
                members == post.targets
            });
            found.push((is_same, format!("call {} to {:?} has no such batch", post.key, post.targets)));
            found.push((
                post.is_in_the_books,
                format!("call {} began before its attempt was noted", post.key),
            ));
            let attempts: usize = of_key.map(|batch| batch.attempts.len()).sum();
            let is_enough = attempts >= per_key[post.key.as_str()];
            found.push((is_enough, format!("key {} has {attempts} attempts and more calls", post.key)));
        }
        for delivery in self.deliveries.iter().filter(|delivery| delivery.state == "accepted") {
            let batch = self.batches.iter().find(|batch| Some(batch.id) == delivery.batch);
            let is_accepted = batch.is_some_and(|batch| {
                let said = |(answer, message): &(Option<String>, Option<String>)| {
                    answer.as_deref() == Some("accepted")
                        && self.posts.iter().any(|post| post.key == batch.key && post.message == *message)
                };
                !batch.is_void && batch.members.contains(&delivery.id) && batch.attempts.iter().any(said)
            });
            found.push((is_accepted, format!("{} is accepted and no attempt of its batch was", delivery.id)));
        }
        for delivery in &self.deliveries {
            found.extend(self.counted(delivery));
        }
        for (holds, detail) in found {
            self.check(NAME, holds, || detail);
        }
    }

    /// Tries that count were counted: all but the last, which ended it.
    fn counted(&self, delivery: &Delivery) -> Option<(bool, String)> {
        let (counted, _) = delivery.end?;
        let of_it = self.batches.iter().filter(|batch| batch.members.contains(&delivery.id));
        let counts = |(answer, _): &&(Option<String>, Option<String>)| {
            matches!(answer.as_deref(), Some("ambiguous" | "not_connected" | "conflict"))
        };
        let tries = of_it.flat_map(|batch| &batch.attempts).filter(counts).count();
        let detail = format!("{} had {tries} tries and {counted} were counted", delivery.id);
        Some((i64::from(counted) + 1 >= i64::try_from(tries).unwrap_or_default(), detail))
    }

    /// O5: one key, one body, the same members, and one batch that stands.
    fn one_key_one_body(&mut self) {
        const NAME: &str = "O5 one key, one body";
        let mut bodies: HashMap<(String, String, bool), serde_json::Value> = HashMap::new();
        // What was surely not sent leaves nothing behind under its key.
        let doubtful: Vec<Post> =
            self.posts.iter().filter(|post| post.known != Known::NotSent).cloned().collect();
        for post in doubtful {
            // An event that is posted again after a restore has another id.
            let is_lost = self.run.restored.is_some_and(|restored| restored.lost(post.started_at));
            let key = (post.app, post.key.clone(), is_lost);
            let first = bodies.entry(key).or_insert_with(|| post.body.clone()).clone();
            self.check(NAME, first == post.body, || format!("key {} went out with another body", post.key));
        }
        let mut by_key: HashMap<(String, String), Vec<Members>> = HashMap::new();
        for batch in &self.batches {
            let members = batch.members.iter().copied().collect();
            by_key.entry((batch.app.clone(), batch.key.clone())).or_default().push((batch.is_void, members));
        }
        for ((_, key), batches) in by_key {
            let standing = batches.iter().filter(|(is_void, _)| !is_void).count();
            let is_same = batches.iter().all(|(_, members)| *members == batches[0].1);
            self.check(NAME, standing <= 1 && is_same, || {
                format!("key {key} has {standing} batches that stand")
            });
        }
    }

    /// Every end is one, and what left the happy path has its reason.
    fn decisions_tell_why(&mut self) {
        let checks: Vec<(bool, String)> = self
            .deliveries
            .iter()
            .map(|d| {
                let is_open = matches!(d.state.as_str(), "queued" | "sending" | "retrying");
                let is_explained = d.state == "accepted" || d.decisions > 0;
                (!is_open && is_explained, format!("{} is {} with {} decisions", d.id, d.state, d.decisions))
            })
            .collect();
        for (holds, detail) in checks {
            self.check("every end has its reason", holds, || detail);
        }
        let unknown_rule =
            self.deliveries.iter().find(|d| rule_of(&d.rule).is_none()).map(|d| d.rule.clone());
        self.check("every end has its reason", unknown_rule.is_none(), || format!("{unknown_rule:?}"));
    }

    async fn watch_saw_nothing(&mut self) {
        for (name, invariant) in [
            ("epoch", "a claim's epoch only rises"),
            ("expiry", "an expiry never moves"),
            ("counts", "counts only rise"),
            ("doubt", "what may have been sent keeps its batch"),
            ("lease", "a lease that is over is not renewed"),
            ("gate", "a gate's closings are counted by reason"),
        ] {
            let query = "SELECT detail FROM sim_findings WHERE name = $1 LIMIT 1";
            let seen: Option<String> = sqlx::query_scalar(query)
                .bind(name)
                .fetch_optional(&self.run.world.books)
                .await
                .expect("the watch can be read");
            self.check(invariant, seen.is_none(), || seen.unwrap_or_default());
        }
    }

    /// The consistency check that `herald doctor --consistency` runs.
    async fn consistency_check_passes(&mut self) {
        let lines = self
            .run
            .world
            .store(0)
            .check_consistency(crate::world::start_of_time() - chrono::TimeDelta::days(1))
            .await
            .expect("the consistency check");
        for line in lines.iter().filter(|line| line.must_be_none) {
            self.check("the consistency check passes", line.count == 0, || {
                format!("{} {}, such as {:?}", line.count, line.name, line.example)
            });
        }
    }

    /// O7: what is sensitive never stood in plain text, and is gone once it has served.
    async fn secrets_are_gone(&mut self) {
        let plain = self
            .run
            .number(
                "SELECT (SELECT count(*) FROM event_payloads WHERE event_id IN (
                        SELECT id FROM events WHERE type = 'sim.code') AND data::text LIKE '%canary%')
                    + (SELECT count(*) FROM decisions WHERE detail LIKE '%canary%' OR facts::text LIKE '%canary%')
                    + (SELECT count(*) FROM attempts WHERE body LIKE '%canary%')",
            )
            .await;
        self.check("O7 secrets stay secret", plain == 0, || format!("{plain} rows show a code"));
        let open = "SELECT count(*) FROM queue";
        if self.run.number(open).await == 0 {
            // By the database's clock, which may have gone back since the events came.
            let query = "SELECT count(*) FROM event_secrets s JOIN events e ON e.id = s.event_id
                WHERE e.received_at < $1 - interval '61 minutes'";
            let kept: i64 = sqlx::query_scalar(query)
                .bind(self.run.now())
                .fetch_one(&self.run.world.books)
                .await
                .expect("the books can be read");
            self.check("O7 secrets stay secret", kept == 0, || format!("{kept} are kept long after the end"));
        }
    }
}

async fn read_batches(run: &Run<'_>) -> Vec<Batch> {
    let query = "SELECT b.id, b.app_id::text AS app, b.idempotency_key::text AS key, b.members, b.is_void, b.created_at,
            array_agg(a.answer ORDER BY a.n) AS answers, array_agg(a.provider_message_id ORDER BY a.n) AS messages
        FROM batches b
        LEFT JOIN attempts a ON a.batch_id = b.id
        GROUP BY b.id, b.app_id, b.idempotency_key, b.members, b.is_void, b.created_at";
    let rows = sqlx::query(query).fetch_all(&run.world.books).await.expect("batches");
    rows.iter()
        .map(|row| {
            let answers: Vec<Option<String>> = row.get("answers");
            let messages: Vec<Option<String>> = row.get("messages");
            Batch {
                id: row.get("id"),
                app: row.get("app"),
                key: row.get("key"),
                members: row.get("members"),
                is_void: row.get("is_void"),
                created_at: row.get("created_at"),
                attempts: answers.into_iter().zip(messages).collect(),
            }
        })
        .collect()
}

/// What the books say of the calls of one key, for people to read.
pub async fn story(run: &Run<'_>, key: &str) -> Vec<String> {
    let query = "SELECT b.id::text || ' key ' || b.idempotency_key || ' void ' || b.is_void || ' made ' || b.created_at
            || ' members ' || cardinality(b.members) || ': attempt ' || a.n || ' by ' || right(a.worker_id::text, 4) || ' at '
            || a.started_at || ' -> ' || coalesce(a.answer, '-') || ' at ' || coalesce(a.answered_at::text, '-')
        FROM batches b JOIN attempts a ON a.batch_id = b.id WHERE b.idempotency_key::text = $1 OR b.members @> ARRAY[$1::uuid] ORDER BY b.id, a.n";
    let mut history: Vec<String> =
        sqlx::query_scalar(query).bind(key).fetch_all(&run.world.books).await.expect("a story");
    let query = "SELECT right(c.delivery_id::text, 4) || ' ' || c.code || ': ' || c.detail FROM decisions c
        WHERE c.delivery_id::text = $1
            OR c.delivery_id IN (SELECT unnest(members) FROM batches WHERE idempotency_key::text = $1)
        ORDER BY c.id";
    history.extend(
        sqlx::query_scalar::<_, String>(query).bind(key).fetch_all(&run.world.books).await.expect("a story"),
    );
    let query =
        "SELECT 'queued as ' || q.state || ' of ' || coalesce(right(q.worker_id::text, 4), 'nobody') || ', whose lease ends at '
            || coalesce(w.lease_until::text, '-') || '; epoch ' || q.claim_epoch || ', expires ' || q.expires_at
        FROM queue q LEFT JOIN workers w ON w.id = q.worker_id WHERE q.delivery_id::text = $1";
    history.extend(
        sqlx::query_scalar::<_, String>(query).bind(key).fetch_all(&run.world.books).await.expect("a story"),
    );
    for post in run.onesignal.posts().iter().filter(|post| post.key == key) {
        history.push(format!("{post:?}"));
    }
    history
}

/// Deliveries by the state that they ended in.
pub async fn ends(run: &Run<'_>) -> BTreeMap<String, u64> {
    let query = "SELECT coalesce(q.state, d.state)::text AS state, count(*) AS deliveries
        FROM deliveries d LEFT JOIN queue q ON q.delivery_id = d.id GROUP BY 1";
    let rows = sqlx::query(query).fetch_all(&run.world.books).await.expect("deliveries");
    rows.iter()
        .map(|row| (row.get("state"), u64::try_from(row.get::<i64, _>("deliveries")).unwrap_or_default()))
        .collect()
}
