//! Everything at once, on real processes: two replicas under load while OneSignal loses responses, replicas are killed,
//! frozen and replaced, Postgres dies, and its disk runs full. Afterwards the results have to be consistent: each
//! acknowledged event reached its recipient once, and no one got a message that was not posted.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use local_postgres::{LocalPostgres, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::arrivals::each_of;
use crate::setup::{APP, KEY, free_port};

/// Posters at work.
const POSTERS: u64 = 16;

/// What the run has done, by kind.
type Deeds = std::collections::BTreeMap<&'static str, u64>;

struct World {
    folder: std::path::PathBuf,
    database: String,
    postgres: Option<LocalPostgres>,
    sandbox: Child,
    sandbox_port: u16,
    replicas: Vec<(u16, Child)>,
    deeds: Deeds,
    random: StdRng,
}

impl Drop for World {
    fn drop(&mut self) {
        for child in self.replicas.iter_mut().map(|(_, child)| child).chain([&mut self.sandbox]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub async fn run(folder: &std::path::Path) {
    let number =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (seconds, seed) = (number("BENCH_SECONDS", 120), number("BENCH_SEED", 1));
    println!("chaos for {seconds} s with seed {seed}");
    let mut world = World::start(folder, seed).await;
    world.set_faults().await;
    let posters = Posters::start(&world.replicas.iter().map(|(port, _)| *port).collect::<Vec<_>>());
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        world.do_something().await;
        let pause = world.random.random_range(500..3_000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    world.disk_full().await;
    let acknowledged = posters.stop().await;
    world.clear_faults().await;
    let drained = world.settle().await;
    for (deed, times) in &world.deeds {
        println!("  {times:>4} x {deed}");
    }
    world.balance(&acknowledged, drained).await;
}

impl World {
    async fn start(folder: &std::path::Path, seed: u64) -> Self {
        let postgres = start_postgres(folder.to_owned()).await;
        let database = postgres.url();
        let sandbox_port = free_port();
        let sandbox = Command::new(env!("CARGO_BIN_EXE_herald"))
            .args(["sandbox", "--listen", &format!("127.0.0.1:{sandbox_port}"), "--calls-per-second", "0"])
            .stderr(Stdio::null())
            .spawn()
            .expect("a sandbox");
        let mut world = Self {
            folder: folder.to_owned(),
            database,
            postgres: Some(postgres),
            sandbox,
            sandbox_port,
            replicas: Vec::new(),
            deeds: Deeds::new(),
            random: StdRng::seed_from_u64(seed),
        };
        assert!(world.herald(free_port(), "migrate").status().expect("migrate ran").success());
        for _ in 0..2 {
            let port = free_port();
            let child = world.herald(port, "serve").spawn().expect("herald");
            world.replicas.push((port, child));
            ready(port).await;
        }
        let applied = Command::new(env!("CARGO_BIN_EXE_herald"))
            .args(["catalog", "apply", "--sample"])
            .env("HERALD_URL", format!("http://127.0.0.1:{}", world.replicas[0].0))
            .env("HERALD_KEY", KEY)
            .stdout(Stdio::null())
            .status();
        assert!(applied.expect("apply ran").success());
        world
    }

    /// A command set up to recover within seconds: every duration is a setting, the counts are the usual ones.
    fn herald(&self, port: u16, command: &str) -> Command {
        let mut herald = Command::new(env!("CARGO_BIN_EXE_herald"));
        herald
            .arg(command)
            .env("HERALD_DATABASE_URL", &self.database)
            .env("HERALD_SECRET_KEY", "a secret key for benchmarks and nothing else")
            .env("HERALD_LISTEN", format!("127.0.0.1:{port}"))
            .env("HERALD_DEV_KEY", KEY)
            .env("HERALD_ONESIGNAL__APP_ID", APP)
            .env("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
            .env("HERALD_ONESIGNAL__BASE_URL", format!("http://127.0.0.1:{}", self.sandbox_port))
            .env("HERALD_ONESIGNAL__CALLS_PER_SECOND", "6000")
            .env("HERALD_DELIVERY__LEASE", "4s")
            .env("HERALD_DELIVERY__LEASE_RENEWAL", "1s")
            .env("HERALD_DELIVERY__CALL_TIMEOUT", "3s")
            .env("HERALD_DELIVERY__URGENT_CALL_TIMEOUT", "2s")
            .env("HERALD_DELIVERY__RECONCILE", "2s")
            .env("HERALD_DELIVERY__BREAKER_FIRST", "1s")
            .env("HERALD_DELIVERY__BREAKER_LONGEST", "5s")
            .env("HERALD_DELIVERY__BREAKER_PROBE_GAP", "500ms")
            .env("HERALD_DELIVERY__BREAKER_RAMP", "2s")
            .env("HERALD_RETRY__AMBIGUOUS_GAP", "4s")
            .env("HERALD_RETRY__NORMAL_FIRST_DELAY", "200ms")
            .env("HERALD_RETRY__DEFAULT_RETRY_AFTER", "2s")
            .env("HERALD_LOG__FILTER", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        herald
    }

    async fn fault(&self, fault: &serde_json::Value) {
        let url = format!("http://127.0.0.1:{}/_sandbox/faults", self.sandbox_port);
        reqwest::Client::new().post(url).json(fault).send().await.expect("set");
    }

    async fn set_faults(&self) {
        for (kind, probability) in [
            ("reset_after", 0.05),
            ("reset_before", 0.03),
            ("truncate", 0.02),
            ("html", 0.01),
            ("hang", 0.002),
        ] {
            self.fault(
                &json!({"endpoint": "notifications", "kind": kind, "probability": probability, "seed": 7}),
            )
            .await;
        }
        for (status, probability) in [(503, 0.03), (500, 0.02), (429, 0.002)] {
            self.fault(&json!({"endpoint": "notifications", "kind": "status", "status": status,
                "probability": probability, "seed": 9}))
                .await;
        }
    }

    async fn clear_faults(&self) {
        let url = format!("http://127.0.0.1:{}/_sandbox/faults", self.sandbox_port);
        reqwest::Client::new().delete(url).send().await.expect("cleared");
    }

    async fn do_something(&mut self) {
        let victim = self.random.random_range(0..self.replicas.len());
        match self.random.random_range(0..10) {
            0..=4 => {
                self.deed("a replica killed with kill -9");
                let (_, child) = &mut self.replicas[victim];
                let _ = child.kill();
                let _ = child.wait();
                self.revive(victim).await;
            }
            5 | 6 => {
                self.deed("a replica replaced as in a deployment, with herald migrate before");
                assert!(self.herald(free_port(), "migrate").status().expect("migrate ran").success());
                signal(&self.replicas[victim].1, Signal::SIGTERM);
                let _ = self.replicas[victim].1.wait();
                self.revive(victim).await;
            }
            7 | 8 => {
                self.deed("a replica frozen for longer than its lease");
                signal(&self.replicas[victim].1, Signal::SIGSTOP);
                tokio::time::sleep(Duration::from_secs(9)).await;
                signal(&self.replicas[victim].1, Signal::SIGCONT);
            }
            _ => {
                self.deed("Postgres killed and started again");
                self.restart_postgres().await;
            }
        }
    }

    fn deed(&mut self, deed: &'static str) {
        *self.deeds.entry(deed).or_default() += 1;
    }

    async fn revive(&mut self, place: usize) {
        let port = self.replicas[place].0;
        self.replicas[place].1 = self.herald(port, "serve").spawn().expect("herald");
        ready(port).await;
    }

    async fn restart_postgres(&mut self) {
        if let Some(postgres) = self.postgres.take() {
            if let Some(pid) = self.postmaster() {
                let _ = kill(pid, Signal::SIGQUIT);
            }
            let _ = tokio::task::spawn_blocking(move || postgres.stop()).await;
        }
        self.postgres = Some(start_postgres(self.folder.clone()).await);
        for place in 0..self.replicas.len() {
            if self.replicas[place].1.try_wait().is_ok_and(|ended| ended.is_some()) {
                self.revive(place).await;
            }
        }
    }

    fn postmaster(&self) -> Option<Pid> {
        let lock = std::fs::read_to_string(self.folder.join("disk/postgres/postmaster.pid")).ok()?;
        lock.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    }

    /// Fills the disk that Postgres is on, where it is one of its own, and frees it again.
    async fn disk_full(&mut self) {
        let filler = self.folder.join("disk/filler");
        if !self.folder.join("disk/own").exists() {
            println!("the disk was not filled: that needs leave to mount one of our own (root)");
            return;
        }
        self.deed("the disk full for five seconds");
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=1M", &format!("of={}", filler.display())])
            .stderr(Stdio::null())
            .status();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let _ = std::fs::remove_file(&filler);
        self.restart_postgres().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }

    /// Waits until nothing is open; returns whether that came to pass.
    async fn settle(&self) -> bool {
        let deadline = Instant::now() + Duration::from_mins(3);
        while Instant::now() < deadline {
            if self.count("SELECT count(*) FROM queue WHERE state <> 'held'").await == Some(0) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        false
    }

    async fn count(&self, query: &'static str) -> Option<i64> {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.database).await.ok()?;
        sqlx::query_scalar(query).fetch_one(&mut connection).await.ok()
    }

    /// The consistency check: what was acknowledged against what arrived, and Herald's own tables.
    async fn balance(&self, acknowledged: &HashSet<String>, drained: bool) {
        let mut arrived: HashMap<String, u64> = HashMap::new();
        each_of(self.sandbox_port, |message| {
            for recipient in message["recipients"].as_array().into_iter().flatten() {
                *arrived
                    .entry(recipient["external_id"].as_str().unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
        })
        .await;
        let lost = acknowledged.iter().filter(|person| !arrived.contains_key(*person)).count();
        let twice = arrived.values().filter(|times| **times > 1).count();
        let stored = self.count("SELECT count(*) FROM events").await.unwrap_or_default();
        let unknown =
            self.count("SELECT count(*) FROM deliveries WHERE state = 'unknown'").await.unwrap_or_default();
        println!("acknowledged {}, stored {stored}, arrived {}", acknowledged.len(), arrived.len());
        println!("lost {lost}, twice {twice}, unknown {unknown}, drained: {drained}");
        let report = self.herald(free_port(), "doctor").arg("--consistency").stdout(Stdio::piped()).output();
        let report = report.expect("the consistency check ran");
        println!("herald doctor --consistency\n{}", String::from_utf8_lossy(&report.stdout));
        let is_well = lost == 0 && twice == 0 && drained && report.status.success();
        assert!(is_well, "the books don't balance");
        println!("nothing lost, nothing doubled, all accounted for");
    }
}

/// Postgres on a disk of its own where we may mount one, or else in the folder.
async fn start_postgres(folder: std::path::PathBuf) -> LocalPostgres {
    tokio::task::spawn_blocking(move || {
        let disk = folder.join("disk");
        std::fs::create_dir_all(&disk).expect("a folder");
        if nix::unistd::Uid::effective().is_root() && !disk.join("own").exists() {
            let mounted = Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=2g,mode=755", "tmpfs", &disk.display().to_string()])
                .stderr(Stdio::null())
                .status();
            if mounted.is_ok_and(|status| status.success()) {
                std::fs::write(disk.join("own"), "").expect("a mark");
            }
        }
        let mut options = Options::durable(disk.join("postgres"));
        options.settings = vec![("max_wal_size".into(), "256MB".into())];
        for _ in 0..20 {
            if let Ok(postgres) = LocalPostgres::start(&options) {
                return postgres;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        LocalPostgres::start(&options).expect("Postgres")
    })
    .await
    .expect("joined")
}

/// Takes the disk away again.
pub fn unmount(folder: &std::path::Path) {
    let disk = folder.join("disk");
    if disk.join("own").exists() {
        let _ = Command::new("umount").arg(disk).status();
    }
}

fn signal(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal);
}

async fn ready(port: u16) {
    for _ in 0..600 {
        let url = format!("http://127.0.0.1:{port}/readyz");
        if reqwest::get(url).await.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no Herald became ready at {port}");
}

/// Clients that post until they are stopped, each retrying until an event is acknowledged; one event in ten is
/// posted to both replicas.
struct Posters {
    acknowledged: Arc<Mutex<HashSet<String>>>,
    stop: Arc<AtomicBool>,
    running: Vec<tokio::task::JoinHandle<()>>,
}

impl Posters {
    fn start(ports: &[u16]) -> Self {
        let acknowledged: Arc<Mutex<HashSet<String>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let running = (0..POSTERS).map(|_| {
            let (ports, next) = (ports.to_vec(), Arc::clone(&next));
            tokio::spawn(post(ports, next, Arc::clone(&acknowledged), Arc::clone(&stop)))
        });
        Self { running: running.collect(), acknowledged, stop }
    }

    async fn stop(self) -> HashSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        for poster in self.running {
            poster.await.expect("posted");
        }
        std::mem::take(&mut *self.acknowledged.lock())
    }
}

async fn post(
    ports: Vec<u16>,
    next: Arc<AtomicU64>,
    acknowledged: Arc<Mutex<HashSet<String>>>,
    stop: Arc<AtomicBool>,
) {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
    while !stop.load(Ordering::SeqCst) {
        let n = next.fetch_add(1, Ordering::SeqCst);
        let person = format!("person-{n}");
        let event = json!({
            "id": format!("chaos-{n}"), "type": "payment.failed", "recipient": {"external_id": person},
            "data": {"invoice": n.to_string(), "amount": "2 EUR", "pay_url": "https://shop.example/pay"},
        });
        let mut turn = n;
        let mut wanted = if n.is_multiple_of(10) { 2 } else { 1 };
        while wanted > 0 {
            let port = ports[usize::try_from(turn).expect("small") % ports.len()];
            turn += 1;
            let url = format!("http://127.0.0.1:{port}/v1/events");
            match client.post(url).bearer_auth(KEY).json(&event).send().await {
                Ok(answer) if answer.status() == 202 => {
                    acknowledged.lock().insert(person.clone());
                    wanted -= 1;
                }
                Ok(answer) if answer.status().is_client_error() => panic!("refused with {}", answer.status()),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}
