//! The whole pipeline under a storm of faults, deterministically: real replicas over a real Postgres, simulated time
//! and a simulated OneSignal, one step at a time, each seed another storm. Afterwards one oracle checks whether every
//! guarantee was kept. `SEED=4711 cargo test --test simulation` runs one seed again, `SEEDS=10000` that many.

#![expect(clippy::expect_used, reason = "a test stops where something fails")]

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

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use oracle::{Finding, Oracle};
use parking_lot::Mutex;
use plants::Plant;
use report::Report;
use run::Run;
use world::World;

/// Seeds that once found something: they run first.
/// 208 and 331: a replica that was stalled for hours claimed in the name of a worker that was gone.
/// 1307: an attempt from before its lease lapsed stood in line beside the one after, and both were called.
/// 211: a lease was renewed by the old time after the clock had gone back and the others were repaired.
/// 37, 58: after the clock went back, a retry and what a process had held waited until it was there again.
const REGRESSIONS: [u64; 4] = [208, 331, 1_307, 211];
/// Seeds that run if no one says how many.
const SEEDS: u64 = 300;
/// Seeds in progress at once, each on a database of its own.
const SIDE_BY_SIDE: usize = 3;

/// Runs one seed to its end and says what is wrong.
async fn run_seed(world: &World, seed: u64, plant: &Plant) -> (Vec<Finding>, Report) {
    world.reset().await;
    world.execute(plant.sql).await;
    let mut run = Run::new(seed, world, plant);
    run.storm().await;
    let mut findings = run.settle().await;
    findings.extend(
        run.refused.iter().map(|problem| Finding::new("no valid event is rejected", problem.as_str())),
    );
    let mut report = std::mem::take(&mut run.report);
    report.ends = oracle::ends(&run).await;
    let (found, checks) = Oracle::read(&run).await.examine().await;
    findings.extend(found);
    if variable("SEED").is_some() {
        report_keys(&run, &findings).await;
    }
    report.checks = checks;
    report.calls = run.onesignal.posts().len() as u64;
    report.add(&run.onesignal.take_report());
    for replica in &run.replicas {
        report.add(&replica.kit.control.take_report());
    }
    world.execute(plant.undo).await;
    (findings, report)
}

/// The history of the keys that findings name.
async fn report_keys(run: &Run<'_>, findings: &[Finding]) {
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

/// A replica that dies in a simulation is not logged.
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

/// Writes to the terminal at once what a test's captured output would only show at its end.
fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
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
                            progress(&format!("SEED={seed} broke a promise"));
                        }
                        if place.is_multiple_of(100) {
                            let (all, seconds) = (seeds.len(), began.elapsed().as_secs());
                            progress(&format!("{place} of {all} seeds after {seconds} s"));
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

/// Seeds that a planted bug may survive. `SEEDS_PER_PLANT` and `FROM_SEED` search further for a seed that finds it.
const SEEDS_PER_PLANT: usize = 40;

/// Runs seeds until one finds what is planted; the seed, or what was found instead.
async fn hunt(world: &World, plant: &Plant) -> Result<u64, Vec<Finding>> {
    let mut others = Vec::new();
    let likely = plants::FOUND_BY.iter().filter(|(name, _)| *name == plant.name).map(|(_, seed)| *seed);
    let shows = |seed: &u64| (plant.shows_in)(&run::DatabasePlan::of(*seed));
    let most = variable("SEEDS_PER_PLANT").and_then(|most| usize::try_from(most).ok());
    let first = variable("FROM_SEED").unwrap_or(1);
    let others_too = (first..).filter(shows).take(most.unwrap_or(SEEDS_PER_PLANT));
    for seed in likely.chain(others_too) {
        let (findings, _) = run_seed(world, seed, plant).await;
        if findings.iter().any(|finding| plant.catches.contains(&finding.invariant)) {
            return Ok(seed);
        }
        others.extend(findings);
    }
    Err(others)
}

#[test]
fn every_planted_bug_is_found() {
    keep_deaths_quiet();
    let only = std::env::var("PLANT").ok();
    let wanted = |plant: &&Plant| only.as_deref().is_none_or(|only| plant.name.contains(only));
    let plants: Vec<&Plant> = plants::PLANTS.iter().filter(wanted).collect();
    let (next, missed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE.min(plants.len()) {
            scope.spawn(|| {
                runtime().block_on(async {
                    let world = World::new().await;
                    loop {
                        let place = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).expect("a place");
                        let Some(plant) = plants.get(place) else { return };
                        match hunt(&world, plant).await {
                            Ok(seed) => println!("{}: found by seed {seed}", plant.name),
                            Err(others) => missed.lock().push((plant.name, others)),
                        }
                    }
                });
            });
        }
    });
    let missed = missed.into_inner();
    for (name, others) in &missed {
        println!("{name}: not found; instead");
        for finding in others.iter().take(4) {
            println!("  {}: {}", finding.invariant, finding.detail);
        }
    }
    assert!(missed.is_empty(), "{} planted bugs were not found", missed.len());
}
