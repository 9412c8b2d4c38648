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
    remember(&setup, deliveries).await;
    // Sending goes on beside, as it would.
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!(
        "beside {deliveries} open deliveries and {deliveries} that are over, in milliseconds (half of {TIMES} times, and the longest):"
    );
    let event = first_event(&setup).await;
    let delivery = first_delivery(&setup).await;
    for path in [
        "/",
        "/?q=state:accepted",
        "/?q=type:payment.*+since:1h",
        "/?q=state:queued",
        "/?q=state:retrying",
        "/?q=state:held",
        "/?q=state:rejected",
        "/?q=state:expired",
        "/?q=to:bulk-10-5",
        "/?q=to:old-77",
        "/?q=to:nobody",
        "/recipients/external_id/bulk-10-5",
        "/recipients/external_id/old-77",
        &format!("/events/{event}"),
        &format!("/deliveries/{delivery}"),
        "/issues",
        "/issues/group?state=rejected&code=rejected&rule=payment-failed-sms&template=payment-failed-sms&detail=no",
        "/health",
        "/templates",
        "/templates/payment-failed-sms",
        "/templates/payment-failed-sms/history",
        "/rules",
        "/event-types/payment.failed",
        "/settings/audit",
        "/settings/retention",
    ] {
        let (half, longest) = timed(&setup, &cookie, path).await;
        println!("  {half:7.1} {longest:7.1}  {path}");
    }
}

/// Events that are over, each for a person of its own, spread over this day; one in a thousand was refused.
async fn remember(setup: &Setup, deliveries: u64) {
    use sqlx::Connection;
    const OLD: &str = "
        CREATE TEMPORARY TABLE old AS
        SELECT n, (lpad(to_hex((extract(epoch FROM day) * 1000)::bigint + n / 20), 12, '0') || '7000a000'
                || lpad(to_hex(n), 12, '0'))::uuid AS id, day + n / 20 * interval '1 millisecond' AS at
        FROM generate_series(1, $1::bigint) AS n, date_trunc('day', now(), 'UTC') AS day";
    const EVENTS: &str = "
        INSERT INTO events (id, source_id, key_id, event_key, type, recipients, received_at, is_test)
        SELECT o.id, e.source_id, e.key_id, 'old-' || o.n, e.type,
            json_build_array(json_build_array('external_id', 'old-' || o.n)), o.at, false
        FROM old o, (SELECT * FROM events ORDER BY id DESC LIMIT 1) AS e";
    const DELIVERIES: &str = "
        INSERT INTO deliveries (id, event_id, rule_id, rule_key, app_id, channel, priority, template_key, template_version_id,
            template_version, locale, recipient_label, recipient_id, expires_at, created_at, state, finished_at)
        SELECT o.id, o.id, d.rule_id, d.rule_key, d.app_id, d.channel, d.priority, d.template_key, d.template_version_id,
            d.template_version, d.locale, 'external_id', 'old-' || o.n, o.at, o.at,
            CASE WHEN o.n % 1000 = 0 THEN 'rejected' ELSE 'accepted' END::delivery_state, o.at
        FROM old o, (SELECT * FROM deliveries ORDER BY id DESC LIMIT 1) AS d";
    const DECISIONS: &str = "
        INSERT INTO decisions (id, event_id, delivery_id, rule_key, code, detail, facts)
        SELECT o.id, o.id, o.id, 'payment-failed-sms', 'rejected', 'no', '{}' FROM old o WHERE o.n % 1000 = 0";
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    let count = i64::try_from(deliveries).unwrap_or(i64::MAX);
    sqlx::query(OLD).bind(count).execute(&mut connection).await.expect("made up");
    for step in [EVENTS, DELIVERIES, DECISIONS, "ANALYZE"] {
        sqlx::query(step).execute(&mut connection).await.expect("remembered");
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

/// Someone who looks; what their browser keeps.
pub async fn log_in(setup: &Setup, wanted: &Wanted) -> String {
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
