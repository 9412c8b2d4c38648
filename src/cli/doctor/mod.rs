//! `herald doctor`: checks the installation and suggests fixes.

mod protection;

use std::process::ExitCode;

use clap::Args;
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::app::{default_app, open_store};
use crate::config::Settings;
use crate::domain::app::App;
use crate::domain::clock::Clock;
use crate::domain::gate::PAUSED;
use crate::provider::onesignal::{ClientTimeouts, OneSignal};
use crate::provider::{MessageProvider, ProviderError};
use crate::store::Store;
use crate::store::clock::PgClock;
use crate::store::schema::SchemaState;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Run only the consistency check: is everything that was accepted accounted for? (exit code 1 if not)
    #[arg(long)]
    consistency: bool,
    /// Start of the consistency check (RFC 3339) [default: 24 hours ago]
    #[arg(long, requires = "consistency", value_name = "TIME")]
    since: Option<chrono::DateTime<chrono::Utc>>,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    is_well: bool,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn well(&mut self, check: &str, detail: impl Into<String>) {
        self.0.push(Finding { check: check.to_owned(), is_well: true, detail: detail.into(), remedy: None });
    }

    fn ill(&mut self, check: &str, detail: impl Into<String>, remedy: &str) {
        let remedy = Some(remedy.to_owned());
        self.0.push(Finding { check: check.to_owned(), is_well: false, detail: detail.into(), remedy });
    }
}

pub(super) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.consistency {
        return super::consistency::run(args.since, args.json).await;
    }
    let mut findings = Findings::default();
    match super::settings(&[]) {
        Err(error) => {
            findings.ill(
                "configuration",
                format!("{error:#}"),
                "correct it in herald.toml or the environment",
            );
        }
        Ok(settings) => examine(&settings, &mut findings).await,
    }
    let is_well = findings.0.iter().all(|finding| finding.is_well);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&findings.0)?);
    } else {
        for finding in &findings.0 {
            println!(
                "{} {}: {}",
                match (finding.is_well, &finding.remedy) {
                    (true, None) => "ok  ",
                    (true, Some(_)) => "note",
                    (false, _) => "FAIL",
                },
                finding.check,
                finding.detail
            );
            if let Some(remedy) = &finding.remedy {
                println!("     {remedy}");
            }
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(settings: &Settings, findings: &mut Findings) {
    let store = match open_store(settings) {
        Ok(store) => store,
        Err(error) => {
            findings.ill("configuration", format!("{error:#}"), "see docs/configuration.md");
            return;
        }
    };
    findings.well("configuration", format!("listens on {}", settings.listen));
    protection::examine_process(findings);
    if examine_database(settings, &store, findings).await {
        protection::examine_protection(settings, &store, findings).await;
        examine_apps(settings, &store, findings).await;
    }
    store.close().await;
}

/// Returns whether the schema is there, so that more can be asked.
async fn examine_database(settings: &Settings, store: &Store, findings: &mut Findings) -> bool {
    let health = match store.health().await {
        Ok(health) => health,
        Err(error) => {
            let url = settings.database_url.expose_secret();
            let reason = super::database::unreachable_because(&error, url).await;
            let remedy = "check `database_url`, and that Postgres is running";
            findings.ill("database", format!("it is unreachable: {reason}"), remedy);
            return false;
        }
    };
    if health.is_writable {
        findings.well("database", format!("Postgres {}, writable", health.version));
    } else {
        findings.ill("database", "it is read-only", "point `database_url` at the primary");
    }
    match store.check_durability().await {
        Ok(()) => findings.well("durability", "commits survive a crash"),
        Err(error) if settings.allow_unsafe_postgres => {
            findings.well("durability", format!("{error} (allowed by `allow_unsafe_postgres`)"));
        }
        Err(error) => findings.ill("durability", error.to_string(), "set fsync and full_page_writes to on"),
    }
    match store.schema_state().await {
        Ok(SchemaState::Current) => {
            findings.well("schema", "up to date");
            true
        }
        Ok(SchemaState::Behind(missing)) => {
            findings.ill("schema", format!("{missing} migrations are missing"), "run `herald migrate`");
            false
        }
        Ok(SchemaState::Different(version)) => {
            let text =
                format!("a development version of Herald created it, with another migration {version}");
            findings.ill("schema", text, "create an empty database and run `herald migrate`");
            false
        }
        Err(_) => {
            findings.ill("schema", "it can't be read", "check the privileges of the database user");
            false
        }
    }
}

async fn examine_apps(settings: &Settings, store: &Store, findings: &mut Findings) {
    match store.has_keys().await {
        Ok(true) => findings.well("API keys", "at least one exists"),
        Ok(false) => findings.ill("API keys", "there are none", "run `herald keys create --source NAME`"),
        Err(_) => findings.ill("API keys", "they can't be read", "check the privileges of the database user"),
    }
    let apps = match store.apps().await {
        Ok(apps) => apps,
        Err(error) => {
            findings.ill("apps", error.to_string(), "set the previous secret key in `previous_secret_keys`");
            return;
        }
    };
    let of_settings = match default_app(settings) {
        Ok(app) => app,
        Err(error) => {
            findings.ill(
                "apps",
                format!("{error:#}"),
                "correct it; OneSignal's dashboard shows both under Keys & IDs",
            );
            None
        }
    };
    if apps.is_empty() && of_settings.is_none() {
        findings.ill("apps", "there are none", "set HERALD_ONESIGNAL__APP_ID and HERALD_ONESIGNAL__API_KEY");
    }
    let timeouts = ClientTimeouts {
        connect: settings.delivery.connect_timeout,
        call: settings.delivery.urgent_call_timeout,
        urgent_call: settings.delivery.urgent_call_timeout,
    };
    let Ok(provider) = OneSignal::new(timeouts) else {
        findings.ill("TLS", "the system's root certificates can't be read", "install ca-certificates");
        return;
    };
    // `herald serve` stores the app from the settings, so their values take precedence.
    let others = apps.iter().filter(|known| of_settings.as_ref().is_none_or(|app| app.id != known.id));
    for app in others.chain(&of_settings) {
        examine_app(&provider, app, findings).await;
    }
    examine_gates(store, findings).await;
}

async fn examine_app(provider: &OneSignal, app: &App, findings: &mut Findings) {
    let check = format!("app {}", app.name);
    let kind = if app.is_sandbox { "sandbox" } else { "OneSignal" };
    match provider.check_app(app).await {
        Ok(()) => {
            let guard = match app.subscriptions {
                _ if app.is_sandbox => String::new(),
                Some(count) => format!("; the volume guard assumes {count} subscriptions"),
                None => "; the volume guard is inactive: the number of subscriptions is not set".to_owned(),
            };
            findings.well(&check, format!("{kind} accepts the key of {}{guard}", app.id));
        }
        Err(ProviderError::Refused { status, detail }) => {
            let remedy = "create a new App API key in OneSignal's dashboard and set it";
            findings.ill(&check, format!("the key was rejected with {status}: {detail}"), remedy);
        }
        Err(error) => findings.ill(&check, error.to_string(), "check `onesignal.base_url` and the network"),
    }
}

async fn examine_gates(store: &Store, findings: &mut Findings) {
    let (Ok(gates), Ok(clock)) = (store.gates().await, PgClock::start(store).await) else { return };
    for gate in gates.iter().filter(|gate| gate.closed_until > clock.now()) {
        let detail = format!("closed until {}: {} ({})", gate.closed_until, gate.detail, gate.code);
        let remedy = if gate.code == PAUSED {
            "resume it with `herald gates open`"
        } else {
            "Herald retries automatically; fix the cause"
        };
        findings.ill(&format!("gate of {} {}", gate.subject.scope(), gate.subject.uuid()), detail, remedy);
    }
}
