//! The whole pipeline under a storm of faults, deterministically: real replicas over a real Postgres, simulated time
//! and a simulated OneSignal, one step at a time, each seed another storm. Afterwards one oracle says whether every
//! promise was kept. `SEED=4711 cargo test --test simulation` runs one seed again, `SEEDS=10000` that many.

#![expect(clippy::expect_used, reason = "a test stops where something fails")]
#![expect(dead_code, reason = "planted bugs have their fields before their test")]

mod calm;
mod catalog;
mod control;
mod faults;
mod onesignal;
mod oracle;
mod plants;
mod provider;
mod replica;
mod report;
mod run;
mod support;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use oracle::{Finding, Oracle};
use parking_lot::Mutex;
use plants::Plant;
use report::Report;
use run::Run;
use world::World;

/// Seeds that once found something, and what: they run first.
const REGRESSIONS: [u64; 0] = [];
/// Seeds that run if nobody says how many.
const SEEDS: u64 = 300;
/// Seeds under way at once, each on a database of its own.
const SIDE_BY_SIDE: usize = 3;

/// Runs one seed to its end and says what is wrong.
async fn run_seed(world: &World, seed: u64, plant: &Plant) -> (Vec<Finding>, Report) {
    let t0 = Instant::now();
    world.reset().await;
    let t1 = Instant::now();
    let mut run = Run::new(seed, world, plant);
    run.storm().await;
    let t2 = Instant::now();
    let mut findings = run.settle().await;
    let t3 = Instant::now();
    let mut report = std::mem::take(&mut run.report);
    report.ends = oracle::ends(&run).await;
    let (found, checks) = Oracle::read(&run).await.examine().await;
    findings.extend(found);
    println!(
        "T {seed} reset {:?} storm {:?} settle {:?} oracle {:?}",
        t1 - t0,
        t2 - t1,
        t3 - t2,
        t3.elapsed()
    );
    {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut h = DefaultHasher::new();
        for p in run.onesignal.posts() {
            format!("{:?} {:?}", p.targets, p.started_at).hash(&mut h);
            if std::env::var("TRACE").is_ok() {
                println!("P {:?} {} {}", p.targets, p.started_at, p.body["template_id"]);
            }
        }
        println!("H {seed} {:x} {}", h.finish(), run.onesignal.posts().len());
    }
    if variable("SEED").is_some() {
        tell(&run, &findings).await;
    }
    report.checks = checks;
    report.calls = run.onesignal.posts().len() as u64;
    report.add(&run.onesignal.take_report());
    for replica in &run.replicas {
        report.add(&replica.kit.control.take_report());
        replica.kit.store.close().await;
    }
    (findings, report)
}

/// The stories of the keys that findings name.
async fn tell(run: &Run<'_>, findings: &[Finding]) {
    for finding in findings {
        let words = finding.detail.split([' ', ',', ':']);
        if let Some(key) = words.into_iter().find(|word| word.len() == 36 && word.contains('-')) {
            println!("{}: {}", finding.invariant, finding.detail);
            for line in oracle::story(run, key).await {
                println!("    {line}");
            }
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A replica that dies in a simulation is no news.
fn keep_deaths_quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload().is::<control::Death>() {
                usual(panic);
            }
        }));
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn every_seed_keeps_every_promise() {
    keep_deaths_quiet();
    let seeds: Vec<u64> = match (variable("SEED"), variable("SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => REGRESSIONS.into_iter().chain(1..=count.unwrap_or(SEEDS)).collect(),
    };
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let (total, failed) = (Mutex::new(Report::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE.min(seeds.len()) {
            scope.spawn(|| {
                runtime().block_on(async {
                    let world = World::new().await;
                    loop {
                        let place = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).expect("a place");
                        let Some(seed) = seeds.get(place).copied() else { return };
                        let (findings, report) = run_seed(&world, seed, &plants::NONE).await;
                        total.lock().add(&report);
                        if !findings.is_empty() {
                            failed.lock().push((seed, findings));
                        }
                    }
                });
            });
        }
    });
    println!("{}", total.lock().text(began.elapsed()));
    let failed = failed.into_inner();
    for (seed, findings) in &failed {
        println!("SEED={seed} cargo test --test simulation");
        for finding in findings.iter().take(6) {
            println!("  {}: {}", finding.invariant, finding.detail);
        }
    }
    assert!(failed.is_empty(), "{} seeds broke a promise", failed.len());
}
