//! The catalog compiled for planning: schemas and templates compiled, everything indexed by name.

pub mod rules;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::domain::app::{App, AppId};
use crate::domain::budget::Budget as Work;
use crate::domain::channel::Channel;
use crate::domain::event::{EventTypeName, covers};
use crate::domain::id::TemplateVersionId;
use crate::domain::rule::Rule;
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry, UploadKey};
use crate::domain::stack::on_deep_stack;
use crate::domain::template::TemplateVersion;
use crate::pipeline::compiled::rules::CompiledRule;
use crate::pipeline::ingest::Nearest;
use crate::schemas::Schema;
use crate::store::{Store, StoreError};
use crate::templating::{CompiledContent, compile_content};

/// An event type with its schema compiled.
pub struct CompiledType {
    /// The catalog's entry.
    pub entry: EventTypeEntry,
    /// `None` if the stored schema is invalid: then nothing of this type can be accepted.
    pub schema: Option<Schema>,
}

/// A version with its copy compiled.
#[derive(Debug)]
pub struct CompiledVersion {
    /// The version.
    pub version: TemplateVersion,
    contents: BTreeMap<String, CompiledContent>,
}

impl CompiledVersion {
    /// Compiles what may be a draft: a locale that does not compile is left out.
    pub fn of_draft(version: TemplateVersion, work: &Work) -> Self {
        let contents = compile_content(version.channel, &version.content, &version.partials, work).0;
        Self { version, contents }
    }

    /// Compiles a version's copy. A locale that no longer compiles, although it did when it was published, is left out
    /// and logged.
    pub fn new(version: TemplateVersion) -> Self {
        let work = Work::default();
        let (contents, problems) =
            compile_content(version.channel, &version.content, &version.partials, &work);
        for (locale, problems) in problems {
            tracing::error!(
                template.key = version.template,
                template.version = version.number,
                problems = problems.len(),
                "template {} version {} locale {locale} does not compile",
                version.template,
                version.number
            );
        }
        Self { version, contents }
    }

    /// The compiled copy in `locale`.
    pub fn content(&self, locale: &str) -> Option<&CompiledContent> {
        self.contents.get(locale)
    }
}

/// The catalog at one revision, ready for planning.
pub struct CompiledCatalog {
    /// Its revision.
    pub revision: i64,
    types: HashMap<EventTypeName, CompiledType>,
    rules: HashMap<EventTypeName, Vec<Arc<CompiledRule>>>,
    by_key: BTreeMap<String, Arc<CompiledRule>>,
    numbers: HashMap<(String, i32), TemplateVersionId>,
    archived: HashSet<String>,
    live: HashMap<String, TemplateVersionId>,
    channels: HashMap<String, Channel>,
    versions: HashMap<TemplateVersionId, Arc<CompiledVersion>>,
    apps: HashMap<AppId, Arc<App>>,
    default_app: Option<AppId>,
    uploads: HashMap<UploadKey, String>,
}

impl CompiledCatalog {
    /// Compiles a snapshot; versions that `previous` has compiled are reused.
    pub fn new(snapshot: CatalogSnapshot, previous: Option<&Self>) -> Self {
        let known_rule =
            |rule: &Rule| previous.and_then(|p| p.by_key.get(&rule.key)).filter(|known| *known.rule == *rule);
        let by_key: BTreeMap<String, Arc<CompiledRule>> = snapshot
            .rules
            .into_iter()
            .map(|rule| {
                let known = known_rule(&rule).cloned();
                (
                    rule.key.clone(),
                    known.unwrap_or_else(|| Arc::new(CompiledRule::new(rule, &Work::default()))),
                )
            })
            .collect();
        let rules = sort_rules(&by_key, &snapshot.event_types);
        let numbers = snapshot.versions.iter().map(|v| ((v.template.clone(), v.number), v.id)).collect();
        let archived = snapshot.templates.iter().filter(|t| t.is_archived).map(|t| t.key.clone()).collect();
        let live = snapshot.templates.iter().filter_map(|t| Some((t.key.clone(), t.live?))).collect();
        let channels = snapshot.templates.iter().map(|t| (t.key.clone(), t.channel)).collect();
        let known = |id: &TemplateVersionId| previous.and_then(|p| p.versions.get(id)).cloned();
        let versions = snapshot
            .versions
            .into_iter()
            .map(|v| (v.id, known(&v.id).unwrap_or_else(|| Arc::new(CompiledVersion::new(v)))))
            .collect();
        Self {
            revision: snapshot.revision,
            types: snapshot
                .event_types
                .into_iter()
                .map(|entry| (entry.name.clone(), compile_type(entry)))
                .collect(),
            rules,
            by_key,
            numbers,
            archived,
            live,
            channels,
            versions,
            default_app: snapshot.apps.iter().find(|app| app.is_default).map(|app| app.id),
            apps: snapshot.apps.into_iter().map(|app| (app.id, Arc::new(app))).collect(),
            uploads: snapshot.uploads.into_iter().collect(),
        }
    }

    /// Finds an event type.
    pub fn event_type(&self, name: &EventTypeName) -> Option<&CompiledType> {
        self.types.get(name)
    }

    /// The apps that an event type's rules send through; the default app if it has none.
    pub fn apps_of(&self, name: &EventTypeName) -> Vec<&Arc<App>> {
        let named = self.rules_for(name).iter().map(|rule| rule.rule.definition.app.or(self.default_app));
        let mut ids: Vec<AppId> = named.flatten().collect();
        if ids.is_empty() {
            ids.extend(self.default_app);
        }
        ids.sort_unstable();
        ids.dedup();
        ids.iter().filter_map(|id| self.apps.get(id)).collect()
    }

    /// The known event type whose name is closest to `name`: equal except for case, or except for a few letters.
    pub fn nearest_type(&self, name: &str) -> Nearest {
        if self.types.is_empty() {
            return Nearest::EmptyCatalog;
        }
        let distance = |known: &str| strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase());
        let near = self.types.keys().map(|known| (distance(known.as_str()), known.as_str())).min();
        match near {
            Some((distance, known)) if distance <= 1 + name.len().min(known.len()) / 6 => {
                Nearest::Name(known.to_owned())
            }
            _ => Nearest::None,
        }
    }

    /// The rules for an event type, by key.
    pub fn rules_for(&self, name: &EventTypeName) -> &[Arc<CompiledRule>] {
        self.rules.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether some rule collects many events into one message of this template.
    pub fn is_gathered(&self, template: &str) -> bool {
        let gathers = |rule: &Rule| rule.definition.digest.is_some() && rule.template() == Some(template);
        self.by_key.values().any(|rule| gathers(&rule.rule))
    }

    /// A version by its number, if it is live or a canary names it.
    pub fn version_number(&self, template: &str, number: i32) -> Option<&Arc<CompiledVersion>> {
        self.versions.get(self.numbers.get(&(template.to_owned(), number))?)
    }

    /// Whether a template is archived.
    pub fn is_archived(&self, template: &str) -> bool {
        self.archived.contains(template)
    }

    /// A rule by key, enabled or not.
    pub fn rule(&self, key: &str) -> Option<&Arc<CompiledRule>> {
        self.by_key.get(key)
    }

    /// The live version of a template.
    pub fn live_version(&self, template: &str) -> Option<&Arc<CompiledVersion>> {
        self.versions.get(self.live.get(template)?)
    }

    /// The channel of a template, whether a version is live or not.
    pub fn channel_of(&self, template: &str) -> Option<Channel> {
        self.channels.get(template).copied()
    }

    /// A live version by id.
    pub fn version(&self, id: TemplateVersionId) -> Option<&Arc<CompiledVersion>> {
        self.versions.get(&id)
    }

    /// An app, or the default one.
    pub fn app(&self, id: Option<AppId>) -> Option<&Arc<App>> {
        self.apps.get(&id.or(self.default_app)?)
    }

    /// Every app.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values()
    }

    /// Apps that are paused.
    pub fn paused_apps(&self) -> impl Iterator<Item = AppId> {
        self.apps.values().filter(|app| app.paused.is_some()).map(|app| app.id)
    }

    /// OneSignal's id of an uploaded locale.
    pub fn upload(&self, key: &UploadKey) -> Option<&str> {
        self.uploads.get(key).map(String::as_str)
    }
}

/// Rules by the event types that they match, in the order of their keys; a rule for a family is listed under each known
/// type that it covers.
fn sort_rules(
    rules: &BTreeMap<String, Arc<CompiledRule>>,
    types: &[EventTypeEntry],
) -> HashMap<EventTypeName, Vec<Arc<CompiledRule>>> {
    let mut sorted: HashMap<EventTypeName, Vec<Arc<CompiledRule>>> = HashMap::new();
    for rule in rules.values() {
        let pattern = &rule.rule.event_type;
        if pattern.ends_with('*') {
            for entry in types.iter().filter(|entry| covers(pattern, &entry.name)) {
                sorted.entry(entry.name.clone()).or_default().push(Arc::clone(rule));
            }
        } else if let Ok(name) = pattern.parse() {
            sorted.entry(name).or_default().push(Arc::clone(rule));
        }
    }
    sorted
}

fn compile_type(entry: EventTypeEntry) -> CompiledType {
    let schema = Schema::new(&entry.schema, &Work::default());
    if let Err(error) = &schema {
        tracing::error!(event.r#type = %entry.name, %error, "the schema of {} is invalid", entry.name);
    }
    CompiledType { entry, schema: schema.ok() }
}

/// Versions that are no longer live but that open deliveries are pinned to, with their uploads.
type Pinned = HashMap<TemplateVersionId, (Arc<CompiledVersion>, HashMap<UploadKey, String>)>;

/// The maximum number of pinned versions kept in memory; others are read again.
const PINNED_VERSIONS: usize = 256;

/// The compiled catalog in memory, as of the last check.
#[derive(Default)]
pub struct CatalogCache {
    present: ArcSwapOption<CompiledCatalog>,
    refreshing: tokio::sync::Mutex<()>,
    pinned: Mutex<Pinned>,
}

impl CatalogCache {
    /// The catalog in memory, read from the database if there is none yet.
    ///
    /// # Errors
    /// [`StoreError`] if it has to be read and can't be.
    pub async fn get(&self, store: &Store) -> Result<Arc<CompiledCatalog>, StoreError> {
        match self.present.load_full() {
            Some(present) => Ok(present),
            None => self.at_least(store, 0).await,
        }
    }

    /// The catalog at `revision` or newer.
    ///
    /// # Errors
    /// [`StoreError`] if it has to be read and can't be.
    pub async fn at_least(&self, store: &Store, revision: i64) -> Result<Arc<CompiledCatalog>, StoreError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let present = self.present.load_full();
        if let Some(present) = present.as_ref().filter(|present| present.revision >= revision) {
            return Ok(Arc::clone(present));
        }
        let snapshot = store.snapshot().await?;
        let revision = snapshot.revision;
        // Not on the threads for events: these may be waiting for this very catalog.
        let prepare = move || on_deep_stack(|| CompiledCatalog::new(snapshot, present.as_deref()));
        let prepared = tokio::task::spawn_blocking(prepare).await.ok().flatten();
        let unusable = || StoreError::corrupt("catalog", "revision", revision);
        let fresh = Arc::new(prepared.ok_or_else(unusable)?);
        self.present.store(Some(Arc::clone(&fresh)));
        self.pinned.lock().clear();
        Ok(fresh)
    }

    /// Whether it is being read at present.
    pub(in crate::pipeline) fn is_being_read(&self) -> bool {
        self.refreshing.try_lock().is_err()
    }

    /// Reads the catalog again if its revision has moved.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable.
    pub async fn warm(&self, store: &Store) -> Result<(), StoreError> {
        let revision = store.revision().await?;
        self.at_least(store, revision).await.map(|_| ())
    }

    /// A version, live or pinned, with OneSignal's id of the upload that `key` names.
    ///
    /// # Errors
    /// [`StoreError`] if it has to be read and can't be.
    pub async fn version(
        &self,
        store: &Store,
        id: TemplateVersionId,
    ) -> Result<Option<Arc<CompiledVersion>>, StoreError> {
        if let Some(live) = self.get(store).await?.version(id) {
            return Ok(Some(Arc::clone(live)));
        }
        if let Some((pinned, _)) = self.pinned.lock().get(&id) {
            return Ok(Some(Arc::clone(pinned)));
        }
        let Some(version) = store.find_version(id).await? else { return Ok(None) };
        let prepare = move || on_deep_stack(|| CompiledVersion::new(version));
        let prepared = tokio::task::spawn_blocking(prepare).await.ok().flatten();
        let version = prepared.ok_or_else(|| StoreError::corrupt("template_versions", "content", id))?;
        let version = Arc::new(version);
        let uploads = store.uploads_of(id).await?.into_iter().collect();
        let mut pinned = self.pinned.lock();
        if pinned.len() >= PINNED_VERSIONS {
            pinned.clear();
        }
        pinned.insert(id, (Arc::clone(&version), uploads));
        Ok(Some(version))
    }

    /// OneSignal's id of an upload, if it is known here. Uploads of pinned versions are known after [`Self::version`].
    pub fn upload(&self, key: &UploadKey) -> Option<String> {
        let present = self.present.load_full()?;
        let pinned =
            || self.pinned.lock().get(&key.version).and_then(|(_, uploads)| uploads.get(key).cloned());
        present.upload(key).map(str::to_owned).or_else(pinned)
    }

    /// Forgets what is in memory, so that the next use reads it again.
    pub fn forget(&self) {
        self.present.store(None);
        self.pinned.lock().clear();
    }
}
