//! Real processes while things around them fail: the database, OneSignal, the machine, and other replicas. Whatever
//! is acknowledged arrives once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::app::{order_shipped, payment_failed};
use crate::support::database::{self, Database};
use crate::support::processes::{KEY, Processes, scratch, tick};

fn event(n: u64) -> Value {
    payment_failed(&format!("p-{n}"), &format!("user-{n}"))
}

/// Clients that post until they are stopped, each retrying until an event is acknowledged.
struct Posters {
    acknowledged: Arc<Mutex<HashSet<u64>>>,
    stop: Arc<AtomicBool>,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Posters {
    fn start(count: u64, ports: &[u16]) -> Self {
        let acknowledged: Arc<Mutex<HashSet<u64>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let running = (0..count).map(|_| {
            let urls: Vec<String> =
                ports.iter().map(|port| format!("http://127.0.0.1:{port}/v1/events")).collect();
            tokio::spawn(post(urls, Arc::clone(&next), Arc::clone(&acknowledged), Arc::clone(&stop)))
        });
        Self { running: running.collect(), acknowledged, stop }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().len()
    }

    /// Waits for this many more.
    async fn more(&self, events: usize) {
        let goal = self.count() + events;
        while self.count() < goal {
            tick().await;
        }
    }

    async fn stop(self) -> HashSet<u64> {
        self.stop.store(true, Ordering::SeqCst);
        for poster in self.running {
            poster.await.expect("posted");
        }
        std::mem::take(&mut *self.acknowledged.lock())
    }
}

/// Every event that was begun is posted until it is acknowledged, each time to another replica.
async fn post(
    urls: Vec<String>,
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<HashSet<u64>>>,
    stop: Arc<AtomicBool>,
) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    while !stop.load(Ordering::SeqCst) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        for url in urls.iter().cycle().skip(usize::try_from(n).expect("a small number") % urls.len()) {
            let answer = http.post(url).bearer_auth(KEY).json(&event(n)).send().await;
            let status = answer.map(|answer| answer.status().as_u16()).unwrap_or_default();
            assert!([0, 202, 503].contains(&status), "{status}");
            if status == 202 {
                break;
            }
            tick().await;
        }
        acknowledged.lock().insert(n);
    }
}

/// One message per acknowledged event, and no other; all of them accepted.
async fn each_arrived_once(processes: &Processes, acknowledged: &HashSet<u64>) {
    processes.wait_until_drained().await;
    let mut effects: HashMap<String, usize> = HashMap::new();
    for (_, user) in processes.received().await {
        *effects.entry(user).or_default() += 1;
    }
    let doubled: Vec<_> = effects.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "sent twice: {doubled:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|n| !effects.contains_key(&format!("user-{n}"))).collect();
    assert!(lost.is_empty(), "acknowledged and never sent: {lost:?}");
    assert_eq!(effects.len(), acknowledged.len(), "nothing that was not acknowledged");
    assert_eq!(processes.count("SELECT count(*) FROM deliveries WHERE state <> 'accepted'").await, 0);
    let stats = processes.sandbox_json("/_sandbox/stats").await;
    assert_eq!(stats["idempotency_mismatches"], 0, "one key, one body");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_restarts_posters_wait_and_nothing_is_lost() {
    let folder = database::server_folder();
    let postgres = database::start_in(folder.clone(), &[]).await;
    let url = postgres.url();
    database::migrate(&url).await;
    let processes = Processes::start_on(Database::of_own_server(url), &[]).await;
    let posters = Posters::start(16, &[processes.port]);
    let mut running = postgres;
    for _ in 0..3 {
        posters.more(100).await;
        tokio::task::spawn_blocking(move || running.stop()).await.expect("joined").expect("stopped");
        let answer =
            processes.try_post(processes.port, &event(1_000_000)).await.expect("it answers all the same");
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        running = database::start_in(folder.clone(), &[]).await;
    }
    posters.more(100).await;
    let acknowledged = posters.stop().await;
    each_arrived_once(&processes, &acknowledged).await;
    drop(processes);
    tokio::task::spawn_blocking(move || running.stop()).await.expect("joined").expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_and_errors_of_onesignal_double_nothing() {
    let processes = Processes::start(&[("HERALD_RETRY__NORMAL_FIRST_DELAY", "200ms")]).await;
    for fault in [
        json!({"endpoint": "notifications", "kind": "reset_after", "probability": 0.1, "seed": 1}),
        json!({"endpoint": "notifications", "kind": "truncate", "probability": 0.05, "seed": 2}),
        json!({"endpoint": "notifications", "kind": "reset_before", "probability": 0.05, "seed": 3}),
        json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 0.1, "seed": 4}),
        json!({"endpoint": "notifications", "kind": "html", "probability": 0.05, "seed": 5}),
        json!({"endpoint": "notifications", "kind": "hang", "probability": 0.005, "seed": 6}),
    ] {
        processes.fault(&fault).await;
    }
    let posters = Posters::start(16, &[processes.port]);
    posters.more(600).await;
    let acknowledged = posters.stop().await;
    each_arrived_once(&processes, &acknowledged).await;
    let stats = processes.sandbox_json("/_sandbox/stats").await;
    assert!(stats["idempotent_replays"].as_u64().is_some_and(|replays| replays > 0), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_replicas_any_may_die_at_any_time() {
    let processes = Processes::start(&[]).await;
    let mut replicas = vec![processes.replica(&[]).await, processes.replica(&[]).await];
    let ports: Vec<u16> = std::iter::once(processes.port).chain(replicas.iter().map(|r| r.port)).collect();
    let posters = Posters::start(24, &ports);
    for _ in 0..4 {
        posters.more(150).await;
        let dead = replicas.remove(0);
        let port = dead.port;
        drop(dead);
        posters.more(50).await;
        replicas.push(processes.replica_at(port).await);
    }
    let acknowledged = posters.stop().await;
    each_arrived_once(&processes, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stood_still_beyond_its_lease_writes_nothing_stale() {
    let mut processes = Processes::start(&[]).await;
    let replica = processes.replica(&[]).await;
    let posters = Posters::start(16, &[processes.port, replica.port]);
    for _ in 0..2 {
        posters.more(100).await;
        processes.signal(Signal::SIGSTOP);
        // Long enough for its lease and its calls to be over: the other takes everything over.
        let orphaned = async || {
            processes
                .count(
                    "SELECT count(*) FROM queue q JOIN workers w ON w.id = q.worker_id
                     WHERE w.lease_until < (SELECT max(lease_until) FROM workers) - interval '3 seconds'",
                )
                .await
        };
        let lapsed = async || {
            processes
                .count(
                    "SELECT count(*) FROM workers
                     WHERE lease_until < (SELECT max(lease_until) FROM workers) - interval '5 seconds'",
                )
                .await
        };
        while lapsed().await == 0 || orphaned().await > 0 {
            tick().await;
        }
        processes.signal(Signal::SIGCONT);
        posters.more(50).await;
    }
    let acknowledged = posters.stop().await;
    each_arrived_once(&processes, &acknowledged).await;
    assert!(!processes.has_died());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_stopped_fails_no_request_and_leaves_nothing_behind() {
    // A lease that no busy machine lets lapse: only the one that stops may leave.
    let settings = [("HERALD_ONESIGNAL__CALLS_PER_SECOND", "50"), ("HERALD_DELIVERY__LEASE", "45s")];
    let mut processes = Processes::start(&settings).await;
    let replica = processes.replica(&[]).await;
    let posters = Posters::start(16, &[processes.port, replica.port]);
    posters.more(300).await;
    let began = std::time::Instant::now();
    processes.signal(Signal::SIGTERM);
    let status = processes.wait_until_ended().await;
    assert!(
        status.success() && began.elapsed() < Duration::from_secs(30),
        "{status} after {:?}",
        began.elapsed()
    );
    assert_eq!(
        processes.count("SELECT count(*) FROM workers").await,
        1,
        "its row is gone, with everything it held"
    );
    posters.more(50).await;
    let acknowledged = posters.stop().await;
    each_arrived_once(&processes, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_may_take_events_in_and_another_send_them() {
    let mut processes = Processes::start(&[]).await;
    processes.kill();
    let taking = processes.replica(&["--no-workers"]).await;
    let _sending = processes.replica(&["--no-http"]).await;
    let posters = Posters::start(8, &[taking.port]);
    posters.more(200).await;
    let acknowledged = posters.stop().await;
    each_arrived_once(&processes, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_at_its_loudest_holds_no_secret_and_no_value() {
    let mut processes = Processes::start(&[]).await;
    processes.kill();
    let log = scratch("log");
    processes.start_logging("trace,hyper=debug", &log).await;
    let reset = |id: &str, code: &str| json!({"id": id, "type": "password.reset", "recipient": {"external_id": "canary-person"}, "data": {"code": code}});
    processes.post(&reset("c-1", "918273")).await.expect("accepted");
    assert_eq!(processes.try_post(processes.port, &reset("c-2", "canary-code")).await.unwrap().status(), 422);
    assert_eq!(processes.try_post(processes.port, &reset("c-1", "918274")).await.unwrap().status(), 409);
    let mut order = order_shipped("o-1", "canary-person");
    order["data"]["name"] = json!("canary-name");
    processes.fault(&json!({"endpoint": "notifications", "kind": "status", "status": 400, "times": 1})).await;
    processes.post(&order).await.expect("accepted");
    processes.wait_until_drained().await;
    processes.signal(Signal::SIGINT);
    processes.wait_until_ended().await;
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(text.contains("stopped"), "it logs at all");
    for canary in ["918273", "918274", "canary", KEY, "os_v2_app_sandbox", database::SECRET_KEY] {
        let found: Vec<&str> = text.lines().filter(|line| line.contains(canary)).take(3).collect();
        assert!(found.is_empty(), "`{canary}` is in the log: {found:#?}");
    }
}
