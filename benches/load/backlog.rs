//! Urgent deliveries while a bulk backlog of a million drains, and what it costs to have nothing to do.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use sqlx::Connection;

use crate::arrivals::report_arrivals;
use crate::setup::{KEY, Poster, Setup, Wanted, micros, pss_mb, start};

/// Recipients of one event.
const PEOPLE: u64 = 2_000;
/// Urgent events a second.
const URGENT: u64 = 20;

pub async fn run(folder: &std::path::Path) {
    let backlog: u64 = std::env::var("BENCH_BACKLOG").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let seconds: u64 = std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    // The free plan, and calls that are small enough for a million to take a while.
    let setup = start(folder, &Wanted { calls_per_second: 150, max_targets: 100 }).await;
    make_bulk(&setup).await;
    println!("urgent, {URGENT} a second for {seconds} s, nothing else to do:");
    urgent(&setup, "before", seconds.min(20)).await;
    let began = Instant::now();
    fill(&setup, backlog).await;
    let open = open_deliveries(&setup).await;
    println!(
        "{backlog} bulk deliveries taken in {:.0} s, {open} of them open; Herald has {:.0} MB (PSS)",
        began.elapsed().as_secs_f64(),
        pss_mb(setup.herald.id())
    );
    println!("urgent, {URGENT} a second for {seconds} s, while they drain:");
    urgent(&setup, "beside", seconds).await;
    let (left, waited) = (open_deliveries(&setup).await, seconds as f64);
    println!(
        "{left} still open: {:.0} bulk deliveries a second went out beside",
        (open - left) as f64 / waited
    );
    idle(&setup, folder).await;
}

/// Makes the payment's rule a bulk one.
pub async fn make_bulk(setup: &Setup) {
    let rule = "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\npriority = \"bulk\"\n";
    let files = json!({"files": {"rules/payment-failed-sms.toml": rule}, "note": "bench"});
    let url = format!("http://127.0.0.1:{}/v1/catalog/apply", setup.herald_port);
    let client = reqwest::Client::new();
    let applied = client.request(Method::POST, url).bearer_auth(KEY).json(&files).send().await.expect("sent");
    assert!(applied.status().is_success(), "{}", applied.text().await.unwrap_or_default());
}

/// Posts events to 2,000 people each until there are this many deliveries.
pub async fn fill(setup: &Setup, deliveries: u64) {
    let each = (0..4).map(|priority| {
        let port = setup.herald_port;
        tokio::spawn(async move {
            let mut poster = Poster::connect(port).await;
            for n in (priority..deliveries / PEOPLE).step_by(4) {
                let people: Vec<_> =
                    (0..PEOPLE).map(|person| json!({"external_id": format!("bulk-{n}-{person}")})).collect();
                let event = json!({
                    "id": format!("bulk-{n}"), "type": "payment.failed", "recipients": people,
                    "data": {"invoice": format!("{n}"), "amount": "2 EUR", "pay_url": "https://shop.example/pay"},
                });
                assert_eq!(poster.post(&event.to_string()).await, 202);
            }
        })
    });
    for task in each.collect::<Vec<_>>() {
        task.await.expect("posted");
    }
}

/// Posts one-time codes at a steady rate and prints how long they took to arrive.
async fn urgent(setup: &Setup, name: &str, seconds: u64) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / URGENT));
    let mut poster = Poster::connect(setup.herald_port).await;
    let mut acknowledged = Vec::new();
    for n in 0..URGENT * seconds {
        ticks.tick().await;
        let person = format!("urgent-{name}-{n}");
        let event = json!({
            "id": person, "type": "password.reset", "recipient": {"external_id": person},
            "data": {"code": "123456", "name": "Anna"},
        });
        let due = micros();
        assert_eq!(poster.post(&event.to_string()).await, 202);
        acknowledged.push((person, due, micros()));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    report_arrivals(setup, &acknowledged).await;
}

async fn open_deliveries(setup: &Setup) -> i64 {
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    sqlx::query_scalar("SELECT count(*) FROM queue").fetch_one(&mut connection).await.expect("counted")
}

/// Empties the queue and prints what Herald and Postgres use while nothing happens.
async fn idle(setup: &Setup, folder: &std::path::Path) {
    const SECONDS: u64 = 30;
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    sqlx::query("TRUNCATE queue").execute(&mut connection).await.expect("emptied");
    sqlx::query("CHECKPOINT").execute(&mut connection).await.expect("written out");
    drop(connection);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lock = std::fs::read_to_string(folder.join("postgres/postmaster.pid")).unwrap_or_default();
    let postgres: u32 = lock.lines().next().and_then(|pid| pid.trim().parse().ok()).unwrap_or_default();
    let used = || (cpu_ms(setup.herald.id()), children(postgres).into_iter().map(cpu_ms).sum::<u64>());
    let before = used();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let after = used();
    let share = |ms: u64| ms as f64 / (SECONDS as f64 * 10.0);
    println!(
        "at rest for {SECONDS} s: Herald {:.2} % of a core, Postgres {:.2} %",
        share(after.0 - before.0),
        share(after.1 - before.1)
    );
}

/// The processor time that a process has used, in milliseconds.
fn cpu_ms(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    // utime and stime, in hundredths of a second.
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok());
    ticks.sum::<u64>() * 10
}

/// A process and those that it started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = tasks.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    all.push(pid);
    all
}
