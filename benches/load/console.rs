//! How long the console's pages take on the server beside a million deliveries.

use std::time::{Duration, Instant};

use crate::backlog::{fill, make_bulk};
use crate::setup::{Setup, Wanted, herald_command, start};

/// Times that each page is asked for.
const TIMES: usize = 20;
/// The password of the one who looks.
const PASSWORD: &str = "correct horse battery staple";

pub async fn run(folder: &std::path::Path) {
    let deliveries: u64 =
        std::env::var("BENCH_BACKLOG").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let wanted = Wanted { calls_per_second: 150, max_targets: 2_000 };
    let setup = start(folder, &wanted).await;
    let cookie = log_in(&setup, &wanted).await;
    make_bulk(&setup).await;
    fill(&setup, deliveries).await;
    // Sending goes on beside, as it would.
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("beside {deliveries} deliveries, in milliseconds (half of {TIMES} times, and the longest):");
    let event = first_event(&setup).await;
    let delivery = first_delivery(&setup).await;
    for path in [
        "/",
        "/?q=state:accepted",
        "/?q=type:payment.*+since:1h",
        "/?q=to:bulk-10-5",
        "/recipients/external_id/bulk-10-5",
        &format!("/events/{event}"),
        &format!("/deliveries/{delivery}"),
        "/trouble",
        "/health",
        "/templates",
        "/templates/payment-failed-sms",
        "/templates/payment-failed-sms/history",
        "/rules",
        "/event-types/payment.failed",
        "/settings/audit",
    ] {
        let (half, longest) = timed(&setup, &cookie, path).await;
        println!("  {half:7.1} {longest:7.1}  {path}");
    }
}

async fn timed(setup: &Setup, cookie: &str, path: &str) -> (f64, f64) {
    let client = reqwest::Client::new();
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        let url = format!("http://127.0.0.1:{}{path}", setup.herald_port);
        let page = client.get(url).header("cookie", cookie).send().await.expect("an answer");
        assert!(page.status().is_success(), "{path}: {}", page.status());
        page.bytes().await.expect("a page");
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    (took[TIMES / 2], took[TIMES - 1])
}

/// Somebody who looks; what their browser keeps.
async fn log_in(setup: &Setup, wanted: &Wanted) -> String {
    let ports = (setup.herald_port, setup.sandbox_port);
    let token = herald_command(wanted, &setup.database, ports)
        .args(["team", "set-up"])
        .stdout(std::process::Stdio::piped())
        .output()
        .expect("a token");
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    let form = format!(
        "token={token}&name=Bench&email=bench%40shop.example&password={}",
        PASSWORD.replace(' ', "+")
    );
    let client =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let answer = client
        .post(format!("http://127.0.0.1:{}/set-up", setup.herald_port))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .body(form)
        .send()
        .await
        .expect("an answer");
    let cookie = answer.headers().get("set-cookie").expect("a session").to_str().expect("text");
    cookie.split(';').next().unwrap_or_default().to_owned()
}

async fn first_event(setup: &Setup) -> String {
    id_of(setup, "evt", "SELECT id FROM events ORDER BY id DESC LIMIT 1").await
}

async fn first_delivery(setup: &Setup) -> String {
    id_of(setup, "dlv", "SELECT id FROM deliveries ORDER BY id DESC LIMIT 1").await
}

async fn id_of(setup: &Setup, prefix: &str, query: &'static str) -> String {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    let id: uuid::Uuid = sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("found");
    herald::domain::id::encode(prefix, id)
}
