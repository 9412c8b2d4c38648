//! Runtime checks: file descriptors, TLS, clocks, keys, roles, and overdue deliveries.

use chrono::TimeDelta;

use super::{Finding, Findings};
use crate::app::DescriptorLimit;
use crate::config::Settings;
use crate::domain::clock::{Clock, SystemClock};
use crate::store::clock::PgClock;
use crate::store::{DatabaseTls, Store};

/// The clock skew to warn about, and the one that breaks sessions and signatures.
const CLOCK_NOTE: TimeDelta = TimeDelta::seconds(5);
const CLOCK_FAULT: TimeDelta = TimeDelta::seconds(60);
/// How long a step of the database's clock is reported.
const STEP_MATTERS: TimeDelta = TimeDelta::hours(24);
/// How long a delivery may be overdue before it is reported.
const DUE_FAULT: TimeDelta = TimeDelta::minutes(2);
/// How long an erasure may take before it is reported.
const ERASURE_FAULT: TimeDelta = TimeDelta::hours(24);
/// Number of queue rows to check.
const QUEUE_ROWS: i64 = 100_000;

pub(super) fn examine_process(findings: &mut Findings) {
    match DescriptorLimit::read() {
        Some(limit) if limit.hard >= 4_096 => {
            findings.well("file descriptors", format!("up to {}", limit.hard));
        }
        Some(limit) => findings.ill(
            "file descriptors",
            format!("the limit is {}: the service accepts fewer connections than that", limit.hard),
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
            "Herald's role can change the audit log",
            "create a role for the service, and run `herald migrate --grants ROLE` as the owner",
        );
    } else {
        findings.well("database role", "it can't change the audit log");
    }
    examine_log_in(settings, store, findings).await;
    if is_live && settings.people.erasure_record.is_empty() {
        findings.advice(
            "erasures",
            "they are not recorded outside the database: a restore from a backup would bring erased people back",
            "set `people.erasure_record` to a file on storage that a restore does not touch",
        );
    }
    examine_erasures(store, findings).await;
    if is_live && let Ok(count @ 1..) = store.count_powerful_test_keys().await {
        findings.advice(
            "test keys",
            format!("{count} test keys have scopes that they can't use while a live app exists"),
            "revoke them (`herald keys list`, `herald keys revoke ID`), or create live keys",
        );
    }
}

async fn examine_erasures(store: &Store, findings: &mut Findings) {
    let Ok(Some(oldest)) = store.oldest_open_erasure().await else { return };
    if SystemClock::new().now() - oldest > ERASURE_FAULT {
        findings.ill(
            "erasures",
            format!("one has been open since {oldest}"),
            "`herald users erasures list` and `show` say which app or delivery it waits for",
        );
    }
}

async fn examine_log_in(settings: &Settings, store: &Store, findings: &mut Findings) {
    let console = &settings.console;
    let alone = store.count_without_second_factor().await.unwrap_or_default();
    if !console.password_log_in || alone == 0 {
        findings.well("log-in", "everyone logs in to the console with a second factor");
    } else if console.require_second_factor {
        findings
            .well("log-in", format!("{alone} members have to set up a second factor at their next login"));
    } else {
        findings.advice(
            "log-in",
            format!("{alone} members log in to the console with only a password"),
            "set `console.require_second_factor`, or use single sign-on (`[oidc]`)",
        );
    }
}

fn examine_tls(store: &Store, is_live: bool, findings: &mut Findings) {
    let remedy =
        "remove `sslmode` from `database_url`, or write `sslmode=verify-full` (and `sslrootcert=FILE`)";
    let detail = "the connection to the database is not verified: it could be intercepted";
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
    let detail = format!("{} ms off the database's clock", skew.num_milliseconds());
    let remedy = "synchronise both machines' clocks (NTP)";
    if skew > CLOCK_FAULT {
        findings.ill("clock", detail, remedy);
    } else if skew > CLOCK_NOTE {
        findings.advice("clock", detail, remedy);
    } else {
        findings.well("clock", detail);
    }
}

/// Reports recent steps of the database's clock, and restores.
async fn examine_past(store: &Store, findings: &mut Findings) {
    let (Ok(watch), Ok(clock)) = (store.database_watch().await, PgClock::start(store).await) else { return };
    let now = clock.now();
    if let Some(step) = watch.step.filter(|step| now - step.at < STEP_MATTERS) {
        let back = step.back.as_secs();
        findings.advice(
            "database clock",
            format!("it went back by {back} s at {}: scheduled deliveries may be sent late", step.at),
            "configure NTP on the database server to slew the clock instead of stepping it",
        );
    }
    if let Some(restore) = watch.restore.filter(|restore| now < restore.alone_until) {
        findings.advice(
            "restore",
            format!(
                "the database was restored at {}; each delivery is sent individually until {}, which takes more API calls",
                restore.at, restore.alone_until
            ),
            "run `herald restored end` once all sources have re-posted lost events",
        );
    }
}

/// Due deliveries are sent within seconds, unless a gate is closed or no worker runs.
async fn examine_due(store: &Store, findings: &mut Findings) {
    let (Ok(backlog), Ok(clock)) = (store.backlog(QUEUE_ROWS).await, PgClock::start(store).await) else {
        return;
    };
    let waits = |state: &str| ["queued", "retrying"].contains(&state);
    let oldest = backlog.iter().filter(|row| waits(&row.state)).filter_map(|row| row.oldest_due_at).min();
    match oldest.filter(|due| *due < clock.now() - DUE_FAULT) {
        Some(due) => findings.ill(
            "due deliveries",
            format!("the oldest has been due since {due}"),
            "check the gates below, and that a `herald serve` with workers is running (`herald why` explains a single delivery)",
        ),
        None => findings.well("due deliveries", "none is overdue"),
    }
}

impl Findings {
    /// A check that passed, with a recommendation.
    pub(super) fn advice(&mut self, check: &str, detail: impl Into<String>, remedy: &str) {
        let remedy = Some(remedy.to_owned());
        self.0.push(Finding { check: check.to_owned(), is_well: true, detail: detail.into(), remedy });
    }
}
