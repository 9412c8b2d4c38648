//! What the sources do: they post new events, and post again what they have no answer for.

use chrono::TimeDelta;
use herald::domain::event::Recipient;
use herald::pipeline::ingest::{Content, NewEvent};
use rand::RngExt;
use serde_json::json;

use super::{EVENTS_POSTED, PEOPLE, Posted, Run};
use crate::catalog::{EVENTS, EventSpec};
use crate::world::key;

impl Run<'_> {
    pub(super) async fn post_new(&mut self) {
        if self.posted.len() >= EVENTS_POSTED {
            return self.step_of_one().await;
        }
        let number = self.posted.len();
        let spec = self.pick_spec();
        let mut recipients: Vec<&'static str> = Vec::new();
        if !spec.rules.iter().all(|rule| rule.is_audience) {
            for _ in 0..self.random.random_range(1..=3) {
                let one = PEOPLE[self.random.random_range(0..PEOPLE.len())];
                if !recipients.contains(&one) {
                    recipients.push(one);
                }
            }
        }
        let expires_at = self.chance(12).then(|| {
            let minutes = self.random.random_range(2..90);
            self.now() + TimeDelta::minutes(minutes)
        });
        let group = self.random.random_range(0..2);
        let cancellation_key = self.chance(40).then(|| format!("group-{group}"));
        self.posted.push(Posted {
            spec,
            event_key: format!("event-{number}"),
            mark: format!("zq{number}z"),
            recipients,
            expires_at,
            cancellation_key,
            stops: format!("group-{group}"),
            acknowledged: Vec::new(),
            is_refused: false,
        });
        self.report.events += 1;
        self.post(number).await;
        if self.chance(15) {
            self.post(number).await;
        }
    }

    fn pick_spec(&mut self) -> &'static EventSpec {
        let mut left = self.random.random_range(0..EVENTS.iter().map(|event| event.weight).sum());
        for event in &EVENTS {
            if left < event.weight {
                return event;
            }
            left -= event.weight;
        }
        &EVENTS[0]
    }

    /// A source that has no answer, or lost it, posts the same again.
    pub(super) async fn post_again(&mut self) {
        let open: Vec<usize> =
            (0..self.posted.len()).filter(|n| self.posted[*n].acknowledged.is_empty()).collect();
        let number = match (open.is_empty(), self.posted.len()) {
            (_, 0) => return,
            (false, _) => open[self.random.random_range(0..open.len())],
            (true, count) => self.random.random_range(0..count),
        };
        self.post(number).await;
    }

    pub(super) async fn post(&mut self, number: usize) {
        let Some(slot) = self.pick_replica() else { return };
        self.post_to(slot, number).await;
    }

    pub async fn post_to(&mut self, slot: usize, number: usize) {
        let event = self.event(number);
        let Some(running) = self.replicas[slot].post(number, event) else { return };
        self.drive(slot, running).await;
    }

    fn event(&mut self, number: usize) -> NewEvent {
        let posted = &self.posted[number];
        let mut event_key = posted.event_key.clone();
        if self.plant.changes_event_keys && !posted.acknowledged.is_empty() {
            event_key.push_str("-again");
        }
        let data = json!({"n": posted.mark, "code": format!("canary-{number}"), "stops": posted.stops,
            "x": "javascript:alert(1)"});
        NewEvent {
            facts: Vec::new(),
            source: self.world.source,
            key: key(),
            is_test: false,
            event_key,
            event_type: posted.spec.name.parse().expect("a type"),
            recipients: posted
                .recipients
                .iter()
                .map(|id| Recipient::parse("external_id", id).expect("a recipient"))
                .collect(),
            content: Content::of(data.to_string().into_bytes()),
            data,
            occurred_at: None,
            locale: None,
            send_after: None,
            expires_at: posted.expires_at,
            cancellation_key: posted.cancellation_key.clone(),
            collapse_key: None,
            sequence: None,
            ordering_key: None,
            traceparent: None,
        }
    }
}
