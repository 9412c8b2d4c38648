//! No statement costs more to plan, or locks more, the more days of history are kept: what Herald executes is collected
//! while it does everything that it can do with the history, and planned again with few and with many days.

mod cost;
mod statements;
mod workload;

use std::collections::BTreeSet;

use crate::support::app::TestApp;
use crate::support::database;
use cost::Session;
use statements::{Executed, Written};

/// Days of history in the old installation; a new one has five.
const OLD: i32 = 400;
/// Enough days for what is read of the last week: no fewer can be compared with the old installation.
const WEEK: i32 = 13;
/// How much longer planning may take there.
const MOST: f64 = 1.5;
/// What differs by less, in milliseconds, is not measured.
const NOISE: f64 = 0.05;

#[tokio::test]
async fn no_statement_costs_more_to_plan_or_locks_more_after_400_days_than_after_5() {
    let (new, week, old) = (database::fresh().await, database::fresh().await, database::fresh().await);
    cost::age(&week, WEEK).await;
    cost::age(&old, OLD).await;
    let (executed, _guard) = Executed::begin();
    let app = TestApp::start().await;
    workload::everything(&app).await;
    let executed = executed.on_history();
    let forgotten: Vec<String> =
        Written::all().into_iter().filter(|w| !w.is_among(&executed)).map(|w| w.place).collect();
    assert!(
        forgotten.is_empty(),
        "statements on the history that the workload does not execute; add to workload.rs what does: {forgotten:#?}"
    );
    let (mut new, mut old) = (Session::of(&new).await, Session::of(&old).await);
    let mut week = Session::of(&week).await;
    let mut report = Vec::new();
    let mut failures = BTreeSet::new();
    for statement in &executed {
        let (mut few, mut many) = cost::compare(&mut new, &mut old, statement, MOST, NOISE).await;
        if few.locks != many.locks && statement.contains(" recent") {
            (few, many) = cost::compare(&mut week, &mut old, statement, MOST, NOISE).await;
        }
        let line = format!(
            "{:7.3} ms {:4} locks | {:7.3} ms {:4} locks | {}",
            few.planning,
            few.locks,
            many.planning,
            many.locks,
            statements::short(statement)
        );
        if few.locks != many.locks || many.planning > few.planning * MOST + NOISE {
            failures.insert(line.clone());
        }
        report.push(line);
    }
    println!("after 5 days | after {OLD} days\n{}", report.join("\n"));
    assert!(failures.is_empty(), "{failures:#?}");
}
