//! What protects this installation at run time: descriptors, TLS, clocks, keys, roles, and that what is due is sent.

use chrono::TimeDelta;

use super::{Finding, Findings};
use crate::app::DescriptorLimit;
use crate::config::Settings;
use crate::domain::clock::{Clock, SystemClock};
use crate::store::clock::PgClock;
use crate::store::{DatabaseTls, Store};

/// A difference between the clocks that people should know of, and one that breaks sessions and signatures.
const CLOCK_NOTE: TimeDelta = TimeDelta::seconds(5);
const CLOCK_FAULT: TimeDelta = TimeDelta::seconds(60);
/// How long people are reminded of a step of the database's clock.
const STEP_MATTERS: TimeDelta = TimeDelta::hours(24);
/// How long a due delivery may wait before something is wrong.
const DUE_FAULT: TimeDelta = TimeDelta::minutes(2);
/// Rows of the queue that are looked at.
const QUEUE_ROWS: i64 = 100_000;

pub(super) fn examine_process(findings: &mut Findings) {
    match DescriptorLimit::read() {
        Some(limit) if limit.hard >= 4_096 => {
            findings.well("file descriptors", format!("up to {}", limit.hard));
        }
        Some(limit) => findings.ill(
            "file descriptors",
            format!("the limit is {}: the service takes fewer connections than that", limit.hard),
            "raise it to 4096 or more (`ulimit -Hn`, LimitNOFILE= of systemd, `ulimits` of a container)",
        ),
        None => {}
    }
}

pub(super) async fn examine_protection(settings: &Settings, store: &Store, findings: &mut Findings) {
    let is_live = store.has_live_app().await.unwrap_or_default();
    examine_tls(store, is_live, findings);
    examine_clocks(store, findings).await;
    examine_past(store, findings).await;
    examine_due(store, findings).await;
    if let Ok(true) = store.may_change_audit().await {
        findings.advice(
            "database role",
            "the role that Herald uses could change the record of changes",
            "make a role for the service, and run `herald migrate --grants ROLE` as the owner",
        );
    } else {
        findings.well("database role", "it can't change the record of changes");
    }
    examine_log_in(settings, store, findings).await;
    if is_live && let Ok(count @ 1..) = store.count_powerful_test_keys().await {
        findings.advice(
            "test keys",
            format!(
                "{count} test keys have scopes that they can't use beside an app that reaches real people"
            ),
            "revoke them (`herald keys list`, `herald keys revoke ID`), or make live keys",
        );
    }
}

async fn examine_log_in(settings: &Settings, store: &Store, findings: &mut Findings) {
    let console = &settings.console;
    let alone = store.count_without_second_factor().await.unwrap_or_default();
    if !console.password_log_in || alone == 0 {
        findings.well("log-in", "nobody logs in to the console with a password alone");
    } else if console.require_second_factor {
        findings.well("log-in", format!("{alone} people set a second factor up when they log in next"));
    } else {
        findings.advice(
            "log-in",
            format!("{alone} people log in to the console with a password alone"),
            "set `console.require_second_factor`, or let people log in through your provider (`[oidc]`)",
        );
    }
}

fn examine_tls(store: &Store, is_live: bool, findings: &mut Findings) {
    let remedy =
        "take `sslmode` out of `database_url`, or write `sslmode=verify-full` (and `sslrootcert=FILE`)";
    let detail = "the way to the database is not verified: it could be read, or end at another server";
    match store.tls() {
        DatabaseTls::Local => findings.well("database TLS", "the database is on this machine"),
        DatabaseTls::Verified => findings.well("database TLS", "encrypted and verified"),
        DatabaseTls::Unverified if is_live => findings.ill("database TLS", detail, remedy),
        DatabaseTls::Unverified => findings.advice("database TLS", detail, remedy),
    }
}

async fn examine_clocks(store: &Store, findings: &mut Findings) {
    let Ok(database) = PgClock::start(store).await else { return };
    let skew = (SystemClock::new().now() - database.now()).abs();
    let detail = format!("{} ms apart from the database's", skew.num_milliseconds());
    let remedy = "synchronise both machines' clocks (NTP)";
    if skew > CLOCK_FAULT {
        findings.ill("clock", detail, remedy);
    } else if skew > CLOCK_NOTE {
        findings.advice("clock", detail, remedy);
    } else {
        findings.well("clock", detail);
    }
}

/// Steps of the database's clock, and restores, while they still matter.
async fn examine_past(store: &Store, findings: &mut Findings) {
    let (Ok(watch), Ok(clock)) = (store.database_watch().await, PgClock::start(store).await) else { return };
    let now = clock.now();
    if let Some(step) = watch.step.filter(|step| now - step.at < STEP_MATTERS) {
        let back = step.back.as_secs();
        findings.advice(
            "database clock",
            format!("it went back by {back} s at {}: what was planned for a time may be sent late", step.at),
            "let NTP slew the clock of the database's machine instead of setting it back",
        );
    }
    if let Some(restore) = watch.restore.filter(|restore| now < restore.alone_until) {
        findings.advice(
            "restore",
            format!(
                "the database was restored at {}; each delivery is sent alone until {}, which takes more calls",
                restore.at, restore.alone_until
            ),
            "run `herald restored end` once nobody posts again what was lost",
        );
    }
}

/// What is due is sent within seconds, unless a gate is closed or nothing sends at all.
async fn examine_due(store: &Store, findings: &mut Findings) {
    let (Ok(backlog), Ok(clock)) = (store.backlog(QUEUE_ROWS).await, PgClock::start(store).await) else {
        return;
    };
    let waits = |state: &str| ["queued", "retrying"].contains(&state);
    let oldest = backlog.iter().filter(|row| waits(&row.state)).filter_map(|row| row.oldest_due_at).min();
    match oldest.filter(|due| *due < clock.now() - DUE_FAULT) {
        Some(due) => findings.ill(
            "due deliveries",
            format!("the oldest has been due since {due} and is not sent"),
            "see the gates below, and that a `herald serve` with workers runs (`herald why` tells of one delivery)",
        ),
        None => findings.well("due deliveries", "nothing that is due waits for long"),
    }
}

impl Findings {
    /// Something that works, and could be better.
    pub(super) fn advice(&mut self, check: &str, detail: impl Into<String>, remedy: &str) {
        let remedy = Some(remedy.to_owned());
        self.0.push(Finding { check: check.to_owned(), is_well: true, detail: detail.into(), remedy });
    }
}
