//! Building all components of a process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::limits::pipeline_limits;
use super::log_in;
use super::uploads::Uploads;
use crate::access::{Access, KeyRequest, Scope, Team, check_key_text};
use crate::api::{Api, AppPolicy, ConnectorEvents, Denials, Rejections, SharedReadiness};
use crate::archive::secrets::StreamSecrets;
use crate::archive::{Archive, ArchiveLimits};
use crate::catalog::Publisher;
use crate::compute::{Compute, ComputeOptions};
use crate::config::{EventStreamSettings, Settings};
use crate::console::{self, Console};
use crate::domain::app::{App, AppId};
use crate::domain::clock::Clock;
use crate::domain::id::IdSource;
use crate::people::connector::Connectors;
use crate::people::erasure::record::ErasureRecord;
use crate::people::erasure::{self, Deliveries};
use crate::people::{People, PeopleLimits};
use crate::pipeline::{Parts, Pipeline};
use crate::provider::onesignal::{ClientTimeouts, OneSignal};
use crate::provider::{MessageProvider, PeopleProvider};
use crate::store::clock::PgClock;
use crate::store::erased_history::Names;
use crate::store::schema::SchemaState;
use crate::store::{DatabaseTls, Store, StoreError, StoreOptions, User};
use crate::telemetry::Sampled;
use crate::vault::Vault;

/// All components of a process.
pub struct Herald {
    /// The settings it was built from.
    pub settings: Settings,
    /// The database.
    pub store: Store,
    /// Postgres' clock; `None` in tests, which have their own.
    pub(super) pg_clock: Option<Arc<PgClock>>,
    /// Events and deliveries.
    pub pipeline: Arc<Pipeline>,
    /// Users and custom events.
    pub people: Arc<People>,
    /// Keys.
    pub access: Arc<Access>,
    /// The catalog.
    pub publisher: Arc<Publisher>,
    /// The people.
    pub team: Arc<Team>,
    /// The JSON edge.
    pub api: Arc<Api>,
    /// The pages.
    pub console: Arc<Console>,
}

/// Test doubles.
#[derive(Default)]
pub struct Overrides {
    /// A clock that the test moves.
    pub clock: Option<Arc<dyn Clock>>,
    /// Ids from a seed.
    pub ids: Option<Arc<IdSource>>,
    /// A provider other than OneSignal.
    pub provider: Option<Arc<dyn MessageProvider>>,
    /// A provider of users and custom events other than OneSignal.
    pub people_provider: Option<Arc<dyn PeopleProvider>>,
    /// The metrics recorder.
    pub metrics: Option<PrometheusHandle>,
    /// Whether local users are logged in automatically.
    pub lets_local_in: bool,
}

/// Opens the configured database. Makes no connection yet.
///
/// # Errors
/// A one-line message about what is missing or invalid and how to set it.
pub fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    let Some(url) = Settings::given(&settings.database_url) else {
        bail!(
            "no database: set `database_url` in herald.toml or HERALD_DATABASE_URL (`herald dev` starts its own)"
        );
    };
    let Some(secret) = Settings::given(&settings.secret_key) else {
        bail!(
            "no secret key: set HERALD_SECRET_KEY or HERALD_SECRET_KEY_FILE; generate one with `openssl rand -base64 48`"
        );
    };
    let earlier: Vec<SecretString> = Settings::given(&settings.previous_secret_keys)
        .map(|keys| keys.expose_secret().split(',').map(|key| SecretString::from(key.trim())).collect())
        .unwrap_or_default();
    let vault = Arc::new(Vault::new(secret, &earlier)?);
    let options = StoreOptions {
        ingest_statement_timeout: settings.ingest.statement_timeout,
        ingest_lock_timeout: settings.ingest.lock_timeout,
        // One more for urgent events.
        committers: u32::try_from(settings.ingest.committers.max(1) + 1).unwrap_or(u32::MAX),
        ..StoreOptions::default()
    };
    Store::new(url, vault, options).map_err(|error| {
        let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        let reason = reason.trim_start_matches("error with configuration: ");
        anyhow::anyhow!("`database_url` is not a valid Postgres address: {reason}")
    })
}

impl Herald {
    /// Builds everything after checking the preconditions. Nothing runs yet.
    ///
    /// # Errors
    /// A one-line message about what prevents this process from serving and how to fix it.
    pub async fn build(settings: Settings, overrides: Overrides) -> anyhow::Result<Self> {
        super::choose_tls();
        let store = open_store(&settings)?;
        check_database(&store, &settings).await?;
        if let Some(record) = record_of(&settings) {
            erasure::record::apply(&store, &record).await?;
        }
        let (clock, pg_clock) = choose_clock(overrides.clock, &store).await?;
        let ids = overrides.ids.unwrap_or_else(|| Arc::new(IdSource::random()));
        let onesignal = Arc::new(OneSignal::new(timeouts(&settings)).context("TLS is unavailable")?);
        let people_provider = overrides.people_provider.unwrap_or_else(|| Arc::clone(&onesignal) as _);
        let provider = overrides.provider.unwrap_or(onesignal);
        store.ensure_partitions(clock.now()).await?;
        let compute = start_compute()?;
        let publisher = publisher(&store, (&clock, &ids, &provider, &compute));
        let publisher = Arc::new(publisher.with_look_gap(settings.templates.view_interval));
        let access = Arc::new(Access::new(store.of(User::Access), Arc::clone(&clock), Arc::clone(&ids)));
        enter_default_app(&store, &settings, clock.as_ref()).await?;
        enter_dev_key(&access, &store, &settings).await?;
        let pipeline = Pipeline::new(Parts {
            store: store.clone(),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            provider,
            compute: Arc::clone(&compute),
            uploads: Arc::new(Uploads(Arc::clone(&publisher))),
            limits: pipeline_limits(&settings),
            namespace: store.namespace().await?,
        });
        let people = people(&pipeline, (&clock, &ids), people_provider, &settings);
        let team = team(&store, (&clock, &ids), &settings);
        let api = Arc::new(Api {
            store: store.of(User::Api),
            health: store.of(User::Health),
            pipeline: Arc::clone(&pipeline),
            people: Arc::clone(&people),
            connectors: connectors(&pipeline, &people),
            archive: archive(&store, (&clock, &ids), &settings),
            stream_secrets: stream_secrets(&settings)?,
            access: Arc::clone(&access),
            publisher: Arc::clone(&publisher),
            compute,
            clock,
            ids,
            denials: Denials::default(),
            unavailable: Sampled::new(),
            rejections: Rejections::default(),
            readiness: SharedReadiness::default(),
            app_policy: app_policy(&settings)?,
            request_timeout: settings.http.request_timeout,
            metrics: overrides.metrics,
            metrics_need_key: !settings.listen.ip().is_loopback() || !settings.console.public_url.is_empty(),
            max_bytes: (settings.ingest.max_event_bytes, settings.ingest.max_batch_bytes),
            is_ready: AtomicBool::new(true),
        });
        let console = Arc::new(console(&api, &team, &settings, overrides.lets_local_in)?);
        Ok(Self { settings, store, pg_clock, pipeline, people, access, publisher, team, api, console })
    }
}

/// The clock of a test, or Postgres' own.
async fn choose_clock(
    given: Option<Arc<dyn Clock>>,
    store: &Store,
) -> anyhow::Result<(Arc<dyn Clock>, Option<Arc<PgClock>>)> {
    if let Some(clock) = given {
        return Ok((clock, None));
    }
    let clock = Arc::new(PgClock::start(store).await?);
    Ok((Arc::clone(&clock) as Arc<dyn Clock>, Some(clock)))
}

fn start_compute() -> anyhow::Result<Arc<Compute>> {
    Ok(Arc::new(Compute::start(ComputeOptions::default()).context("threads could not be started")?))
}

/// Dependencies of a publisher.
type Shared<'a> = (&'a Arc<dyn Clock>, &'a Arc<IdSource>, &'a Arc<dyn MessageProvider>, &'a Arc<Compute>);

fn publisher(store: &Store, (clock, ids, provider, compute): Shared<'_>) -> Publisher {
    let (clock, ids, provider) = (Arc::clone(clock), Arc::clone(ids), Arc::clone(provider));
    Publisher::new(store.of(User::Api), clock, ids, provider, Arc::clone(compute))
}

/// The pipeline, as people's use cases see it.
struct Sender(Arc<Pipeline>);

#[async_trait]
impl Deliveries for Sender {
    fn wake(&self) {
        self.0.wake();
    }

    async fn end_for_erased(&self, names: &Names) -> Result<(usize, usize), StoreError> {
        let ended = self.0.end_for_erased(names).await?;
        Ok((ended.ended, ended.recalled))
    }
}

/// The record of erasures that is configured.
fn record_of(settings: &Settings) -> Option<ErasureRecord> {
    let path = &settings.people.erasure_record;
    (!path.is_empty()).then(|| ErasureRecord::new(Path::new(path)))
}

fn people(
    pipeline: &Arc<Pipeline>,
    (clock, ids): (&Arc<dyn Clock>, &Arc<IdSource>),
    provider: Arc<dyn PeopleProvider>,
    settings: &Settings,
) -> Arc<People> {
    let limits = PeopleLimits {
        user_calls_per_second: settings.people.user_calls_per_second.max(1),
        event_calls_per_second: settings.people.event_calls_per_second.max(1),
        calls_in_flight: settings.people.calls_in_flight.max(1),
        import_days: settings.retention.payload_days,
        call_timeout: settings.delivery.call_timeout,
        ..PeopleLimits::default()
    };
    let store = pipeline.store.of(User::People);
    let deliveries = Arc::new(Sender(Arc::clone(pipeline)));
    let people = People::new(
        store,
        Arc::clone(clock),
        Arc::clone(ids),
        provider,
        limits,
        deliveries,
        record_of(settings),
    );
    // Weak: people hold the pipeline.
    let woken = Arc::downgrade(&people);
    pipeline.set_on_people(move || {
        if let Some(people) = woken.upgrade() {
            people.wake();
        }
    });
    people
}

fn connectors(pipeline: &Arc<Pipeline>, people: &Arc<People>) -> Arc<Connectors> {
    let store = pipeline.store.of(User::People);
    let events = ConnectorEvents { pipeline: Arc::clone(pipeline), store };
    Connectors::new(Arc::clone(people), Arc::new(events))
}

fn team(store: &Store, (clock, ids): (&Arc<dyn Clock>, &Arc<IdSource>), settings: &Settings) -> Arc<Team> {
    let options = log_in::team_options(settings);
    Arc::new(Team::new(store.of(User::Access), Arc::clone(clock), Arc::clone(ids), options))
}

fn archive(
    store: &Store,
    (clock, ids): (&Arc<dyn Clock>, &Arc<IdSource>),
    settings: &Settings,
) -> Arc<Archive> {
    let limits = ArchiveLimits {
        foreign_after: crate::domain::retry::delta(settings.event_streams.foreign_after),
        feed_kept: chrono::TimeDelta::days(i64::from(settings.retention.payload_days)),
        ..ArchiveLimits::default()
    };
    Archive::new(store.of(User::Archive), Arc::clone(clock), Arc::clone(ids), limits)
}

fn stream_secrets(settings: &Settings) -> anyhow::Result<StreamSecrets> {
    let EventStreamSettings { secret, previous_secret, .. } = &settings.event_streams;
    StreamSecrets::new(&[secret, previous_secret]).context("event_streams")
}

fn timeouts(settings: &Settings) -> ClientTimeouts {
    let delivery = &settings.delivery;
    ClientTimeouts {
        connect: delivery.connect_timeout,
        call: delivery.call_timeout,
        urgent_call: delivery.urgent_call_timeout,
    }
}

fn console(api: &Api, team: &Arc<Team>, settings: &Settings, lets_local_in: bool) -> anyhow::Result<Console> {
    let public_url = log_in::public_url(settings)?;
    Ok(Console {
        store: api.store.of(User::Pages),
        pipeline: Arc::clone(&api.pipeline),
        people: Arc::clone(&api.people),
        connectors: Arc::clone(&api.connectors),
        publisher: Arc::clone(&api.publisher),
        compute: Arc::clone(&api.compute),
        access: Arc::clone(&api.access),
        team: Arc::clone(team),
        clock: Arc::clone(&api.clock),
        ids: Arc::clone(&api.ids),
        environment: environment(settings),
        provider: log_in::provider(settings, public_url.as_ref())?,
        public_url,
        lets_local_in,
        proxies: log_in::proxies(settings)?,
        require_second_factor: settings.console.require_second_factor,
        denials: console::Denials::default(),
        request_timeout: settings.http.request_timeout,
    })
}

/// The base URLs that apps may have, and whether live ones may be created.
fn app_policy(settings: &Settings) -> anyhow::Result<AppPolicy> {
    let listed = settings.onesignal.allowed_base_urls.split(',').map(str::trim).filter(|url| !url.is_empty());
    let mut base_urls = listed
        .map(|url| url.parse().with_context(|| format!("onesignal.allowed_base_urls: `{url}` is not a URL")))
        .collect::<anyhow::Result<Vec<Url>>>()?;
    base_urls.push(settings.onesignal.base_url.clone());
    Ok(AppPolicy { base_urls, sandboxes_only: Settings::given(&settings.dev_key).is_some() })
}

/// The installation's name in the console's header.
fn environment(settings: &Settings) -> String {
    match settings.console.environment.trim() {
        "" if App::is_sandbox_key(&settings.onesignal.api_key) => "sandbox".to_owned(),
        "" => "live".to_owned(),
        name => name.to_owned(),
    }
}

/// Rejects a database with an outdated schema, or one that can lose commits.
async fn check_database(store: &Store, settings: &Settings) -> anyhow::Result<()> {
    match store.schema_state().await.context("the database is unreachable; check `database_url`")? {
        SchemaState::Current => {}
        SchemaState::Behind(missing) => bail!("{missing} migrations are missing: run `herald migrate`"),
        SchemaState::Different(version) => bail!(
            "{}: create an empty database, name it in `database_url`, and run `herald migrate`",
            StoreError::OtherMigrations { version }
        ),
    }
    if store.tls() == DatabaseTls::Unverified {
        tracing::warn!(
            "the connection to the database is not verified: remove `sslmode` from `database_url`, or write `sslmode=verify-full`"
        );
    }
    if !settings.allow_unsafe_postgres {
        store.check_durability().await?;
    }
    Ok(())
}

/// Stores the app from the settings, if there is one.
async fn enter_default_app(store: &Store, settings: &Settings, clock: &dyn Clock) -> anyhow::Result<()> {
    if let Some(app) = default_app(settings)? {
        store.upsert_app(&app, clock.now()).await?;
    }
    Ok(())
}

/// The app from the settings, if there is one.
///
/// # Errors
/// A one-line message about which of its settings is missing or invalid.
pub fn default_app(settings: &Settings) -> anyhow::Result<Option<App>> {
    let onesignal = &settings.onesignal;
    if onesignal.app_id.is_empty() {
        return Ok(None);
    }
    let id = onesignal.app_id.parse().context("onesignal.app_id is not a UUID")?;
    if onesignal.api_key.expose_secret().is_empty() {
        bail!("onesignal.app_id is set but onesignal.api_key is not: set HERALD_ONESIGNAL__API_KEY");
    }
    Ok(Some(App {
        id: AppId(id),
        name: "default".to_owned(),
        base_url: onesignal.base_url.clone(),
        api_key: onesignal.api_key.clone(),
        is_sandbox: App::is_sandbox_key(&onesignal.api_key),
        is_default: true,
        calls_per_second: onesignal.calls_per_second.max(1),
        subscriptions: Some(onesignal.subscriptions).filter(|count| *count > 0),
        paused: None,
        // An existing app keeps its other values.
        alias_labels: Some(Vec::new()),
    }))
}

/// Registers the development key. For a sandbox only: a key in an environment variable is not secret.
async fn enter_dev_key(access: &Access, store: &Store, settings: &Settings) -> anyhow::Result<()> {
    let Some(key) = Settings::given(&settings.dev_key) else { return Ok(()) };
    let is_test = check_key_text(key.expose_secret()).context("invalid dev_key")?;
    if !App::is_sandbox_key(&settings.onesignal.api_key) {
        bail!(
            "dev_key is set, but the default app is not a sandbox: remove it, and use `herald keys create`"
        );
    }
    if store.has_live_app().await? {
        bail!("dev_key is set, but the database has a live app: remove it, and use `herald keys create`");
    }
    let request = KeyRequest::new("development", is_test, Scope::ALL.to_vec());
    access.store_key(&request, key.clone()).await?;
    Ok(())
}
