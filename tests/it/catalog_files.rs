//! The catalog as files: what was pulled changes nothing when applied, here or elsewhere.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::app::{TestApp, Wanted, payment_failed};
use crate::support::processes::{run, scratch};

async fn apply(app: &TestApp, request: Value) -> (u16, Value) {
    app.call(Method::POST, "/v1/catalog/apply", Some(&app.key), Some(&request)).await
}

async fn pull(app: &TestApp) -> Value {
    app.get("/v1/catalog").await["files"].clone()
}

async fn empty() -> TestApp {
    TestApp::start_with(Wanted { without_catalog: true, ..Wanted::default() }).await
}

/// Everything that a catalog can hold, beside the sample.
fn rich() -> Value {
    json!({
        "events/payment.made/schema.json": "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}, \"due\": {\"type\": \"string\"}, \"secret\": {\"type\": \"string\"}}}",
        "events/payment.made/event.toml": "description = \"It's \\\"paid\\\"\"\nowner = \"billing\"\nsensitive = [\"/secret\"]\ntime_to_live = \"1h 30m\"\n",
        "events/payment.made/samples/a.json": "{\"city\": \"Köln\"}",
        "partials/footer.liquid": "+++\ndescription = \"Below everything\"\n+++\nYour shop\n",
        "partials/frame.liquid": "<html><body>{{ content }}</body></html>",
        "templates/paid-email/template.toml": "channel = \"email\"\nlayout = \"frame\"\nowner = \"billing\"\nevent = \"payment.made\"\ndefault_locale = \"de\"\n[options]\nname = \"Paid\"\n",
        "templates/paid-email/email.de.liquid": "+++\nsubject = \"Danke \\\"sehr\\\"\"\npreheader = \"a\\\\b\"\n+++\n<p>Danke</p>\n{% include 'footer' %}\n",
        "templates/paid-email/email.en.liquid": "+++\nsubject = \"Thanks\"\n+++\n<p>Thanks</p>\n",
        "rules/paid.toml": "event = \"payment.*\"\ntemplate = \"paid-email\"\nwhen = \"event.type == 'payment.made'\"\ndelay = \"90s\"\nzone = \"Europe/Berlin\"\nrecipient_zone = true\nexpires_in = \"2days\"\n[window]\nfrom = \"09:00\"\nuntil = \"17:30\"\ndays = [\"mon\", \"fri\"]\n[throttle]\nmax = 2\nwithin = \"1h\"\n",
        "rules/paid-filters.toml": "event = \"payment.made\"\ntemplate = \"paid-email\"\npriority = \"bulk\"\nenabled = false\n[[filters]]\nfield = \"tag\"\nkey = \"city\"\nrelation = \"=\"\nvalue_from = \"data.city\"\n",
        "rules/paid-tag.toml": "event = \"payment.made\"\n[tag]\ncity = \"data.city\"\n",
        "rules/paid-track.toml": "event = \"payment.made\"\n[track]\nname = \"paid\"\n[track.properties]\ncity = \"data.city\"\n",
        "rules/paid-cancel.toml": "event = \"payment.made\"\ncancel = \"event.id\"\n",
        "sources/till.toml": "[webhook]\nauth = \"standard_webhooks\"\n[[mapping]]\nwhen = \"body.topic == 'paid'\"\ntype = \"payment.made\"\nrecipient = {external_id = \"body.user\"}\ndata = {city = \"body.city\"}\n",
    })
}

#[tokio::test]
async fn what_was_pulled_changes_nothing_and_is_the_same_each_time() {
    let app = TestApp::start().await;
    let (status, done) = apply(&app, json!({"files": rich()})).await;
    assert_eq!(status, 200, "{done:#}");
    let pulled = pull(&app).await;
    for path in rich().as_object().unwrap().keys() {
        assert!(pulled.get(path).is_some(), "{path} was not pulled");
    }
    for path in ["/v1/catalog/plan", "/v1/catalog/apply"] {
        let (status, same) = app
            .call(Method::POST, path, Some(&app.key), Some(&json!({"files": pulled, "delete": true})))
            .await;
        assert_eq!((status, &same["changes"]), (200, &json!([])), "{same:#}");
    }
    assert_eq!(pull(&app).await, pulled);
}

#[tokio::test]
async fn promotion_is_pull_here_and_apply_there() {
    let (here, there) = (TestApp::start().await, empty().await);
    assert_eq!(apply(&here, json!({"files": rich()})).await.0, 200);
    let pulled = pull(&here).await;
    let (status, done) = apply(&there, json!({"files": pulled, "note": "release 7"})).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(pull(&there).await, pulled);
    there.accept(&payment_failed("p-1", "u")).await;
    there.run_until_idle().await;
    assert_eq!(there.messages().await.len(), 1);
}

#[tokio::test]
async fn a_folder_goes_round_by_the_command_line_with_exit_codes_that_mean_something() {
    let app = TestApp::start().await;
    let (status, _) = apply(&app, json!({"files": rich()})).await;
    assert_eq!(status, 200);
    let folder = scratch("catalog");
    let dir = folder.to_str().unwrap();
    let herald = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (url, key) = (app.url.clone(), app.key.clone());
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let output = run(&arguments, &[("HERALD_URL", &url), ("HERALD_KEY", &key)]).await;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (output.status.code().unwrap(), text, String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let pulled = herald(&["catalog", "pull", dir]).await;
    assert_eq!(pulled.0, 0, "{pulled:?}");
    assert!(
        herald(&["catalog", "pull", dir]).await.1.contains("0 files written, "),
        "nothing is written twice"
    );
    assert_eq!(herald(&["catalog", "check", dir]).await.0, 0);
    assert_eq!(herald(&["catalog", "plan", dir, "--delete"]).await.0, 0);
    assert_eq!(herald(&["catalog", "diff", dir]).await.0, 0);
    let rule = folder.join("rules/paid-filters.toml");
    let text = std::fs::read_to_string(&rule).unwrap();
    std::fs::write(&rule, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(herald(&["catalog", "diff", dir]).await.0, 0, "an editor's line ends are no difference");
    std::fs::remove_file(folder.join("rules/paid-tag.toml")).unwrap();
    let diff = herald(&["catalog", "diff", dir]).await;
    assert!(diff.0 == 0 && diff.1.contains("1 file of Herald's catalog not in the folder"), "{diff:?}");
    std::fs::write(folder.join("templates/payment-failed-sms/sms.en.liquid"), "Pay {{ data.invoice }}\n")
        .unwrap();
    let plan = herald(&["catalog", "plan", dir, "--delete", "--json"]).await;
    let json: Value = serde_json::from_str(&plan.1).expect("JSON");
    let changes: Vec<(&Value, &Value)> =
        json["changes"].as_array().unwrap().iter().map(|c| (&c["change"], &c["name"])).collect();
    assert_eq!((plan.0, changes.len()), (2, 2), "{plan:?}");
    assert!(changes.contains(&(&json!("deleted"), &json!("paid-tag"))), "{plan:?}");
    let diff = herald(&["catalog", "diff", dir]).await;
    assert!(diff.0 == 2 && diff.1.contains("+Pay {{ data.invoice }}"), "{diff:?}");
    assert_eq!(herald(&["catalog", "apply", dir]).await.0, 0);
    assert_eq!(herald(&["catalog", "plan", dir]).await.0, 0, "what is not mentioned stays");
    assert!(pull(&app).await.get("rules/paid-tag.toml").is_some());
    let silent = herald(&["catalog", "apply", dir, "--delete"]).await;
    assert!(
        silent.0 == 1 && silent.2.contains("pass --yes"),
        "nobody is asked without a terminal: {silent:?}"
    );
    assert!(pull(&app).await.get("rules/paid-tag.toml").is_some());
    assert_eq!(herald(&["catalog", "apply", dir, "--delete", "--yes"]).await.0, 0);
    assert!(pull(&app).await.get("rules/paid-tag.toml").is_none());
    std::fs::write(folder.join("rules/broken.toml"), "event = 3\n").unwrap();
    let check = herald(&["catalog", "check", dir]).await;
    assert!(check.0 == 2 && check.1.contains("rules/broken.toml:1:9"), "{check:?}");
    let apply = herald(&["catalog", "apply", dir]).await;
    assert!(apply.0 == 1 && apply.2.contains("rules/broken.toml"), "{apply:?}");
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
async fn what_the_files_do_not_mention_goes_only_if_asked() {
    let app = TestApp::start().await;
    apply(&app, json!({"files": rich()})).await;
    let sample = json!(herald::catalog::sample::files());
    let (_, plan) = app
        .call(
            Method::POST,
            "/v1/catalog/plan",
            Some(&app.key),
            Some(&json!({"files": sample, "delete": true})),
        )
        .await;
    let changes: Vec<String> = plan["changes"]
        .as_array()
        .unwrap_or_else(|| panic!("{plan}"))
        .iter()
        .map(|c| {
            format!(
                "{} {} {}",
                c["change"].as_str().unwrap(),
                c["kind"].as_str().unwrap(),
                c["name"].as_str().unwrap()
            )
        })
        .collect();
    for wanted in [
        "deleted rule paid",
        "archived template paid-email",
        "deleted partial footer",
        "deleted event_type payment.made",
    ] {
        assert!(changes.contains(&wanted.to_owned()), "{wanted}: {changes:?}");
    }
    assert_eq!(apply(&app, json!({"files": sample})).await.1["changes"], json!([]));
    assert!(pull(&app).await.get("rules/paid.toml").is_some());
    let (status, done) = apply(&app, json!({"files": sample, "delete": true})).await;
    assert_eq!(status, 200, "{done}");
    let left = pull(&app).await;
    assert!(left.get("rules/paid.toml").is_none() && left.get("partials/footer.liquid").is_none());
    assert_eq!(app.get("/v1/templates/paid-email").await["archived"], true);
    let (status, back) = apply(&app, json!({"files": rich()})).await;
    assert_eq!(status, 200, "what was put away comes back with its files: {back}");
    assert_eq!(app.get("/v1/templates/paid-email").await["archived"], false);
}

#[tokio::test]
async fn two_who_apply_at_once_leave_the_catalog_of_one_of_them() {
    let app = TestApp::start().await;
    let files = |name: &str| {
        let mut files = Map::new();
        for n in 0..5 {
            files.insert(format!("partials/part-{n}.liquid"), json!(name));
            files.insert(format!("templates/copy-{n}/template.toml"), json!("channel = \"sms\""));
            files.insert(
                format!("templates/copy-{n}/sms.en.liquid"),
                json!(format!("{name} {{% include 'part-{n}' %}}")),
            );
        }
        json!({"files": files})
    };
    for round in 0..3 {
        let (one, two) = (format!("one {round}"), format!("two {round}"));
        let (first, second) = tokio::join!(apply(&app, files(&one)), apply(&app, files(&two)));
        assert_eq!((first.0, second.0), (200, 200), "{} {}", first.1, second.1);
        let pulled = pull(&app).await;
        let winner = pulled["partials/part-0.liquid"].as_str().unwrap().trim().to_owned();
        for n in 0..5 {
            assert_eq!(pulled[format!("partials/part-{n}.liquid")].as_str().unwrap().trim(), winner);
            let copy = pulled[format!("templates/copy-{n}/sms.en.liquid")].as_str().unwrap();
            assert!(copy.starts_with(&winner), "{winner}: {copy}");
            let live = app.get(&format!("/v1/templates/copy-{n}")).await;
            assert_eq!(live["partials_changed"], false);
        }
    }
}

#[tokio::test]
async fn a_rule_may_name_what_comes_in_the_same_files_only() {
    let app = empty().await;
    let (status, done) = apply(
        &app,
        json!({"files": {
            "events/a.b/schema.json": "{\"type\": \"object\"}",
            "templates/x/template.toml": "channel = \"sms\"",
            "templates/x/sms.en.liquid": "Hello",
            "rules/r.toml": "event = \"a.b\"\ntemplate = \"x\"",
        }}),
    )
    .await;
    assert_eq!((status, done["changes"].as_array().unwrap().len()), (200, 3), "{done}");
    let event = json!({"id": "1", "type": "a.b", "recipient": {"external_id": "u"}});
    assert_eq!(app.accept(&event).await["deliveries"][0]["version"], 1);
}

#[tokio::test]
async fn a_thousand_templates_are_applied_and_an_event_is_planned_over_them() {
    let app = empty().await;
    let mut files = Map::new();
    files.insert("events/a.b/schema.json".into(), json!("{\"type\": \"object\"}"));
    for n in 0..1_000 {
        // Inline, so that this is about the catalog and not about a thousand uploads.
        files.insert(format!("templates/t-{n}/template.toml"), json!("channel = \"sms\"\nmode = \"inline\""));
        files.insert(format!("templates/t-{n}/sms.en.liquid"), json!(format!("Copy {n}")));
    }
    files.insert("rules/r.toml".into(), json!("event = \"a.b\"\ntemplate = \"t-777\""));
    let (status, done) = apply(&app, json!({"files": files})).await;
    assert_eq!((status, done["changes"].as_array().map(Vec::len)), (200, Some(1_002)));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM template_versions").await, 1_000);
    let event = json!({"id": "1", "type": "a.b", "recipient": {"external_id": "u"}});
    app.accept(&event).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await[0]["recipients"][0]["rendered"]["contents"], "Copy 777");
}

#[tokio::test]
async fn the_files_that_the_documentation_shows_can_be_applied() {
    let page = include_str!("../../docs/catalog.md");
    let mut files = Map::new();
    for part in page.split("\nFile `").skip(1) {
        let (path, rest) = part.split_once("`:\n\n```").expect("a file's name");
        let (_, text) = rest.split_once('\n').expect("a language");
        let (text, _) = text.split_once("```\n").expect("an end");
        files.insert(path.to_owned(), json!(text));
    }
    assert_eq!(files.len(), 13, "{:?}", files.keys());
    // The page starts with the sample catalog.
    let app = TestApp::start().await;
    let (status, done) = apply(&app, json!({"files": files})).await;
    assert_eq!((status, &done["changes"].as_array().map(Vec::len)), (200, &Some(10)), "{done:#}");
}
