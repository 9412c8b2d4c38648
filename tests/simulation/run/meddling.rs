//! What people do meanwhile: they cancel, release, opt out and publish.

use herald::domain::channel::Channel;
use herald::domain::event::KeySpace;
use herald::domain::id::{DeliveryId, TypedId};
use herald::pipeline::operator::cancel::Unwanted;
use herald::pipeline::operator::release::Release;
use rand::RngExt;
use serde_json::json;
use uuid::Uuid;

use super::{OptOut, PEOPLE, Run};
use crate::replica::{Ended, Kind};
use crate::world::key;

impl Run<'_> {
    /// Someone cancels, releases, opts out or publishes.
    pub(super) async fn meddle(&mut self) {
        match self.random.random_range(0..100) {
            0..35 => self.cancel().await,
            35..65 => self.release().await,
            65..85 => self.opt_out().await,
            _ => self.publish().await,
        }
    }

    async fn cancel(&mut self) {
        let Some(slot) = self.pick_replica() else { return };
        let Some(pipeline) = self.replicas[slot].pipeline.clone() else { return };
        let (space, key) = (
            KeySpace { source: self.world.source, is_test: false },
            format!("group-{}", self.random.random_range(0..2)),
        );
        let running = self.replicas[slot].step(Kind::Other, async move {
            let _ = pipeline.cancel(Unwanted::Key(space, &key), "somebody asked", false).await;
            Ended::Done
        });
        self.drive(slot, running).await;
    }

    pub async fn release(&mut self) {
        let query = "SELECT delivery_id FROM queue WHERE state = 'held' ORDER BY delivery_id LIMIT 1";
        let held: Option<Uuid> =
            sqlx::query_scalar(query).fetch_optional(&self.world.books).await.expect("the books can be read");
        let (Some(held), Some(slot)) = (held, self.pick_replica()) else { return };
        let Some(pipeline) = self.replicas[slot].pipeline.clone() else { return };
        let running = self.replicas[slot].step(Kind::Other, async move {
            let release = Release { version: None, values: Some(json!({"x": "https://shop.example/"})) };
            let _ = pipeline.release(DeliveryId::from_uuid(held), release, key().uuid()).await;
            Ended::Done
        });
        self.drive(slot, running).await;
    }

    async fn opt_out(&mut self) {
        let person = PEOPLE[self.random.random_range(0..7)];
        let channel = [Channel::Push, Channel::Email, Channel::Sms][self.random.random_range(0..3)].as_str();
        let id = Uuid::from_u128(u128::from(self.random.random::<u64>()));
        let now = self.now();
        let query = "WITH known AS (
                SELECT user_id FROM user_aliases WHERE label = 'external_id' AND alias = $2
            ), made AS (
                INSERT INTO users (id, created_at, updated_at) SELECT $1, $4, $4 WHERE NOT EXISTS (SELECT 1 FROM known)
                RETURNING id
            ), named AS (
                INSERT INTO user_aliases (label, alias, user_id) SELECT 'external_id', $2, id FROM made
            )
            INSERT INTO user_opt_outs (user_id, channel, since)
            SELECT id, $3::channel, $4 FROM (SELECT id FROM made UNION ALL SELECT user_id FROM known) AS u
            ON CONFLICT DO NOTHING";
        let done = sqlx::query(query).bind(id).bind(person).bind(channel).bind(now);
        if done.execute(&self.world.books).await.expect("opted out").rows_affected() > 0 {
            self.opt_outs.push(OptOut { person, channel, since: now, is_after_step: self.step.is_some() });
        }
    }

    async fn publish(&mut self) {
        self.world
            .execute(
                "UPDATE templates t SET live_version = (
                    SELECT v.id FROM template_versions v
                    WHERE v.template_id = t.id AND v.id <> t.live_version
                    ORDER BY v.number LIMIT 1)
                 WHERE t.key = 'note-push';
                 UPDATE catalog_revision SET revision = revision + 1",
            )
            .await;
    }
}
