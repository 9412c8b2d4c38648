//! The database fails while deliveries are released: they are not lost, and not held until the process ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use herald::pipeline::worker::Polling;
use herald::store::fault_injection::{Fate, Faults, Place, around};
use serde_json::json;

use crate::support::app::{TestApp, payment_failed};

const RULE: &str = "payment-failed-sms";

/// Operations of a kind fail, after the first ones.
struct Fails {
    place: Place,
    spared: AtomicUsize,
}

impl Fails {
    fn after(spared: usize, place: Place) -> Arc<Self> {
        Arc::new(Self { place, spared: AtomicUsize::new(spared) })
    }
}

#[async_trait]
impl Faults for Fails {
    async fn before(&self, place: Place) -> Fate {
        let is_spared = |left: usize| left.checked_sub(1);
        if place != self.place
            || self.spared.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_spared).is_ok()
        {
            return Fate::GoOn;
        }
        Fate::Away
    }

    async fn after(&self, _: Place) {}

    fn pass(&self, _: &'static str) {}
}

/// Polls until a release has failed: first the first operation of a kind fails, then the second, and so on. Then no
/// delivery is held any more.
async fn poll_until_a_release_fails(app: &TestApp, place: Place) {
    let pipeline = &app.herald.pipeline;
    for spared in 0..10 {
        let polled = around(Fails::after(spared, place), pipeline.poll_once(&mut Polling::default())).await;
        if pipeline.deliveries_in_memory() == 0 {
            assert!(polled.is_err(), "the release has failed");
            return;
        }
    }
    panic!("{} deliveries are held and in no queue", pipeline.deliveries_in_memory());
}

async fn pause(app: &TestApp, is_paused: bool) {
    if is_paused {
        app.execute("UPDATE apps SET paused_at = created_at, paused_reason = 'a test'").await;
    } else {
        app.execute("UPDATE apps SET paused_at = NULL, paused_reason = NULL").await;
    }
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
}

#[tokio::test]
async fn a_retry_of_a_paused_app_whose_release_failed_is_sent_once_the_app_is_resumed() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0}))
        .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "retrying");
    app.clear_faults().await;
    app.advance(Duration::from_mins(2)).await;
    let pipeline = &app.herald.pipeline;
    pipeline.poll_once(&mut Polling::default()).await.expect("the retry is claimed");
    assert_eq!(pipeline.deliveries_in_memory(), 1);
    pause(&app, true).await;
    poll_until_a_release_fails(&app, Place::Begin).await;
    pause(&app, false).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
}
