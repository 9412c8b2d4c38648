//! One-time codes while one call in twenty hangs until Herald gives it up, beside ordinary traffic.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::attack::codes;
use crate::setup::{NEXT, NO_LIMIT, Poster, Wanted, event, start};

/// Ordinary events a second.
const OTHERS_A_SECOND: u64 = 50;

pub async fn run(folder: &Path) {
    let seconds: u64 = std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(120);
    let setup = start(folder, &Wanted { calls_per_second: NO_LIMIT, max_targets: 2_000 }).await;
    println!("codes while every call is answered:");
    codes(&setup, 5).await;
    let fault = json!({"endpoint": "notifications", "kind": "hang", "probability": 0.05});
    let url = format!("http://127.0.0.1:{}/_sandbox/faults", setup.sandbox_port);
    let set = reqwest::Client::new().post(url).json(&fault).send().await.expect("the sandbox answers");
    assert!(set.status().is_success(), "{}", set.status());
    let is_over = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others(setup.herald_port, Arc::clone(&is_over)));
    println!(
        "codes while one call in twenty hangs, {seconds} s; those whose own call hangs arrive later or not at all:"
    );
    codes(&setup, seconds).await;
    is_over.store(true, Ordering::Relaxed);
    others.await.expect("posted");
}

/// Posts ordinary events at a steady rate.
async fn others(port: u16, is_over: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / OTHERS_A_SECOND));
    let mut poster = Poster::connect(port).await;
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        poster.post(&event(n, "payment.failed")).await;
    }
}
