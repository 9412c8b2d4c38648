//! Imports of users: checked as a whole before the first call, resumable, and idempotent.

use reqwest::Method;
use serde_json::{Value, json};

use super::{calls, with_strict_onesignal};
use crate::support::app::TestApp;

/// Creates an import and sends its file in one part; returns the import once it is checked.
async fn import(app: &TestApp, settings: Value, file: &[u8]) -> Value {
    let id = create(app, settings).await;
    let answer = send(app, &id, 0, true, file).await;
    assert_eq!(answer.0, 202, "{}", answer.1);
    app.run_until_idle().await;
    get(app, &id).await
}

async fn create(app: &TestApp, settings: Value) -> String {
    let request = json!({"name": "crm.csv", "settings": settings});
    let (status, created) = app.call(Method::POST, "/v1/users/imports", Some(&app.key), Some(&request)).await;
    assert_eq!(status, 201, "{created}");
    created["id"].as_str().expect("an id").to_owned()
}

async fn send(app: &TestApp, id: &str, offset: usize, last: bool, part: &[u8]) -> (u16, Value) {
    let url = format!("{}/v1/users/imports/{id}/content?offset={offset}&last={last}", app.url);
    let request = reqwest::Client::new().put(url).bearer_auth(&app.key).header("content-type", "text/csv");
    let response = request.body(part.to_vec()).send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn get(app: &TestApp, id: &str) -> Value {
    app.get(&format!("/v1/users/imports/{id}")).await
}

async fn start(app: &TestApp, import: &Value) -> Value {
    let id = import["id"].as_str().expect("an id");
    let path = format!("/v1/users/imports/{id}/start");
    let (status, answer) = app.call(Method::POST, &path, Some(&app.key), None).await;
    assert_eq!(status, 202, "{answer}");
    app.run_for(8).await;
    get(app, id).await
}

fn crm(rows: usize) -> String {
    let rows: String =
        (0..rows).map(|n| format!("u{n},u{n}@shop.example,gold\n")).collect::<Vec<_>>().concat();
    format!("external_id,email,Plan\n{rows}")
}

fn plan_is_a_tag() -> Value {
    json!({"columns": {"Plan": "tag:plan"}})
}

#[tokio::test]
async fn a_file_is_checked_started_and_written_and_the_same_file_again_makes_no_call() {
    let app = with_strict_onesignal().await;
    let file = crm(30);
    let checked = import(&app, plan_is_a_tag(), file.as_bytes()).await;
    assert_eq!(
        (&checked["state"], &checked["counts"]["changed"]),
        (&json!("ready"), &json!(30)),
        "{checked}"
    );
    assert_eq!(checked["counts"]["new_users"], 30);
    assert_eq!(checked["preview"][0]["body"]["properties"]["tags"]["plan"], "gold", "{checked}");
    assert_eq!(calls(&app, "users.create").await, 0, "nothing is written before it is started");
    let done = start(&app, &checked).await;
    assert_eq!((&done["state"], &done["counts"]["sent"]), (&json!("done"), &json!(30)), "{done}");
    assert_eq!(app.onesignal_user("external_id", "u7").await["properties"]["tags"], json!({"plan": "gold"}));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM import_rows").await, 0, "the file is not kept");
    let before = calls(&app, "users.create").await;
    let again = import(&app, plan_is_a_tag(), file.as_bytes()).await;
    assert_eq!(
        (&again["counts"]["unchanged"], &again["counts"]["changed"]),
        (&json!(30), &json!(0)),
        "{again}"
    );
    let done = start(&app, &again).await;
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(calls(&app, "users.create").await, before);
}

#[tokio::test]
async fn several_rows_of_one_person_are_one_call_with_all_their_addresses() {
    let app = with_strict_onesignal().await;
    let file =
        "external_id;email;Plan\nann;a@shop.example;free\nann;b@shop.example;\nann;c@shop.example;gold\n";
    let checked = import(&app, plan_is_a_tag(), file.as_bytes()).await;
    assert_eq!(
        (&checked["counts"]["records"], &checked["counts"]["changed"]),
        (&json!(3), &json!(1)),
        "{checked}"
    );
    start(&app, &checked).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(there["subscriptions"].as_array().unwrap().len(), 3, "{there}");
    assert_eq!(
        there["properties"]["tags"]["plan"], "gold",
        "the last row wins, and an empty cell changes nothing"
    );
    assert_eq!(calls(&app, "users.create").await, 1);
}

#[tokio::test]
async fn swapped_columns_stop_the_import_before_the_first_call() {
    let app = with_strict_onesignal().await;
    let rows: String =
        (0..50).map(|n| format!("u{n},Ann {n},ann{n}@shop.example\n")).collect::<Vec<_>>().concat();
    let file = format!("external_id,email,name\n{rows}");
    let checked = import(&app, json!({}), file.as_bytes()).await;
    assert_eq!(
        (&checked["state"], &checked["counts"]["rejected"]),
        (&json!("stopped"), &json!(50)),
        "{checked}"
    );
    assert!(checked["detail"].as_str().unwrap().contains("50 of 50 rows are rejected"), "{checked}");
    let path = format!("/v1/users/imports/{}/start", checked["id"].as_str().unwrap());
    assert_eq!(app.call(Method::POST, &path, Some(&app.key), None).await.0, 409);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM users").await, 0);
}

#[tokio::test]
async fn rejected_rows_come_back_as_they_were_and_the_corrected_file_is_accepted() {
    let app = with_strict_onesignal().await;
    let mut file = crm(40);
    file.push_str("u41,\"bad, address\",gold\nu42,u42@shop.example,gold,too,many\n=cmd,+491511234567,gold\n");
    let settings = json!({"columns": {"Plan": "tag:plan"}, "max_rejected_percent": 20});
    let checked = import(&app, settings.clone(), file.as_bytes()).await;
    assert_eq!(
        (&checked["state"], &checked["counts"]["rejected"]),
        (&json!("ready"), &json!(3)),
        "{checked}"
    );
    let path = format!("/v1/users/imports/{}/rejected", checked["id"].as_str().unwrap());
    let rejected = app.get_raw(&path).await.text().await.unwrap();
    let lines: Vec<&str> = rejected.lines().collect();
    assert_eq!(lines[0], "external_id,email,Plan,_line,_column,_reason");
    assert_eq!(lines[1], "u41,\"bad, address\",gold,42,email,this is not an email address");
    assert!(lines[3].starts_with("=cmd,+491511234567,gold,44,email,"), "{rejected}");
    let corrected = rejected
        .replace("\"bad, address\"", "u41@shop.example")
        .replace("gold,too,many,43,", "gold,43,")
        .replace("+491511234567", "cmd@shop.example");
    let checked = import(&app, settings, corrected.as_bytes()).await;
    assert_eq!(
        (&checked["counts"]["rejected"], &checked["counts"]["changed"]),
        (&json!(0), &json!(3)),
        "{checked}"
    );
}

#[tokio::test]
async fn a_missing_quote_costs_one_row_and_names_its_line() {
    let app = with_strict_onesignal().await;
    let file = crm(100).replace("u50,u50@shop.example", "u50,\"u50@shop.example");
    let checked = import(&app, plan_is_a_tag(), file.as_bytes()).await;
    assert_eq!(
        (&checked["state"], &checked["counts"]["rejected"]),
        (&json!("ready"), &json!(1)),
        "{checked}"
    );
    assert_eq!(checked["rejected_rows"][0]["line"], 52, "{checked}");
    assert_eq!(checked["counts"]["records"], 100);
}

#[tokio::test]
async fn a_file_arrives_in_parts_and_an_interrupted_upload_goes_on_where_it_stopped() {
    let app = with_strict_onesignal().await;
    let file = format!("\u{feff}{}", crm(20).replace("u3@", "zoë3@")).into_bytes();
    let id = create(&app, plan_is_a_tag()).await;
    let mut offset = 0;
    for part in file.chunks(37) {
        let (status, answer) = send(&app, &id, offset, false, part).await;
        assert_eq!(status, 202, "{answer}");
        let (status, answer) = send(&app, &id, offset, false, part).await;
        assert_eq!(
            (status, &answer["code"]),
            (409, &json!("wrong_offset")),
            "a repeat is not taken twice: {answer}"
        );
        offset += part.len();
    }
    let (status, answer) = send(&app, &id, offset, true, b"").await;
    assert_eq!((status, &answer["received_bytes"]), (202, &json!(offset)), "{answer}");
    app.run_until_idle().await;
    let checked = get(&app, &id).await;
    assert_eq!(
        (&checked["counts"]["records"], &checked["counts"]["changed"]),
        (&json!(20), &json!(20)),
        "{checked}"
    );
    assert_eq!(send(&app, &id, offset, true, b"x").await.1["code"], "not_ready");
}

#[tokio::test]
async fn files_of_spreadsheets_are_read_in_any_encoding_and_what_is_no_csv_says_so() {
    let app = with_strict_onesignal().await;
    let text = "sep=;\r\nexternal_id;Stadt\r\nann;Köln\r\n";
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let ansi: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for (file, encoding) in [(utf16, "utf16-le"), (ansi, "windows1252")] {
        let checked = import(&app, json!({"columns": {"Stadt": "tag:city"}}), &file).await;
        assert_eq!(
            (&checked["encoding"], &checked["delimiter"]),
            (&json!(encoding), &json!(";")),
            "{checked}"
        );
        assert_eq!(checked["preview"][0]["body"]["properties"]["tags"]["city"], "Köln", "{checked}");
        assert_eq!(checked["preview"][0]["line"], 3);
    }
    for (file, reason) in [
        (&b"PK\x03\x04\x14\x00"[..], "save it as"),
        (b"", "empty"),
        (b"email\nann@shop.example\n", "no column names the user"),
        (b"external_id,a,a\n", "appears twice"),
    ] {
        let id = create(&app, json!({})).await;
        let (status, answer) = send(&app, &id, 0, true, file).await;
        assert_eq!((status, &answer["code"]), (422, &json!("bad_file")), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(reason), "{answer}");
    }
}

#[tokio::test]
async fn an_import_goes_on_where_a_process_died_and_counts_nobody_twice() {
    let app = with_strict_onesignal().await;
    let checked = import(&app, plan_is_a_tag(), crm(2_500).as_bytes()).await;
    let id = checked["id"].as_str().unwrap();
    let path = format!("/v1/users/imports/{id}/start");
    assert_eq!(app.call(Method::POST, &path, Some(&app.key), None).await.0, 202);
    // One chunk is accepted and some of it written; then another process goes on.
    app.herald.people.run_once().await.expect("the database answers");
    let half = get(&app, id).await;
    assert_eq!((&half["state"], &half["counts"]["accepted"]), (&json!("running"), &json!(1_000)), "{half}");
    let other = app.replica().await;
    other.run_for(12).await;
    let done = get(&app, id).await;
    assert_eq!((&done["state"], &done["counts"]["sent"]), (&json!("done"), &json!(2_500)), "{done}");
    assert_eq!(calls(&app, "users.create").await, 2_500);
}

#[tokio::test]
async fn an_import_that_can_not_go_on_stops_and_holds_up_nobody() {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    let broken = import(&app, json!({}), b"crm_id,email\n77,ann@shop.example\n").await;
    assert_eq!(broken["state"], "ready", "{broken}");
    app.declare_labels(&["loyalty_id"]).await;
    let other = import(&app, plan_is_a_tag(), crm(3).as_bytes()).await;
    let done = start(&app, &broken).await;
    assert_eq!(done["state"], "stopped", "{done}");
    assert!(done["detail"].as_str().unwrap().contains("alias labels have changed"), "{done}");
    app.put_user("external_id/bob", &json!({})).await;
    let done = start(&app, &other).await;
    assert_eq!((&done["state"], &done["counts"]["sent"]), (&json!("done"), &json!(3)), "{done}");
    assert_eq!(app.onesignal_user("external_id", "bob").await["identity"]["external_id"], "bob");
}

#[tokio::test]
async fn a_header_in_quotes_after_a_byte_order_mark_is_read() {
    let app = with_strict_onesignal().await;
    let file = "\u{feff}\"external_id\",\"Plan\"\n\"ann\",\"gold\"\n";
    let checked = import(&app, plan_is_a_tag(), file.as_bytes()).await;
    assert_eq!((&checked["state"], &checked["counts"]["changed"]), (&json!("ready"), &json!(1)), "{checked}");
}

#[tokio::test]
async fn rejected_rows_are_deleted_with_the_retention_and_an_import_that_nobody_starts_ends() {
    let app = with_strict_onesignal().await;
    let file = format!("{}bad row\n", crm(40));
    let checked = import(&app, plan_is_a_tag(), file.as_bytes()).await;
    assert_eq!(checked["state"], "ready", "{checked}");
    app.advance(std::time::Duration::from_hours(8 * 24)).await;
    app.run_until_idle().await;
    let id = checked["id"].as_str().unwrap();
    assert_eq!(get(&app, id).await["state"], "cancelled");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM import_rows").await, 1, "the rejected one");
    app.advance(std::time::Duration::from_hours(23 * 24)).await;
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM import_rows").await, 0);
}

#[tokio::test]
async fn a_cancelled_import_accepts_nothing_more() {
    let app = with_strict_onesignal().await;
    let checked = import(&app, plan_is_a_tag(), crm(10).as_bytes()).await;
    let id = checked["id"].as_str().unwrap();
    let path = format!("/v1/users/imports/{id}/cancel");
    let (status, answer) = app.call(Method::POST, &path, Some(&app.key), None).await;
    assert_eq!((status, &answer["state"]), (200, &json!("cancelled")), "{answer}");
    app.run_for(2).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM users").await, 0);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM import_rows").await, 0);
}
