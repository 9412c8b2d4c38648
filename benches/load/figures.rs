//! The figures: from the post to the sandbox at a steady rate, and what 1, 16 and 64 connections get through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sqlx::Connection;

use crate::arrivals::report_arrivals;
use crate::setup::{
    NEXT, NO_LIMIT, Poster, Setup, Wanted, at, drained, event, micros, pss_mb, sandbox_json, start,
};

pub async fn run(folder: &std::path::Path) {
    let time =
        Duration::from_secs(std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5));
    let setup = start(folder, &Wanted { calls_per_second: NO_LIMIT, max_targets: 2_000 }).await;
    println!("memory at rest {:.1} MB (PSS)", pss_mb(setup.herald.id()));
    open_loop(&setup, 200, 10).await;
    println!(
        "{:>12} {:>12} {:>10} {:>10} {:>10} {:>12} {:>10} {:>10}",
        "connections", "accepted/s", "p50 ms", "p99 ms", "drain s", "WAL B/event", "rows/event", "PSS MB"
    );
    for connections in [1, 16, 64] {
        let (wal, rows_before, first) =
            (wal_bytes(&setup).await, rows(&setup).await, NEXT.load(Ordering::Relaxed));
        let (rate, times) = closed_loop(setup.herald_port, connections, time).await;
        let memory = pss_mb(setup.herald.id());
        let drain = drained(&setup).await;
        let events = (NEXT.load(Ordering::Relaxed) - first) as f64;
        let wal = (wal_bytes(&setup).await - wal) as f64 / events;
        let kept = (rows(&setup).await - rows_before) as f64 / events;
        println!(
            "{connections:>12} {rate:>12.0} {:>10.2} {:>10.2} {:>10.2} {wal:>12.0} {kept:>10.2} {memory:>10.1}",
            at(&times, 0.5),
            at(&times, 0.99),
            drain.as_secs_f64()
        );
    }
    let stats = sandbox_json(setup.sandbox_port, "/_sandbox/stats").await;
    println!(
        "sandbox: {} messages, {} recipients, {} idempotent replays",
        stats["messages"], stats["recipients"], stats["idempotent_replays"]
    );
}

async fn closed_loop(port: u16, connections: usize, time: Duration) -> (f64, Vec<Duration>) {
    let deadline = Instant::now() + time;
    let began = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            tokio::spawn(async move {
                let mut poster = Poster::connect(port).await;
                let mut times = Vec::new();
                while Instant::now() < deadline {
                    let body = event(NEXT.fetch_add(1, Ordering::Relaxed), "payment.failed");
                    let sent = Instant::now();
                    let status = poster.post(&body).await;
                    assert_eq!(status, 202);
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("posted"));
    }
    all.sort_unstable();
    (all.len() as f64 / began.elapsed().as_secs_f64(), all)
}

async fn wal_bytes(setup: &Setup) -> i64 {
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        .fetch_one(&mut connection)
        .await
        .expect("read")
}

async fn rows(setup: &Setup) -> i64 {
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM event_keys) + (SELECT count(*) FROM event_payloads)
            + (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM decisions) + (SELECT count(*) FROM batches)
            + (SELECT count(*) FROM attempts)",
    )
    .fetch_one(&mut connection)
    .await
    .expect("counted")
}

/// 200 events a second: the time from the acknowledgement to the sandbox's receipt, and from the post to it.
async fn open_loop(setup: &Setup, per_second: u64, seconds: u64) {
    let acknowledged: Arc<parking_lot::Mutex<Vec<(String, i64, i64)>>> = Arc::default();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
    let free: Arc<parking_lot::Mutex<Vec<Poster>>> = Arc::default();
    let mut tasks = Vec::new();
    for _ in 0..per_second * seconds {
        ticks.tick().await;
        let (free, acknowledged, port) = (Arc::clone(&free), Arc::clone(&acknowledged), setup.herald_port);
        tasks.push(tokio::spawn(async move {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let taken = free.lock().pop();
            let mut poster = match taken {
                Some(poster) => poster,
                None => Poster::connect(port).await,
            };
            let due = micros();
            assert_eq!(poster.post(&event(n, "payment.failed")).await, 202);
            acknowledged.lock().push((format!("user-{n}"), due, micros()));
            free.lock().push(poster);
        }));
    }
    for task in tasks {
        task.await.expect("posted");
    }
    drained(setup).await;
    let acknowledged = std::mem::take(&mut *acknowledged.lock());
    report_arrivals(setup, &acknowledged).await;
}
