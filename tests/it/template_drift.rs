//! The templates in OneSignal: created once however many publish, and checked from then on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use herald::catalog::Applying;
use herald::catalog::{By, Publisher, sample};
use herald::domain::answer::{BatchAnswer, MessageStats, ProviderMessageId, Recall};
use herald::domain::app::{App, AppId};
use herald::domain::batch::Batch;
use herald::domain::channel::Channel;
use herald::domain::clock::{Clock, Timestamp};
use herald::domain::id::IdSource;
use herald::domain::snapshot::UploadKey;
use herald::provider::onesignal::{ClientTimeouts, OneSignal};
use herald::provider::{MessageProvider, ProviderError, RemoteTemplate, TemplatePage, TemplateUpload};
use herald::store::template_uploads::UploadClaim;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::app::{TestApp, Wanted, order_shipped};

const APP: &str = "5a0d0000-0000-4000-8000-000000000001";
const BY: By<'_> = By::unlimited("test", "");
const DAY: Duration = Duration::from_hours(24);
const KEY: &str = "order-shipped-push";

fn quick() -> Wanted {
    Wanted { settings: vec![("HERALD_TEMPLATES__VIEW_INTERVAL", "0s".to_owned())], ..Wanted::default() }
}

async fn replica_of(app: &TestApp) -> TestApp {
    TestApp::start_with(Wanted {
        database: Some(app.database.clone()),
        sandbox_url: Some(app.sandbox_url.clone()),
        without_catalog: true,
        seed: 9,
        ..quick()
    })
    .await
}

/// How many templates of each name there are in OneSignal.
async fn names(app: &TestApp) -> BTreeMap<String, usize> {
    let list = app.sandbox_call(Method::GET, &format!("/templates?app_id={APP}&limit=50"), None).await;
    let mut names = BTreeMap::new();
    for template in list["templates"].as_array().expect("templates") {
        *names.entry(template["name"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    names
}

async fn uploads(app: &TestApp, key: &str) -> Vec<Value> {
    let body = app.get(&format!("/v1/templates/{key}/uploads")).await;
    body["data"].as_array().cloned().expect("uploads")
}

/// OneSignal's id of one locale of the newest version.
async fn provider_id(app: &TestApp, key: &str, locale: &str) -> String {
    let uploads = uploads(app, key).await;
    let upload = uploads.iter().find(|upload| upload["locale"] == locale).expect("an upload");
    upload["provider_template_id"].as_str().expect("an id").to_owned()
}

/// The key of one locale of the live version.
async fn key_of(app: &TestApp, template: &str, locale: &str) -> UploadKey {
    let snapshot = app.herald.store.snapshot().await.expect("it is there");
    let version =
        snapshot.templates.iter().find(|t| t.key == template).and_then(|t| t.live).expect("it is there");
    UploadKey { app: AppId(APP.parse().expect("it is there")), version, locale: locale.to_owned() }
}

async fn drift(app: &TestApp, body: Value) -> Value {
    let (status, report) = app.call(Method::POST, "/v1/catalog/drift", Some(&app.key), Some(&body)).await;
    assert_eq!(status, 200, "{report}");
    report
}

fn at(id: &str) -> String {
    format!("/templates/{id}?app_id={APP}")
}

/// The entries of a report that drifted, as (template, locale, drift, repaired).
fn drifted(report: &Value) -> Vec<(String, String, String, bool)> {
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let all = report["data"].as_array().expect("entries").iter().filter(|entry| !entry["drift"].is_null());
    all.map(|entry| {
        (text(entry, "template"), text(entry, "locale"), text(entry, "drift"), entry["repaired"] == true)
    })
    .collect()
}

/// OneSignal, except that creating the first template takes until the test releases it.
struct Held {
    onesignal: OneSignal,
    asked: Notify,
    go: Notify,
    is_first: AtomicBool,
}

#[async_trait]
impl MessageProvider for Held {
    async fn send(&self, batch: &Batch, now: Timestamp) -> BatchAnswer {
        self.onesignal.send(batch, now).await
    }
    fn request(&self, batch: &Batch, now: Timestamp) -> Value {
        self.onesignal.request(batch, now)
    }
    async fn cancel(&self, app: &App, message: &ProviderMessageId) -> Recall {
        self.onesignal.cancel(app, message).await
    }
    async fn message(
        &self,
        app: &App,
        message: &ProviderMessageId,
    ) -> Result<Option<MessageStats>, ProviderError> {
        self.onesignal.message(app, message).await
    }
    async fn create_template(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError> {
        if self.is_first.swap(false, Ordering::SeqCst) {
            self.asked.notify_one();
            self.go.notified().await;
        }
        self.onesignal.create_template(app, upload).await
    }
    async fn find_template(
        &self,
        app: &App,
        name: &str,
        channel: Channel,
    ) -> Result<Option<String>, ProviderError> {
        self.onesignal.find_template(app, name, channel).await
    }
    async fn list_templates(
        &self,
        app: &App,
        channel: Channel,
        offset: usize,
    ) -> Result<TemplatePage, ProviderError> {
        self.onesignal.list_templates(app, channel, offset).await
    }
    async fn get_template(&self, app: &App, id: &str) -> Result<Option<RemoteTemplate>, ProviderError> {
        self.onesignal.get_template(app, id).await
    }
    async fn update_template(
        &self,
        app: &App,
        id: &str,
        upload: &TemplateUpload,
    ) -> Result<(), ProviderError> {
        self.onesignal.update_template(app, id, upload).await
    }
    async fn delete_template(&self, app: &App, id: &str) -> Result<(), ProviderError> {
        self.onesignal.delete_template(app, id).await
    }
    async fn check_app(&self, app: &App) -> Result<(), ProviderError> {
        self.onesignal.check_app(app).await
    }
}

#[tokio::test]
async fn two_processes_that_publish_the_same_make_each_template_once() {
    let app = TestApp::start_with(Wanted { without_catalog: true, ..quick() }).await;
    let second = Duration::from_secs(5);
    let timeouts = ClientTimeouts { connect: second, call: second, urgent_call: second };
    let held = Arc::new(Held {
        onesignal: OneSignal::new(timeouts).unwrap(),
        asked: Notify::new(),
        go: Notify::new(),
        is_first: AtomicBool::new(true),
    });
    let store = app.herald.store.clone();
    let clock = Arc::clone(&app.clock) as Arc<dyn Clock>;
    let provider = Arc::clone(&held) as Arc<dyn MessageProvider>;
    let other = Publisher::new(
        store.clone(),
        clock,
        Arc::new(IdSource::seeded(9)),
        provider,
        Arc::clone(&app.herald.api.compute),
    );
    let files = sample::files();
    let others =
        tokio::spawn(async move { other.apply(&sample::files(), Applying::default(), BY).await.map(|_| ()) });
    held.asked.notified().await;
    // OneSignal does not have it yet, so a look by name would not help.
    let wanted = store.upload_records(None).await.unwrap().pop().expect("a lease").key;
    let refused = app.herald.publisher.ensure_uploaded(&wanted).await.unwrap_err();
    assert!(refused.to_string().contains("another process"), "{refused}");
    held.go.notify_one();
    app.herald.publisher.apply(&files, Applying::default(), BY).await.unwrap();
    others.await.unwrap().unwrap();
    let names = names(&app).await;
    assert!(names.contains_key("herald/order-shipped-push@1/de"), "{names:?}");
    assert!(names.values().all(|count| *count == 1), "{names:?}");
    assert_eq!(app.stats().await["calls"]["templates.create"], json!({"200": names.len()}));
}

#[tokio::test]
async fn what_a_crashed_process_has_made_is_adopted_by_name_once_its_lease_is_over() {
    let app = TestApp::start_with(quick()).await;
    let key = key_of(&app, KEY, "de").await;
    let store = &app.herald.store;
    let id = provider_id(&app, KEY, "de").await;
    // As if the process had died between OneSignal's answer and its own note of it.
    store.lose_upload(&key, &id).await.unwrap();
    let now = app.clock.now();
    let until = now + TimeDelta::minutes(3);
    assert_eq!(store.claim_upload(&key, until, now).await.unwrap(), UploadClaim::Ours { is_new: false });
    let publisher = &app.herald.publisher;
    assert!(publisher.ensure_uploaded(&key).await.unwrap_err().to_string().contains("another process"));
    app.advance(Duration::from_mins(3)).await;
    publisher.ensure_uploaded(&key).await.unwrap();
    assert_eq!(provider_id(&app, KEY, "de").await, id);
    assert_eq!(names(&app).await["herald/order-shipped-push@1/de"], 1);
    assert!(!store.confirm_upload(&key, ("late", b"x"), until, now).await.unwrap(), "the lease was lost");
}

#[tokio::test]
async fn a_refused_upload_gives_its_lease_back() {
    let app = TestApp::start_with(Wanted { without_catalog: true, ..quick() }).await;
    app.fault(json!({"endpoint": "templates", "kind": "status", "status": 403})).await;
    app.herald.publisher.apply(&sample::files(), Applying::default(), BY).await.unwrap_err();
    app.clear_faults().await;
    app.herald.publisher.apply(&sample::files(), Applying::default(), BY).await.unwrap();
    assert!(names(&app).await.values().all(|count| *count == 1));
}

#[tokio::test]
async fn what_was_edited_in_onesignal_is_shown_and_written_again_only_when_asked() {
    let app = TestApp::start_with(quick()).await;
    let id = provider_id(&app, KEY, "de").await;
    let before = app.sandbox_call(Method::GET, &at(&id), None).await;
    app.sandbox_call(Method::PATCH, &at(&id), Some(json!({"contents": {"en": "Something else"}}))).await;
    app.advance(Duration::from_mins(1)).await;
    let wanted = vec![(KEY.to_owned(), "de".to_owned(), "edited".to_owned(), false)];
    let report = drift(&app, json!({})).await;
    assert_eq!((drifted(&report), &report["unchecked"]), (wanted, &json!(0)));
    let shown = uploads(&app, KEY).await;
    let shown = shown.iter().find(|upload| upload["locale"] == "de").unwrap();
    assert_eq!((&shown["drift"], &shown["checked_at"]), (&json!("edited"), &json!("2026-11-24T10:01:00Z")));
    let text = app.sandbox_call(Method::GET, &at(&id), None).await["content"]["contents"]["en"].clone();
    assert_eq!(text, "Something else", "nobody asked");

    app.advance(Duration::from_mins(1)).await;
    let wanted = vec![(KEY.to_owned(), "de".to_owned(), "edited".to_owned(), true)];
    assert_eq!(drifted(&drift(&app, json!({"repair": true})).await), wanted);
    let after = app.sandbox_call(Method::GET, &at(&id), None).await;
    assert_eq!(after["content"], before["content"]);
    app.advance(Duration::from_mins(1)).await;
    assert_eq!(drifted(&drift(&app, json!({})).await), []);
    let audit = app.get("/v1/audit?kind=template").await;
    assert!(audit.to_string().contains("uploaded_again"), "{audit}");
}

#[tokio::test]
async fn another_language_in_onesignal_is_drift_too() {
    let app = TestApp::start_with(quick()).await;
    let id = provider_id(&app, "payment-failed-sms", "en").await;
    let mut contents = app.sandbox_call(Method::GET, &at(&id), None).await["content"]["contents"].clone();
    contents["fr"] = json!("Autre chose");
    app.sandbox_call(Method::PATCH, &at(&id), Some(json!({ "contents": contents }))).await;
    app.advance(Duration::from_mins(1)).await;
    let wanted = vec![("payment-failed-sms".to_owned(), "en".to_owned(), "edited".to_owned(), false)];
    assert_eq!(drifted(&drift(&app, json!({})).await), wanted);
}

#[tokio::test]
async fn what_was_deleted_in_onesignal_is_uploaded_again_and_used() {
    let app = TestApp::start_with(quick()).await;
    let id = provider_id(&app, KEY, "en").await;
    app.sandbox_call(Method::DELETE, &at(&id), None).await;
    app.advance(DAY).await;
    assert_eq!(app.herald.check_templates().await.unwrap(), 1);
    let new = provider_id(&app, KEY, "en").await;
    assert_ne!(new, id);
    app.accept(&order_shipped("o-1", "user-1")).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let push = messages.iter().find(|message| message["channel"] == "push").expect("a push");
    assert_eq!(push["template_id"], json!(new));
    let missed = app.stats().await["calls"]["notifications.create"].clone();
    assert!(missed.as_object().is_none_or(|by_status| !by_status.contains_key("404")), "{missed}");
}

#[tokio::test]
async fn one_process_a_day_looks_after_an_app() {
    let one = TestApp::start_with(quick()).await;
    let two = replica_of(&one).await;
    two.clock.advance(Duration::from_mins(1));
    assert_eq!(one.herald.check_templates().await.unwrap(), 1);
    assert_eq!(two.herald.check_templates().await.unwrap(), 0);
    two.clock.advance(DAY);
    assert_eq!(two.herald.check_templates().await.unwrap(), 1);
}

#[tokio::test]
async fn a_version_that_nothing_needs_is_deleted_in_onesignal_after_a_week_and_uploaded_again_when_it_is() {
    let app = TestApp::start_with(quick()).await;
    let old = "herald/order-shipped-push@1/en";
    app.apply(&[
        ("templates/order-shipped-push/template.toml", "channel = \"push\"\n"),
        ("templates/order-shipped-push/push.en.liquid", "Order {{ data.order_id }} is on its way\n"),
    ])
    .await;
    for _ in 0..8 {
        app.advance(DAY).await;
        app.herald.check_templates().await.unwrap();
    }
    let left = names(&app).await;
    assert!(!left.contains_key(old), "{left:?}");
    assert!(left.contains_key("herald/order-shipped-push@2/en"), "{left:?}");
    assert!(left.contains_key("herald/order-shipped-email@1/de"), "what is live stays: {left:?}");
    assert!(uploads(&app, KEY).await.iter().all(|upload| upload["version"] == 2));

    let (status, body) = app
        .call(
            Method::POST,
            "/v1/templates/order-shipped-push/rollback",
            Some(&app.key),
            Some(&json!({"version": 1})),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    app.accept(&order_shipped("o-1", "user-1")).await;
    app.run_until_idle().await;
    let delivered = app.messages().await.iter().filter(|message| message["channel"] == "push").count();
    assert_eq!(delivered, 1);
}

#[tokio::test]
async fn a_version_that_an_open_delivery_is_pinned_to_stays_in_onesignal() {
    let app = TestApp::start_with(quick()).await;
    let mut event = order_shipped("o-1", "user-1");
    event["send_after"] = json!("2026-12-20T10:00:00Z");
    event["expires_at"] = json!("2026-12-24T10:00:00Z");
    app.accept(&event).await;
    app.apply(&[
        ("templates/order-shipped-push/template.toml", "channel = \"push\"\n"),
        ("templates/order-shipped-push/push.en.liquid", "Order {{ data.order_id }} is on its way\n"),
    ])
    .await;
    for _ in 0..9 {
        app.advance(DAY).await;
        app.herald.check_templates().await.unwrap();
    }
    assert!(names(&app).await.contains_key("herald/order-shipped-push@1/en"));
    app.advance(20 * DAY).await;
    app.run_until_idle().await;
    for _ in 0..9 {
        app.advance(DAY).await;
        app.herald.check_templates().await.unwrap();
    }
    assert!(!names(&app).await.contains_key("herald/order-shipped-push@1/en"));
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_and_everything_is_looked_at() {
    let app = TestApp::start_with(quick()).await;
    let limit =
        json!({"endpoint": "templates", "kind": "status", "status": 429, "probability": 1.0, "times": 2});
    app.fault(limit.clone()).await;
    app.advance(Duration::from_secs(1)).await;
    let report = drift(&app, json!({"repair": true})).await;
    let uploads: i64 = app.sql("SELECT count(*) FROM template_uploads").await;
    let looked = report["data"].as_array().map(Vec::len);
    assert_eq!((looked, &report["unchecked"]), (usize::try_from(uploads).ok(), &json!(0)));
    app.fault(limit).await;
    let wanted = json!({"app": "default", "cursor": null});
    let (status, page) = app.call(Method::POST, "/v1/catalog/import", Some(&app.key), Some(&wanted)).await;
    assert_eq!((status, &page["next_cursor"]), (200, &Value::Null), "{page}");
}
