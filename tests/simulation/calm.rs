//! After the storm: no more faults, everything is alive, and the clock runs on until nothing is left to do.

use std::time::Duration;

use chrono::TimeDelta;
use herald::domain::clock::Timestamp;

use crate::oracle::Finding;
use crate::replica::{Driven, Ended};
use crate::run::Run;
use crate::run::clock::Step;

/// Rounds until everything must have come to its end.
const ROUNDS: u32 = 2_000;
/// How far a row that is no one's may be behind: lease, the longest call, and a look every half minute.
const PATIENCE: TimeDelta = TimeDelta::seconds(45 + 60 + 30);

impl Run<'_> {
    /// Brings everything to its end; what is stuck is a finding.
    pub async fn settle(&mut self) -> Vec<Finding> {
        self.onesignal.calm();
        for replica in &mut self.replicas {
            replica.kit.control.calm();
            replica.frozen_until = None;
        }
        self.finish_steps().await;
        for slot in 0..self.replicas.len() {
            // A connection that was cut may keep a process from starting.
            for _ in 0..3 {
                if self.replicas[slot].pipeline.is_none() {
                    self.revive(slot).await;
                }
            }
        }
        self.watch_all().await;
        self.post_the_rest().await;
        let calm_since = self.true_now();
        let ends_at = self.now() + TimeDelta::days(62);
        let mut gated_until = None;
        for _ in 0..ROUNDS {
            // A gate that opened is gone, and what waited behind it goes slowly at first.
            gated_until = gated_until.max(self.gated_until().await);
            self.run_until_idle().await;
            if self.open_rows().await == 0 {
                self.clean_up().await;
                return Vec::new();
            }
            let mut overdue = self.overdue(gated_until).await;
            overdue.extend(self.waits_for_the_clock(calm_since).await);
            if !overdue.is_empty() {
                return overdue;
            }
            let now = self.now();
            let next = self.next_moment(now).await;
            let next = next.into_iter().chain(self.next_look_at_the_clock(calm_since)).min();
            let next = next.unwrap_or(now + TimeDelta::seconds(16));
            if next > ends_at {
                break;
            }
            let by = (next - now).to_std().unwrap_or_default().max(Duration::from_millis(1));
            self.advance(by).await;
        }
        let left = self
            .texts("SELECT delivery_id || ' ' || state || ' ' || due_at FROM queue WHERE state <> 'held'")
            .await;
        vec![Finding::new("nothing is stuck", format!("still open: {}", left.join("; ")))]
    }

    /// Lets steps that are stalled go on to their ends.
    async fn finish_steps(&mut self) {
        for round in 0..8 {
            for slot in 0..self.replicas.len() {
                for running in std::mem::take(&mut self.replicas[slot].running) {
                    if running.waits_for_commit {
                        self.replicas[slot].running.push(running);
                        continue;
                    }
                    if let Driven::Ended(Ended::Looked(look)) = self.replicas[slot].drive(running).await {
                        self.replicas[slot].looked(look);
                    }
                }
                self.commit(slot).await;
            }
            if self.replicas.iter().all(|replica| replica.running.is_empty()) {
                return;
            }
            // Calls that no one answers come to an end, too.
            self.advance(Duration::from_secs(if round < 2 { 1 } else { 61 })).await;
        }
        panic!("seed {}: steps did not come to an end", self.seed);
    }

    async fn commit(&mut self, slot: usize) {
        if let Some(running) = self.replicas[slot].begin(crate::replica::Kind::Commit) {
            let _ = self.replicas[slot].drive(running).await;
        }
        for (number, result) in self.replicas[slot].answered_posts() {
            if let Ok(accepted) = result {
                self.posted[number].acknowledged.push(accepted.event);
            }
        }
    }

    /// Every source posts until it has its answer.
    async fn post_the_rest(&mut self) {
        for number in 0..self.posted.len() {
            for slot in 0..self.replicas.len() {
                if self.posted[number].acknowledged.is_empty() && !self.posted[number].is_refused {
                    self.post_to(slot, number).await;
                    self.commit(slot).await;
                }
            }
        }
    }

    async fn run_until_idle(&mut self) {
        self.watch_all().await;
        for slot in 0..self.replicas.len() {
            let host = self.replicas[slot].host();
            let Some(pipeline) = self.replicas[slot].pipeline.clone() else { continue };
            // One that looks is enough for what no one holds.
            if slot > 0 && pipeline.deliveries_in_memory() == 0 {
                continue;
            }
            if self.plant.heartbeat_is_unfenced {
                self.world.execute(&crate::run::heartbeat(&host, self.now())).await;
            }
            // A connection that was cut is noticed by the statement that comes across it.
            for _ in 0..3 {
                let ran = async {
                    pipeline.renew(&host).await?;
                    pipeline.run_until_idle().await
                };
                if ran.await.is_ok() {
                    break;
                }
            }
        }
    }

    async fn open_rows(&self) -> i64 {
        self.number("SELECT count(*) FROM queue WHERE state <> 'held'").await
    }

    async fn gated_until(&self) -> Option<Timestamp> {
        sqlx::query_scalar("SELECT max(closed_until) FROM gates WHERE closed_until < 'infinity'")
            .fetch_one(&self.world.books)
            .await
            .expect("the books can be read")
    }

    /// What waits longer than anything may.
    async fn overdue(&self, gated_until: Option<Timestamp>) -> Vec<Finding> {
        let before = self.now() - PATIENCE;
        let query = "SELECT q.delivery_id || ' is ' || q.state || ', due ' || q.due_at
            FROM queue q
            LEFT JOIN workers w ON w.id = q.worker_id
            LEFT JOIN gates g ON g.scope = 'app' AND g.subject = q.app_id::text
            WHERE q.state <> 'held' AND greatest(
                q.due_at, g.closed_until,
                (SELECT max(a.started_at - CASE WHEN a.started_at > $3 THEN $4 ELSE interval '0' END)
                    FROM attempts a WHERE a.batch_id = q.batch_id),
                (SELECT max(x.started_at - CASE WHEN x.started_at > $3 THEN $4 ELSE interval '0' END) FROM workers x),
                w.lease_until, $2) < $1";
        // What began later than now began before the clock went back.
        let back = self.step.as_ref().map_or(TimeDelta::zero(), Step::back);
        let rows: Vec<String> = sqlx::query_scalar(query)
            .bind(before)
            .bind(gated_until)
            .bind(self.now())
            .bind(back)
            .fetch_all(&self.world.books)
            .await
            .expect("the books can be read");
        rows.into_iter().map(|row| Finding::new("nothing is stuck", row)).collect()
    }

    /// When something may happen next.
    async fn next_moment(&self, now: Timestamp) -> Option<Timestamp> {
        let query = "SELECT min(at) FROM (
                SELECT q.due_at AS at FROM queue q WHERE q.state IN ('queued', 'retrying') AND q.worker_id IS NULL
                UNION ALL
                SELECT w.lease_until + interval '60.001 seconds' FROM workers w JOIN queue q ON q.worker_id = w.id
                UNION ALL
                SELECT w.lease_until + interval '0.001 seconds' FROM workers w JOIN queue q ON q.worker_id = w.id
                UNION ALL
                SELECT closed_until FROM gates
            ) AS moments WHERE at > $1 AND at < 'infinity'";
        let next: Option<Timestamp> = sqlx::query_scalar(query)
            .bind(now)
            .fetch_one(&self.world.books)
            .await
            .expect("the books can be read");
        let in_memory =
            |pipeline: &std::sync::Arc<herald::pipeline::Pipeline>| pipeline.deliveries_in_memory() > 0;
        let holds = self.replicas.iter().filter_map(|replica| replica.pipeline.as_ref()).any(in_memory);
        let soon = holds.then(|| now + TimeDelta::seconds(1));
        let theirs = self.onesignal.next_moment().map(|at| self.by_database(at));
        next.into_iter().chain(theirs).chain(soon).min()
    }

    /// Long after the end: what was secret has to be gone.
    async fn clean_up(&mut self) {
        self.advance(Duration::from_hours(2)).await;
        for replica in &self.replicas {
            if let Some(pipeline) = &replica.pipeline {
                for _ in 0..3 {
                    if pipeline.maintain().await.is_ok() {
                        break;
                    }
                }
            }
        }
    }

    pub async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.world.books).await.expect("the books can be read")
    }

    pub async fn texts(&self, query: &'static str) -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(&self.world.books).await.expect("the books can be read")
    }
}
