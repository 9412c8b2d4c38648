//! One-time codes while everything that an attacker can do happens at once: slow connections, large batches, pages in a
//! loop, and input made to be expensive. Prints how long the codes took, what readiness said, and the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::arrivals::report_arrivals;
use crate::console::log_in;
use crate::setup::{KEY, NEXT, NO_LIMIT, Poster, Setup, Wanted, at, event, micros, pss_mb, start};

/// Connections that send half a head and wait.
const SLOW_CONNECTIONS: usize = 1_100;
/// Browsers that load pages as fast as they are answered.
const BROWSERS: usize = 40;
/// Codes a second.
const CODES_A_SECOND: u64 = 50;

/// What the attackers saw.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    pages: AtomicU64,
    pages_refused: AtomicU64,
    batches: AtomicU64,
    batches_refused: AtomicU64,
    bombs: AtomicU64,
    bombs_answered_5xx: AtomicU64,
    slow_closed: AtomicU64,
    checks: AtomicU64,
    not_ready: AtomicU64,
}

impl Seen {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub async fn run(folder: &std::path::Path) {
    let seconds: u64 = std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(30);
    let wanted = Wanted { calls_per_second: NO_LIMIT, max_targets: 2_000 };
    let setup = start(folder, &wanted).await;
    let cookie = log_in(&setup, &wanted).await;
    println!("memory before {:.1} MB (PSS)", pss_mb(setup.herald.id()));
    println!("codes alone, {CODES_A_SECOND} a second:");
    codes(&setup, 5).await;
    let (seen, port) = (Arc::new(Seen::default()), setup.herald_port);
    let mut attackers = JoinSet::new();
    for _ in 0..SLOW_CONNECTIONS {
        attackers.spawn(slow(port, Arc::clone(&seen)));
    }
    for n in 0..BROWSERS {
        attackers.spawn(browse(port, cookie.clone(), n, Arc::clone(&seen)));
    }
    attackers.spawn(batches(port, Arc::clone(&seen)));
    for bomb in bombs() {
        attackers.spawn(throw(port, bomb, Arc::clone(&seen)));
    }
    attackers.spawn(check_readiness(port, Arc::clone(&seen)));
    println!("codes under attack, {seconds} s:");
    let watched = tokio::spawn(highest_memory(setup.herald.id(), Arc::clone(&seen)));
    codes(&setup, seconds).await;
    seen.is_over.store(true, Ordering::Relaxed);
    let highest = watched.await.expect("watched");
    while attackers.join_next().await.is_some() {}
    report(&seen, highest);
}

fn report(seen: &Seen, highest: f64) {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!("readiness: {} checks, {} not ready", get(&seen.checks), get(&seen.not_ready));
    println!("memory at its highest {highest:.1} MB (PSS)");
    println!(
        "attackers: {} pages ({} refused), {} batches ({} refused), {} bombs ({} answered with 5xx), {} slow connections closed",
        get(&seen.pages),
        get(&seen.pages_refused),
        get(&seen.batches),
        get(&seen.batches_refused),
        get(&seen.bombs),
        get(&seen.bombs_answered_5xx),
        get(&seen.slow_closed)
    );
}

/// Posts codes at a steady rate; prints how long the answers took, and the messages.
pub async fn codes(setup: &Setup, seconds: u64) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / CODES_A_SECOND));
    let free: Arc<parking_lot::Mutex<Vec<Poster>>> = Arc::default();
    let mut posts = JoinSet::new();
    for _ in 0..CODES_A_SECOND * seconds {
        ticks.tick().await;
        let (free, port) = (Arc::clone(&free), setup.herald_port);
        posts.spawn(async move {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let taken = free.lock().pop();
            let mut poster = match taken {
                Some(poster) => poster,
                None => Poster::connect(port).await,
            };
            let (due, began) = (micros(), Instant::now());
            let code = json!({
                "id": format!("code-{n}"), "type": "password.reset", "recipient": {"external_id": format!("user-{n}")},
                "data": {"code": "480918"},
            });
            let status = poster.post(&code.to_string()).await;
            assert_eq!(status, 202, "a code was not taken");
            free.lock().push(poster);
            ((format!("user-{n}"), due, micros()), began.elapsed())
        });
    }
    let (acknowledged, mut took): (Vec<_>, Vec<Duration>) = posts.join_all().await.into_iter().unzip();
    took.sort_unstable();
    println!("answered         p50 {:.2} ms   p99 {:.2} ms", at(&took, 0.5), at(&took, 0.99));
    // What was accepted last is on its way.
    tokio::time::sleep(Duration::from_secs(2)).await;
    report_arrivals(setup, &acknowledged).await;
}

/// A connection with half a head, opened again whenever it is closed.
async fn slow(port: u16, seen: Arc<Seen>) {
    while !seen.is_over() {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
        let mut buffer = [0; 64];
        let closed = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer));
        if closed.await.is_ok() {
            count(&seen.slow_closed);
            // A rejected client comes back, but not faster than a real attacker's network allows.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn browse(port: u16, cookie: String, n: usize, seen: Arc<Seen>) {
    let paths = [
        "/issues",
        "/?q=to:nobody+since:180d",
        "/?q=state:rejected",
        "/rules/order-shipped-email",
        "/health",
    ];
    let client = reqwest::Client::new();
    while !seen.is_over() {
        let url = format!("http://127.0.0.1:{port}{}", paths[n % paths.len()]);
        let page = client.get(url).header("cookie", &cookie).send().await;
        let refused = !page.is_ok_and(|page| page.status().is_success());
        count(if refused { &seen.pages_refused } else { &seen.pages });
    }
}

/// Batches of 5 MB: one with too many recipients, one with as many as may be, one whose events all fail their schema.
async fn batches(port: u16, seen: Arc<Seen>) {
    let people = |n: usize| (0..n).map(|n| json!({"external_id": format!("crowd-{n}")})).collect::<Vec<_>>();
    let to_many = |events: u64, people: &[Value], code: &str| {
        let each = (0..events).map(|_| {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut one: Value = serde_json::from_str(&event(n, "payment.failed")).expect("JSON");
            one["recipients"] = json!(people);
            one.as_object_mut().expect("an object").remove("recipient");
            one["data"]["invoice"] = json!(format!("{code}{n}"));
            one
        });
        json!(each.collect::<Vec<_>>())
    };
    let bad = json!({"id": "bad", "type": "payment.failed", "recipient": {"external_id": "u"},
        "data": {"lines": vec![json!({"x": 1}); 60_000]}});
    let crowd = people(2_000);
    let client = reqwest::Client::new();
    let mut turn = 0_u64;
    while !seen.is_over() {
        let body = match turn % 3 {
            0 => to_many(100, &crowd, "a"),
            1 => to_many(5, &crowd, "b"),
            _ => json!(vec![bad.clone(); 8]),
        };
        turn += 1;
        let posted = client
            .post(format!("http://127.0.0.1:{port}/v1/events/batch"))
            .bearer_auth(KEY)
            .json(&body)
            .send()
            .await;
        let refused = !posted.is_ok_and(|answer| answer.status().is_success());
        count(if refused { &seen.batches_refused } else { &seen.batches });
    }
}

/// Input that once took the process down, or most of its memory.
fn bombs() -> Vec<(String, Value)> {
    let mjml = format!(
        "<mjml><mj-body><mj-section><mj-column><mj-text>{}x{}</mj-text></mj-column></mj-section></mj-body></mjml>",
        "<_>".repeat(4_000),
        "</_>".repeat(4_000)
    );
    let path = format!("{{{{ data{} }}}}", ".a".repeat(20_000));
    let copy = |field: &str, text: &str| json!({"content": {"contents": {"en": {field: text}}}});
    let mut email = copy("body", &mjml);
    email["content"]["mode"] = json!("inline");
    email["content"]["contents"]["en"]["subject"] = json!("x");
    let growing = json!({
        "settings": {"mapping": [{
            "when": "body.l.map(x, body.s + body.s + body.s + body.s).size() > 0",
            "type": "'order.shipped'", "id": "'x'", "recipient": "'u'", "data": "body",
        }]},
        "body": {"l": vec![1; 4_000], "s": "x".repeat(100_000)},
    });
    let mut schema = serde_json::Map::new();
    for n in 0..20 {
        let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
        schema.insert(format!("d{n}"), json!({"anyOf": [next.clone(), next]}));
    }
    schema.insert("d20".to_owned(), json!({"type": "string"}));
    let schema = json!({"type": "object", "$defs": schema, "properties": {"a": {"$ref": "#/$defs/d0"}}});
    let files = json!({"files": {
        "events/bomb.one/event.toml": "description = \"x\"\n",
        "events/bomb.one/schema.json": schema.to_string(),
        "events/bomb.one/samples/one.json": "{\"a\": 1}",
    }});
    vec![
        ("/v1/templates/order-shipped-email/preview".to_owned(), email),
        ("/v1/templates/order-shipped-push/preview".to_owned(), copy("contents", &path)),
        ("/v1/sources/shop/test".to_owned(), growing),
        ("/v1/catalog/plan".to_owned(), files),
    ]
}

async fn throw(port: u16, (path, body): (String, Value), seen: Arc<Seen>) {
    let client = reqwest::Client::new();
    while !seen.is_over() {
        let sent =
            client.post(format!("http://127.0.0.1:{port}{path}")).bearer_auth(KEY).json(&body).send().await;
        count(&seen.bombs);
        if !sent.is_ok_and(|answer| !answer.status().is_server_error()) {
            count(&seen.bombs_answered_5xx);
        }
    }
}

async fn check_readiness(port: u16, seen: Arc<Seen>) {
    while !seen.is_over() {
        // A load balancer's check: a connection of its own each time.
        let asked = reqwest::Client::new().get(format!("http://127.0.0.1:{port}/readyz")).send();
        let answer = tokio::time::timeout(Duration::from_secs(2), asked).await;
        count(&seen.checks);
        if !answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success())) {
            count(&seen.not_ready);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn highest_memory(process: u32, seen: Arc<Seen>) -> f64 {
    let mut highest: f64 = 0.0;
    while !seen.is_over() {
        highest = highest.max(pss_mb(process));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    highest
}
