//! Small input that costs much memory, time or stack.
//!
//! Each attack comes by the API with the key that may least, from a viewer of the console, and as what is stored: the
//! answer says what is wrong, and Herald goes on. What the work is paid from is asserted where it is done, by unit tests.

use herald::access::{Role, Scope};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::console::visitor::Visitor;
use crate::support::app::{TestApp, order_shipped};

const EMAIL: &str = "order-shipped-email";
const PUSH: &str = "order-shipped-push";

/// Herald is ready and takes an event.
async fn assert_well(app: &TestApp, id: &str) {
    assert_eq!(app.get_raw("/readyz").await.status(), 200);
    app.accept(&order_shipped(id, "user-1")).await;
}

fn mjml(inside: &str) -> String {
    format!(
        "<mjml><mj-body><mj-section><mj-column><mj-text>{inside}</mj-text></mj-column></mj-section></mj-body></mjml>"
    )
}

/// MJML that is nested deeper than the converter's recursion can take, in spellings that hide it.
fn nested() -> Vec<String> {
    let nest = |open: &str, close: &str| mjml(&format!("{}x{}", open.repeat(4_000), close.repeat(4_000)));
    vec![nest("<_>", "</_>"), nest("<a b='/>'>", ""), nest("<b>", ""), nest("<é>", "</é>")]
}

fn email(body: &str) -> Value {
    json!({"mode": "inline", "contents": {"en": {"subject": "x", "body": body}}})
}

fn push(text: &str) -> Value {
    json!({"contents": {"en": {"contents": text}}})
}

fn long_path() -> String {
    format!("{{{{ data{} }}}}", ".a".repeat(20_000))
}

/// Posts content to a template's preview and check with the key that may least.
async fn looked_at(app: &TestApp, template: &str, content: &Value) -> Vec<Value> {
    let key = app.key_with(vec![Scope::CatalogRead]).await;
    let mut answers = Vec::new();
    for act in ["preview", "check"] {
        let path = format!("/v1/templates/{template}/{act}");
        let body = json!({ "content": content });
        let (status, answer) = app.call(Method::POST, &path, Some(&key), Some(&body)).await;
        assert_eq!(status, 200, "{act}: {answer}");
        answers.push(answer);
    }
    answers
}

fn has_error(answer: &Value, words: &str) -> bool {
    let problems = answer["problems"].as_array().into_iter().flatten();
    problems
        .filter(|problem| problem["severity"] == "error")
        .any(|problem| problem["message"].as_str().is_some_and(|message| message.contains(words)))
}

#[tokio::test]
async fn mjml_nested_too_deep_is_a_problem_of_the_copy_for_who_may_only_read() {
    let app = TestApp::start().await;
    for body in nested() {
        for answer in looked_at(&app, EMAIL, &email(&body)).await {
            assert!(has_error(&answer, "nested more than 64 deep"), "{answer:.500}");
        }
    }
    assert_well(&app, "after-mjml").await;
}

#[tokio::test]
async fn mjml_nested_too_deep_is_refused_in_files_and_when_it_is_published() {
    let app = TestApp::start().await;
    let reader = app.key_with(vec![Scope::CatalogRead]).await;
    let file = format!("+++\nsubject = \"x\"\n+++\n{}", nested()[0]);
    let files = json!({"files": {
        "templates/deep/template.toml": "channel = \"email\"\n", "templates/deep/email.en.liquid": file,
    }});
    let (status, answer) = app.call(Method::POST, "/v1/catalog/plan", Some(&reader), Some(&files)).await;
    assert_eq!((status, answer["code"].as_str()), (422, Some("invalid_catalog")), "{answer:.500}");
    let path = (Method::PUT, "/v1/templates/order-shipped-email/draft");
    let (status, revision, answer) = app.call_seen(path, &app.key, None, &email(&nested()[0])).await;
    assert_eq!(status, 200, "a draft may have errors: {answer}");
    let publish = (Method::POST, "/v1/templates/order-shipped-email/publish");
    let (status, _, answer) = app.call_seen(publish, &app.key, Some(&revision), &json!({})).await;
    assert_eq!(status, 422, "{answer:.500}");
    assert_well(&app, "after-files").await;
}

#[tokio::test]
async fn a_viewer_is_shown_what_is_wrong_with_deep_mjml_and_with_a_stored_draft_of_it() {
    let app = TestApp::start().await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let body = &nested()[0];
    let form =
        [("default_locale", "en"), ("mode", "inline"), ("copy.en.subject", "x"), ("copy.en.body", body)];
    let seen = viewer.post(&format!("/templates/{EMAIL}/preview"), &form).await;
    assert_eq!(seen.status, 200, "{:.300}", seen.text);
    assert!(seen.text.contains("nested more than 64 deep"), "{:.300}", seen.text);
    let path = (Method::PUT, "/v1/templates/order-shipped-email/draft");
    let (status, ..) = app.call_seen(path, &app.key, None, &email(body)).await;
    assert_eq!(status, 200);
    let page = viewer.get(&format!("/templates/{EMAIL}/publish")).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("nested more than 64 deep"), "{:.300}", page.text);
    assert_well(&app, "after-pages").await;
}

#[tokio::test]
async fn attributes_that_every_element_is_given_do_not_multiply() {
    let app = TestApp::start().await;
    let shared = format!("<mj-attributes><mj-all css-class='{}'/></mj-attributes>", "x".repeat(30_000));
    let body =
        format!("<mjml><mj-head>{shared}</mj-head><mj-body>{}</mj-body></mjml>", "<mj-raw/>".repeat(3_000));
    for answer in looked_at(&app, EMAIL, &email(&body)).await {
        assert!(has_error(&answer, "too long for so many elements"), "{answer:.500}");
    }
    assert_well(&app, "after-attributes").await;
}

#[tokio::test]
async fn a_path_of_thousands_of_steps_is_a_problem_with_its_place() {
    let app = TestApp::start().await;
    for answer in looked_at(&app, PUSH, &push(&long_path())).await {
        let problem = &answer["problems"][0];
        assert_eq!((&problem["line"], &problem["column"]), (&json!(1), &json!(4)), "{problem}");
        assert!(has_error(&answer, "a path has at most 32 steps"), "{answer:.500}");
    }
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let path = long_path();
    let form = [("default_locale", "en"), ("mode", "provider"), ("copy.en.contents", path.as_str())];
    let seen = viewer.post(&format!("/templates/{PUSH}/preview"), &form).await;
    assert!(seen.status == 200 && seen.text.contains("at most 32 steps"), "{:.300}", seen.text);
    let draft = (Method::PUT, "/v1/templates/order-shipped-push/draft");
    let (status, ..) = app.call_seen(draft, &app.key, None, &push(&path)).await;
    assert_eq!(status, 200);
    let page = viewer.get(&format!("/templates/{PUSH}/publish")).await;
    assert!(page.status == 200 && page.text.contains("at most 32 steps"), "{:.300}", page.text);
    assert_well(&app, "after-paths").await;
}

#[tokio::test]
async fn paths_that_grow_from_variable_to_variable_are_checked_without_growing() {
    let app = TestApp::start().await;
    let steps = ".a".repeat(31);
    let text: String =
        (0..600).map(|n| format!("{{% assign v{} = v{n}{steps} %}}", n + 1)).collect::<Vec<_>>().concat()
            + "{{ v600 }}";
    let text = format!("{{% assign v0 = data.a %}}{text}");
    looked_at(&app, PUSH, &push(&text)).await;
    assert_well(&app, "after-variables").await;
}

/// Copy whose checks would take time or memory that grows with a power of its length, or worse.
#[tokio::test]
async fn copy_that_is_hard_to_check_is_checked_or_refused_and_nothing_stands_still() {
    let app = TestApp::start().await;
    let branches = format!("{{% if data.b0 %}}{}x{{% endif %}}", {
        (1..1_000).map(|n| format!("{{% elsif data.b{n} %}}")).collect::<Vec<_>>().concat()
    });
    // Each level ends elsewhere than it begins, so that what is within it is read twice.
    let unsteady = format!("{}{}", "{% for i in data.l %}<a href='".repeat(48), "{% endfor %}".repeat(48));
    let filters = format!("{{{{ data.x{} }}}}", " | abs".repeat(2_000));
    let tests = format!("{{% if data.x{} %}}y{{% endif %}}", " or data.x".repeat(1_500));
    let assigned = (0..500).map(|n| format!("{{% assign a{n} = data.b{n} %}}")).collect::<Vec<_>>().concat();
    let captured = format!("{}x{}", "{% capture c %}".repeat(49), "{% endcapture %}".repeat(49));
    let many: String = "{{ data.missing.value }}".repeat(800);
    for text in [&branches, &filters, &tests, &assigned, &captured, &many] {
        looked_at(&app, PUSH, &push(text)).await;
    }
    let html = format!("<p>{unsteady}</p>");
    for answer in looked_at(&app, EMAIL, &email(&html)).await {
        assert!(has_error(&answer, "this copy is too complex"), "{answer:.500}");
    }
    assert_well(&app, "after-copy").await;
}

#[tokio::test]
async fn partials_that_include_each_other_many_times_over_are_refused() {
    let app = TestApp::start().await;
    let mut files = Map::new();
    for level in 0..5 {
        let include = format!("{{% include 'p{}' %}}", level + 1);
        files.insert(format!("partials/p{level}.liquid"), json!(include.repeat(200)));
    }
    files.insert("partials/p5.liquid".to_owned(), json!(""));
    let reader = app.key_with(vec![Scope::CatalogRead]).await;
    let body = json!({ "files": files });
    let (status, answer) = app.call(Method::POST, "/v1/catalog/plan", Some(&reader), Some(&body)).await;
    assert_eq!(status, 422, "{answer:.500}");
    assert_well(&app, "after-partials").await;
}

const HEAVY: (&str, &str) = ("events/heavy.posted/schema.json", r#"{"type": "object"}"#);

/// An event whose list and text are as large as an event may be.
fn heavy(id: &str) -> Value {
    let data = json!({"l": vec!["y"; 15_000], "s": "x".repeat(150_000), "t": "x".repeat(30_000)});
    json!({"id": id, "type": "heavy.posted", "recipient": {"external_id": "u"}, "data": data})
}

#[tokio::test]
async fn a_condition_that_multiplies_is_tried_on_past_events_and_fails_there_alone() {
    let app = TestApp::start().await;
    app.apply(&[HEAVY]).await;
    app.accept(&heavy("heavy-1")).await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    for when in [
        "data.l.map(x, data.s + data.s + data.s + data.s).size() > 0",
        "data.s.replace('', data.s) != ''",
        "data.l.join(data.s) != ''",
        "data.l.map(x, data).size() > 0",
        "data.l.all(x, data.s == data.s + x || true)",
        "data.l.all(x, data.l.all(y, x == y))",
    ] {
        let seen = viewer.post("/rules/try", &[("event", "heavy.posted"), ("when", when)]).await;
        assert_eq!(seen.status, 200, "{when}: {:.300}", seen.text);
        assert!(seen.text.contains("it could not be evaluated"), "{when}: {:.500}", seen.text);
    }
    assert_well(&app, "after-conditions").await;
}

#[tokio::test]
async fn a_mapping_that_multiplies_is_tried_and_refused_with_a_reason() {
    let app = TestApp::start().await;
    let key = app.key_with(vec![Scope::SourcesRead]).await;
    let settings = json!({
        "webhook": {"auth": "bearer"},
        "mapping": [{
            "type": "order.shipped", "id": "body.id", "recipient": {"external_id": "body.id"},
            "data": {"all": "body.l.map(x, body.s + body.s)"},
        }],
    });
    let body = json!({"id": "1", "l": vec!["y"; 4_000], "s": "x".repeat(200_000)});
    let wish = json!({"body": body, "settings": settings});
    let (status, answer) = app.call(Method::POST, "/v1/sources/any/test", Some(&key), Some(&wish)).await;
    assert_eq!((status, answer["state"].as_str()), (200, Some("refused")), "{answer:.500}");
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("mapping[0].data.all") && detail.contains("too much"), "{detail}");
    assert_well(&app, "after-mappings").await;
}

/// A schema of `levels` parts, each of which refers to the next one twice.
fn doubling(levels: usize) -> Value {
    let mut parts = Map::new();
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        parts.insert(format!("d{level}"), json!({"anyOf": [next.clone(), next]}));
    }
    parts.insert(format!("d{levels}"), json!({"type": "string", "minLength": 9}));
    json!({"type": "object", "properties": {"v": {"$ref": "#/$defs/d0"}}, "$defs": parts})
}

#[tokio::test]
async fn a_schema_whose_references_double_is_refused_wherever_it_is_given() {
    let app = TestApp::start().await;
    let reader = app.key_with(vec![Scope::CatalogRead]).await;
    for levels in [14, 18, 25] {
        let files = json!({"files": {
            "events/bomb.made/schema.json": doubling(levels).to_string(),
            "events/bomb.made/samples/one.json": r#"{"v": "short"}"#,
        }});
        let (status, answer) = app.call(Method::POST, "/v1/catalog/plan", Some(&reader), Some(&files)).await;
        assert_eq!(status, 422, "{levels}: {answer:.300}");
        let found = &answer["problems"][0];
        assert_eq!((&found["code"], found["hint"].is_string()), (&json!("bad_schema"), true), "{found}");
        let form = json!({"description": "", "schema": doubling(levels), "samples": {"one": {"v": "short"}}});
        let path = (Method::PUT, "/v1/event-types/bomb.made");
        let (status, _, answer) = app.call_seen(path, &app.key, None, &form).await;
        assert_eq!(status, 422, "{levels}: {answer:.300}");
    }
    assert_well(&app, "after-schemas").await;
}

#[tokio::test]
async fn a_schema_like_that_which_is_stored_already_refuses_its_events_and_no_others() {
    let app = TestApp::start().await;
    app.apply(&[("events/bomb.made/schema.json", r#"{"type": "object"}"#)]).await;
    app.execute(
        "WITH parts AS (
            SELECT jsonb_object_agg('d' || n, CASE WHEN n = 25 THEN '{\"type\": \"string\"}'::jsonb ELSE
                jsonb_build_object('anyOf', jsonb_build_array(
                    jsonb_build_object('$ref', '#/$defs/d' || (n + 1)),
                    jsonb_build_object('$ref', '#/$defs/d' || (n + 1)))) END) AS defs
            FROM generate_series(0, 25) AS n
         ), stored AS (
            UPDATE event_types
            SET schema = jsonb_build_object('properties', jsonb_build_object('v',
                jsonb_build_object('$ref', '#/$defs/d0')), '$defs', (SELECT defs FROM parts))
            WHERE name = 'bomb.made'
         )
         UPDATE catalog_revision SET revision = revision + 1",
    )
    .await;
    // Another event has the newer catalog read.
    assert_well(&app, "before-the-bomb").await;
    let event =
        json!({"id": "b-1", "type": "bomb.made", "recipient": {"external_id": "u"}, "data": {"v": 1}});
    let (status, answer) = app.post(&event).await;
    assert_eq!((status, answer["code"].as_str()), (422, Some("invalid_data")), "{answer}");
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("schema is invalid")), "{answer}");
    assert_well(&app, "after-the-bomb").await;
}

#[tokio::test]
async fn a_schema_that_refers_to_itself_takes_events_as_deep_as_they_may_be() {
    let app = TestApp::start().await;
    let tree = r##"{"type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}}}"##;
    app.apply(&[("events/tree.grown/schema.json", tree)]).await;
    let mut data = json!({"name": "leaf"});
    for _ in 0..14 {
        data = json!({"name": "branch", "children": [data]});
    }
    let event = |id: &str, data: &Value| json!({"id": id, "type": "tree.grown", "recipient": {"external_id": "u"}, "data": data});
    app.accept(&event("tree-1", &data)).await;
    let (status, answer) = app.post(&event("tree-2", &json!({"name": "a", "children": [{"name": 1}]}))).await;
    assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/data/children/0/name")), "{answer}");
}

#[tokio::test]
async fn conditions_and_copy_of_live_rules_are_bounded_for_events_too() {
    let app = TestApp::start().await;
    app.apply(&[
        HEAVY,
        (
            "rules/heavy.toml",
            "event = \"heavy.posted\"\nwhen = \"data.l.map(x, data.s + data.s).size() > 0\"\n\
             template = \"order-shipped-push\"\n",
        ),
    ])
    .await;
    let accepted = app.accept(&heavy("live-1")).await;
    let decisions = accepted["decisions"].to_string();
    assert!(decisions.contains("expression_failed") && decisions.contains("too much"), "{decisions}");
    assert_well(&app, "after-live").await;
}
