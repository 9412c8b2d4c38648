//! Push copy whose language OneSignal chooses by each device.

use serde_json::json;

use crate::support::app::TestApp;

const COPY: [(&str, &str); 3] = [
    ("templates/order-shipped-push/template.toml", "channel = \"push\"\nlocale = \"onesignal\"\n"),
    (
        "templates/order-shipped-push/push.en.liquid",
        "+++\nheadings = \"News\"\nurl = \"https://shop.example/{{ data.order_id }}\"\n+++\n{{ data.carrier }} brings {{ data.order_id }}",
    ),
    (
        "templates/order-shipped-push/push.de.liquid",
        "+++\nheadings = \"Neues\"\n+++\n{{ data.carrier | upcase }} bringt {{ data.order_id }}",
    ),
];

#[tokio::test]
async fn each_person_reads_the_language_of_their_device_out_of_one_template() {
    let app = TestApp::start().await;
    app.apply(&COPY).await;
    for (person, language) in [("ann", "en"), ("bea", "de"), ("cem", "tr")] {
        let known = json!({"external_id": person, "language": language});
        app.sandbox_call(reqwest::Method::POST, "/_sandbox/users", Some(known)).await;
    }
    let people: Vec<_> = ["ann", "bea", "cem"].iter().map(|id| json!({"external_id": id})).collect();
    let event = json!({"id": "o-1", "type": "order.shipped", "recipients": people,
        "data": {"order_id": "7", "carrier": "Dhl", "eta": "2026-11-27"}});
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let pushes: Vec<_> = messages.iter().filter(|m| m["channel"] == "push").collect();
    assert_eq!(pushes.len(), 1, "one call for all languages");
    let said = |person: &str| {
        let found = pushes[0]["recipients"].as_array().unwrap();
        found.iter().find(|r| r["external_id"] == person).unwrap()["rendered"].clone()
    };
    assert_eq!(said("ann")["contents"], "Dhl brings 7");
    assert_eq!(
        (&said("bea")["contents"], &said("bea")["headings"]),
        (&json!("DHL bringt 7"), &json!("Neues"))
    );
    assert_eq!(said("cem")["contents"], "Dhl brings 7", "an unknown language falls back to English");
    assert_eq!(said("bea")["url"], "https://shop.example/7");
    let uploads: i64 = app
        .sql(
            "SELECT count(*) FROM template_uploads u JOIN templates t ON t.live_version = u.version_id
              WHERE t.key = 'order-shipped-push'",
        )
        .await;
    assert_eq!(uploads, 1);
}

#[tokio::test]
async fn what_onesignal_would_refuse_of_languages_is_said_before() {
    let app = TestApp::start().await;
    let files = json!({
        "templates/x/template.toml": "channel = \"push\"\nlocale = \"onesignal\"",
        "templates/x/push.en.liquid": "+++\nheadings = \"Hi\"\n+++\nHi",
        "templates/x/push.de-AT.liquid": "Servus",
        "templates/y/template.toml": "channel = \"sms\"\nlocale = \"onesignal\"",
        "templates/y/sms.en.liquid": "Hi",
    });
    let body = json!({ "files": files });
    let (status, problem) =
        app.call(reqwest::Method::POST, "/v1/catalog/plan", Some(&app.key), Some(&body)).await;
    assert_eq!(status, 422);
    let codes: Vec<&str> =
        problem["problems"].as_array().unwrap().iter().filter_map(|p| p["code"].as_str()).collect();
    for code in ["bad_language", "missing_language", "bad_locale_mode"] {
        assert!(codes.contains(&code), "{code}: {problem:#}");
    }
}
