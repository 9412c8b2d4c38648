//! Templates that were written in OneSignal, brought into the catalog's files; and drift as the command reports it.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted};
use crate::support::processes::{run, scratch};

const APP: &str = "5a0d0000-0000-4000-8000-000000000001";

async fn quick() -> TestApp {
    let settings = vec![("HERALD_TEMPLATES__VIEW_INTERVAL", "0s".to_owned())];
    TestApp::start_with(Wanted { settings, ..Wanted::default() }).await
}

/// Writes a template in OneSignal, as someone at its dashboard would.
async fn write(app: &TestApp, mut template: Value) -> String {
    template["app_id"] = json!(APP);
    let made = app.sandbox_call(Method::POST, "/templates", Some(template)).await;
    made["id"].as_str().expect("an id").to_owned()
}

async fn import(app: &TestApp, body: Value) -> (u16, Value) {
    app.call(Method::POST, "/v1/catalog/import", Some(&app.key), Some(&body)).await
}

/// Runs a command against the app.
async fn herald(app: &TestApp, args: &[&str]) -> Output {
    run(args, &[("HERALD_URL", app.url.as_str()), ("HERALD_KEY", app.key.as_str())]).await
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn templates_of_onesignal_become_files_that_can_be_applied_as_they_are() {
    let app = quick().await;
    let parcel = "{% assign me = message.custom_data.users[subscription.external_id] %}Hi {{ me.name }}";
    write(
        &app,
        json!({"name": "Parcel", "contents": {"en": parcel, "de": "Hallo {{ message.custom_data.name }}"}}),
    )
    .await;
    let body = "<p>Hi {{ message.custom_data.name }}</p>";
    write(&app, json!({"name": "Welcome mail", "isEmail": true, "email_subject": "Hi", "email_body": body}))
        .await;
    let (status, answer) = import(&app, json!({"app": "default"})).await;
    assert_eq!(
        (status, &answer["next_cursor"], &answer["notes"]),
        (200, &Value::Null, &json!([])),
        "{answer}"
    );
    let files: BTreeMap<String, String> = serde_json::from_value(answer["files"].clone()).unwrap();
    let folders: Vec<&str> = files.keys().filter_map(|path| path.strip_suffix("/template.toml")).collect();
    assert_eq!(folders, ["templates/parcel", "templates/welcome-mail"], "Herald's own stay out");
    assert_eq!(files["templates/parcel/push.en.liquid"], "Hi {{ data.name }}\n");
    assert_eq!(files["templates/parcel/push.de.liquid"], "Hallo {{ data.name }}\n");
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    app.apply(&files).await;
}

#[tokio::test]
async fn an_import_that_takes_longer_than_a_request_goes_on_where_it_stopped() {
    let settings = vec![("HERALD_TEMPLATES__VIEW_INTERVAL", "0s".to_owned())];
    let app = TestApp::start_with(Wanted { settings, without_catalog: true, ..Wanted::default() }).await;
    for name in ["Same", "same!", "SAME"] {
        write(&app, json!({"name": name, "isSMS": true, "contents": {"en": name}})).await;
    }
    let onesignal = app.herald.publisher.find_app("default").await.unwrap().unwrap();
    let mut wanted = herald::catalog::import::Wanted {
        channel: None,
        prefix: String::new(),
        taken: [].into(),
        from: None,
        max: 2,
    };
    let mut texts = Vec::new();
    for _ in 0..20 {
        let page = app.herald.publisher.import(&onesignal, &wanted).await.unwrap();
        texts.extend(page.files.into_iter().filter(|(path, _)| path.ends_with(".liquid")));
        wanted = herald::catalog::import::Wanted { from: page.next, taken: page.taken, ..wanted };
        if page.next.is_none() {
            break;
        }
    }
    let mut paths: Vec<&str> = texts.iter().map(|(path, _)| path.as_str()).collect();
    paths.sort_unstable();
    let wanted =
        ["templates/same-2/sms.en.liquid", "templates/same-3/sms.en.liquid", "templates/same/sms.en.liquid"];
    assert_eq!(paths, wanted);
}

#[tokio::test]
async fn an_import_requires_permission_to_change_the_catalog() {
    let app = quick().await;
    let key = app.key_with(vec![Scope::CatalogRead]).await;
    let body = json!({"app": "default"});
    for path in ["/v1/catalog/import", "/v1/catalog/drift"] {
        assert_eq!(app.call(Method::POST, path, Some(&key), Some(&body)).await.0, 403, "{path}");
    }
    let (status, uploads) =
        app.call(Method::GET, "/v1/templates/order-shipped-push/uploads", Some(&key), None).await;
    assert_eq!((status, uploads["data"].as_array().map(Vec::len)), (200, Some(2)), "{uploads}");
    assert_eq!(app.call(Method::GET, "/v1/templates/nothing/uploads", Some(&key), None).await.0, 404);
    assert_eq!(import(&app, json!({"app": "nobody"})).await.0, 404);
    assert_eq!(import(&app, json!({"app": "default", "cursor": "x"})).await.0, 400);
}

#[tokio::test]
async fn the_command_writes_the_files_reports_what_is_left_and_never_overwrites_any() {
    let app = quick().await;
    write(&app, json!({"name": "Promo one", "contents": {"en": "Hi\n{{ message.custom_data }}"}})).await;
    write(&app, json!({"name": "Other", "contents": {"en": "Hi"}})).await;
    let dir = scratch("import");
    let place = dir.to_string_lossy().into_owned();
    let args =
        ["catalog", "import-onesignal", "--app", "default", "--channel", "push", "--prefix", "Promo", &place];
    let done = herald(&app, &args).await;
    assert!(done.status.success(), "{}", out(&done));
    assert!(out(&done).contains("push.en.liquid contents, line 2"), "{}", out(&done));
    let file = dir.join("templates/promo-one/push.en.liquid");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "Hi\n{{ message.custom_data }}\n");
    assert!(!dir.join("templates/other").exists());

    std::fs::write(&file, "mine").unwrap();
    let again = herald(&app, &args).await;
    assert!(!again.status.success() && out(&again).contains("--force"), "{}", out(&again));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let forced = herald(&app, &[&args[..], &["--force"]].concat()).await;
    assert!(forced.status.success(), "{}", out(&forced));
    assert_ne!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn the_command_ends_with_2_when_onesignal_says_something_else() {
    let app = quick().await;
    app.advance(Duration::from_mins(1)).await;
    let same = herald(&app, &["catalog", "drift"]).await;
    assert_eq!(same.status.code(), Some(0), "{}", out(&same));
    let uploads = app.get("/v1/templates/payment-failed-sms/uploads").await;
    let id = uploads["data"][0]["provider_template_id"].as_str().expect("an id").to_owned();
    let path = format!("/templates/{id}?app_id={APP}");
    app.sandbox_call(Method::PATCH, &path, Some(json!({"contents": {"en": "Else"}}))).await;
    app.advance(Duration::from_mins(1)).await;
    let other = herald(&app, &["catalog", "drift", "--json"]).await;
    assert_eq!(other.status.code(), Some(2), "{}", out(&other));
    let report: Value = serde_json::from_slice(&other.stdout).unwrap();
    let drifted: Vec<&Value> =
        report["data"].as_array().unwrap().iter().filter(|looked| looked["drift"] == "edited").collect();
    assert_eq!((drifted.len(), &drifted[0]["template"]), (1, &json!("payment-failed-sms")), "{report}");
    app.advance(Duration::from_mins(1)).await;
    let repaired = herald(&app, &["catalog", "drift", "--repair"]).await;
    assert!(
        out(&repaired).contains("payment-failed-sms@1/en in app default; uploaded again"),
        "{}",
        out(&repaired)
    );
    app.advance(Duration::from_mins(1)).await;
    assert_eq!(herald(&app, &["catalog", "drift"]).await.status.code(), Some(0));
}
