//! Common mistakes that have to be reported before anything is live.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;

async fn problems(app: &TestApp, files: Value) -> Vec<(String, String)> {
    let body = json!({ "files": files });
    let (status, problem) = app.call(Method::POST, "/v1/catalog/plan", Some(&app.key), Some(&body)).await;
    assert_eq!(status, 422, "{problem:#}");
    let found = problem["problems"].as_array().expect("problems");
    let text = |problem: &Value, name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    found.iter().map(|problem| (text(problem, "code"), text(problem, "message"))).collect()
}

#[tokio::test]
async fn a_rule_whose_template_needs_what_its_events_lack_is_refused() {
    let app = TestApp::start().await;
    let rule = "event = \"order.shipped\"\ntemplate = \"restock-push\"";
    let found = problems(&app, json!({ "rules/x.toml": rule })).await;
    assert!(
        found
            .iter()
            .any(|(code, message)| code == "template_does_not_fit" && message.contains("data.product")),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_sealed_path_that_leads_nowhere_is_refused_with_the_nearest_name() {
    let app = TestApp::start().await;
    let schema = json!({"type": "object", "properties": {"ssn": {"type": "string"},
        "card": {"$ref": "#/$defs/card"}}, "$defs": {"card": {"properties": {"number": {}}}}});
    let event = |sensitive: &str| {
        json!({
            "events/tax.due/schema.json": schema.to_string(),
            "events/tax.due/event.toml": format!("sensitive = [\"{sensitive}\"]"),
        })
    };
    for wrong in ["/snn", "/card/nummer"] {
        let found = problems(&app, event(wrong)).await;
        assert!(found.iter().any(|(code, _)| code == "unknown_path"), "{wrong}: {found:?}");
    }
    for right in ["/ssn", "/card/number"] {
        let body = json!({ "files": event(right) });
        let (status, answer) = app.call(Method::POST, "/v1/catalog/plan", Some(&app.key), Some(&body)).await;
        assert_eq!(status, 200, "{right}: {answer:#}");
    }
}

#[tokio::test]
async fn copy_that_would_go_out_with_its_settings_or_with_tricks_in_it_is_refused() {
    let app = TestApp::start().await;
    let about = "channel = \"email\"\n[options]\n";
    for (copy, code) in [
        ("+++\nsubject = \"s\"\nHi", "unclosed_fields"),
        ("+++\nsubject = \"s\\r\\nBcc: x@y.example\"\n+++\nHi", "line_break"),
        ("+++\nsubject = \"s\"\nreply_to = \"nobody\"\n+++\nHi", "bad_address"),
        ("+++\nsubject = \"s\"\n+++\nHi\u{1b}[2J", "control_character"),
    ] {
        let files = json!({"templates/x/template.toml": about, "templates/x/email.en.liquid": copy});
        let found = problems(&app, files).await;
        assert!(found.iter().any(|(found, _)| found == code), "{code}: {found:?}");
    }
}

#[tokio::test]
async fn partials_that_include_each_other_are_refused_when_they_are_saved() {
    let app = TestApp::start().await;
    let files = json!({"partials/a.liquid": "{% include 'b' %}", "partials/b.liquid": "{% include 'a' %}"});
    let found = problems(&app, files).await;
    assert!(found.iter().any(|(code, _)| code == "partial_in_itself"), "{found:?}");
}

#[tokio::test]
async fn a_nul_in_an_address_is_nobodys_name_and_no_fault_of_ours() {
    let app = TestApp::start().await;
    for (path, status, code) in [
        ("/v1/hooks/%00", 404, "not_found"),
        ("/v1/sources/%00", 404, "not_found"),
        ("/v1/events?type=%00", 400, "bad_parameter"),
        ("/v1/audit?subject=%00", 400, "bad_parameter"),
    ] {
        let answer = app.call(Method::GET, path, Some(&app.key), None).await;
        assert_eq!((answer.0, &answer.1["code"]), (status, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn a_note_is_one_line_that_plays_no_tricks() {
    let app = TestApp::start().await;
    for note in ["\u{1b}[2J".to_owned(), "\u{202e}x".to_owned(), "x".repeat(1_001)] {
        let body = json!({"version": 1, "note": note});
        let path = "/v1/templates/order-shipped-push/rollback";
        let (status, problem) = app.call(Method::POST, path, Some(&app.key), Some(&body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/note")), "{problem}");
    }
}
