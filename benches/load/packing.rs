//! How many deliveries share a call at OneSignal's free plan (150 calls a second, or `BENCH_CALLS`), and that no one gets
//! one twice or with a blank: first one event type for different people, then a mix of types, priorities and channels.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::arrivals::each_message;
use crate::setup::{NEXT, Poster, Setup, Wanted, drained, event, sandbox_json, start};

/// Events of each part.
const EVENTS: u64 = 10_000;

pub async fn run(folder: &std::path::Path) {
    let calls = std::env::var("BENCH_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(150);
    let setup = start(folder, &Wanted { calls_per_second: calls, max_targets: 2_000 }).await;
    one_template(&setup).await;
    mix(&setup).await;
}

async fn one_template(setup: &Setup) {
    let began = Instant::now();
    let accepted = post(setup, |_| "order.shipped").await;
    drained(setup).await;
    println!(
        "{EVENTS} events accepted in {accepted:.1} s, delivered after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    report(setup).await;
}

/// One event in ten is a one-time code, four are shipped orders (push and email), three are payments, two renewals.
async fn mix(setup: &Setup) {
    let reset = format!("http://127.0.0.1:{}/_sandbox/reset", setup.sandbox_port);
    // A reset forgets the uploaded templates as well: they are uploaded again as they are missed.
    reqwest::Client::new().post(reset).send().await.expect("reset");
    let began = Instant::now();
    let type_of = |n| match n % 10 {
        0 => "password.reset",
        1..=4 => "order.shipped",
        5..=7 => "payment.failed",
        _ => "subscription.renewal_due",
    };
    let accepted = post(setup, type_of).await;
    waiting_only(setup).await;
    println!(
        "a mix of {EVENTS} events accepted in {accepted:.1} s, what is due at once delivered after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    report(setup).await;
}

/// Posts events over 64 connections; returns how many seconds it took.
async fn post(setup: &Setup, type_of: fn(u64) -> &'static str) -> f64 {
    let (began, first) = (Instant::now(), NEXT.load(Ordering::Relaxed));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let port = setup.herald_port;
            tokio::spawn(async move {
                let mut poster = Poster::connect(port).await;
                loop {
                    let n = NEXT.fetch_add(1, Ordering::Relaxed);
                    if n >= first + EVENTS {
                        return;
                    }
                    assert_eq!(poster.post(&event(n, type_of(n))).await, 202);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("posted");
    }
    began.elapsed().as_secs_f64()
}

/// Waits until only what is due later is open.
async fn waiting_only(setup: &Setup) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    loop {
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM queue WHERE state <> 'held' AND due_at < clock_timestamp() + interval '1 minute'",
        )
        .fetch_one(&mut connection)
        .await
        .expect("counted");
        if open == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn report(setup: &Setup) {
    let (mut calls, mut deliveries, mut blanks) = (0_u32, 0_u32, 0);
    let mut seen = HashSet::new();
    each_message(setup, |message| {
        calls += 1;
        for recipient in message["recipients"].as_array().into_iter().flatten() {
            deliveries += 1;
            blanks += recipient["blanks"].as_array().map_or(0, Vec::len);
            seen.insert(format!("{} {}", message["channel"], recipient["external_id"]));
        }
    })
    .await;
    println!(
        "{calls} calls, {deliveries} deliveries: {:.1} a call",
        f64::from(deliveries) / f64::from(calls)
    );
    println!("twice: {}, blanks: {blanks}", deliveries as usize - seen.len());
    let stats = sandbox_json(setup.sandbox_port, "/_sandbox/stats").await;
    println!("calls by status: {}", stats["calls"]["notifications.create"]);
}
