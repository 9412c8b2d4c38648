//! Real processes, killed at the worst moments: nothing acknowledged is lost, and no one gets a message twice.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use crate::support::app::order_shipped;
use crate::support::processes::{Processes, tick};

/// What every run has to end with: one message per acknowledged event and rule, and no other.
async fn each_arrived_once(processes: &Processes, acknowledged: &HashSet<u64>) {
    processes.wait_until_drained().await;
    let mut effects: HashMap<(String, String), usize> = HashMap::new();
    for effect in processes.received().await {
        *effects.entry(effect).or_default() += 1;
    }
    let doubled: Vec<_> = effects.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "sent twice: {doubled:?}");
    for n in acknowledged {
        for channel in ["push", "email"] {
            assert!(
                effects.contains_key(&(channel.to_owned(), format!("user-{n}"))),
                "user-{n} got no {channel}"
            );
        }
    }
}

fn event(n: u64) -> Value {
    order_shipped(&format!("order-{n}"), &format!("user-{n}"))
}

/// Dies at `point` again and again while events are posted until they are acknowledged.
async fn dies_at(point: &'static str, passes: &'static str, settings: &[(&'static str, &'static str)]) {
    let mut processes = Processes::start(settings).await;
    let mut acknowledged = HashSet::new();
    processes.kill();
    processes.start_again(&[("HERALD_CRASH_POINT", point), ("HERALD_CRASH_AFTER", passes)]).await;
    let mut deaths = 0;
    for n in 0..60 {
        while processes.post(&event(n)).await.is_none() {
            // Until it is acknowledged, its client retries.
            while !processes.has_died() && deaths < 3 {
                tick().await;
            }
            deaths += 1;
            let arm: &[(&'static str, &'static str)] = if deaths < 3 {
                &[("HERALD_CRASH_POINT", point), ("HERALD_CRASH_AFTER", passes)]
            } else {
                &[]
            };
            processes.start_again(arm).await;
        }
        acknowledged.insert(n);
    }
    // The clients may not notice a crash; and the draining process must not crash any more.
    while !processes.has_died() && deaths == 0 {
        tick().await;
    }
    if processes.has_died() {
        deaths += 1;
    }
    processes.kill();
    processes.start_again(&[]).await;
    assert!(deaths > 0, "{point} was never reached");
    each_arrived_once(&processes, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_commit_and_before_the_202() {
    dies_at("after_commit", "5", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_batch_is_frozen() {
    // With two calls a second nothing is frozen at ingest but what the first tokens carry.
    dies_at("after_freeze", "1", &[("HERALD_ONESIGNAL__CALLS_PER_SECOND", "20")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_call_and_before_its_answer_is_recorded() {
    dies_at("after_call", "5", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_claim() {
    let settings =
        [("HERALD_ONESIGNAL__CALLS_PER_SECOND", "20"), ("HERALD_DELIVERY__MEMORY_QUEUE_SIZE", "4")];
    dies_at("after_claim", "3", &settings).await;
}

/// 2,000 events by 64 connections (10,000 with `FULL=1`), and five times `kill -9` in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_kill_nine_loses_and_doubles_nothing() {
    let total: u64 = if std::env::var_os("FULL").is_some() { 10_000 } else { 2_000 };
    let mut processes = Processes::start(&[]).await;
    let next = Arc::new(AtomicU64::new(0));
    let acknowledged: Arc<Mutex<HashSet<u64>>> = Arc::default();
    let url = format!("http://127.0.0.1:{}/v1/events", processes.port);
    let posters: Vec<_> = (0..64)
        .map(|_| {
            tokio::spawn(post_until_acknowledged(
                url.clone(),
                total,
                Arc::clone(&next),
                Arc::clone(&acknowledged),
            ))
        })
        .collect();
    for kill in 1..=5_u64 {
        while (acknowledged.lock().len() as u64) < kill * total / 7 {
            tick().await;
        }
        processes.kill();
        processes.start_again(&[]).await;
    }
    for poster in posters {
        poster.await.expect("posted");
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock());
    assert_eq!(acknowledged.len() as u64, total);
    each_arrived_once(&processes, &acknowledged).await;
}

async fn post_until_acknowledged(
    url: String,
    total: u64,
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<HashSet<u64>>>,
) {
    let http =
        reqwest::Client::builder().timeout(std::time::Duration::from_secs(10)).build().expect("a client");
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= total {
            return;
        }
        loop {
            let answer =
                http.post(&url).bearer_auth(crate::support::processes::KEY).json(&event(n)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 202) {
                break;
            }
            tick().await;
        }
        acknowledged.lock().insert(n);
    }
}
