//! Posts by broken and hostile producers: each gets a clear answer, and none breaks anything.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::app::{TestApp, order_shipped, payment_failed};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Values that have broken parsers, databases and templates.
fn nasty(random: &mut StdRng) -> Value {
    let texts = [
        "",
        " ",
        "null",
        "\u{feff}",
        "\u{202e}abc",
        "{{ user.email }}",
        "{% raw %}",
        "'; DROP TABLE events; --",
        "%00",
        "\\u0000",
        "\u{7f}",
        "\u{1f}",
        "🎉\u{200d}",
        "0001-01-01",
        "9999-12-31T23:59:60Z",
        "2026-02-30",
        "1e400",
    ];
    match random.random_range(0..12) {
        0 => Value::Null,
        1 => json!(random.random_bool(0.5)),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(-0.0),
        5 => json!(5e-324),
        6 => json!([]),
        7 => json!({}),
        8 => json!("x".repeat(random.random_range(1..5_000))),
        9 => json!([[[{"a": [null]}]]]),
        10 => json!({ texts[random.random_range(0..texts.len())]: "value" }),
        _ => json!(texts[random.random_range(0..texts.len())]),
    }
}

fn fields() -> Vec<&'static str> {
    vec![
        "id",
        "type",
        "recipient",
        "recipients",
        "data",
        "time",
        "locale",
        "send_after",
        "expires_at",
        "cancellation_key",
        "collapse_key",
        "sequence",
        "ordering_key",
    ]
}

#[tokio::test]
async fn whatever_a_field_holds_the_answer_is_never_a_failure_of_ours() {
    let app = TestApp::start().await;
    let mut random = StdRng::seed_from_u64(73);
    let fields = fields();
    let mut seen = std::collections::BTreeMap::new();
    for n in 0..1_500 {
        let mut event = order_shipped(&format!("o-{n}"), "user-42");
        for _ in 0..random.random_range(1..3) {
            let value = nasty(&mut random);
            match random.random_range(0..3) {
                0 => {
                    let name = ["order_id", "carrier", "eta", "name", "note"][random.random_range(0..5)];
                    event["data"][name] = value;
                }
                1 => event["recipient"] = json!({ "external_id": value }),
                _ => event[fields[random.random_range(0..fields.len())]] = value,
            }
            if !event["data"].is_object() {
                break;
            }
        }
        let (status, body) = app.post(&event).await;
        assert!([202, 400, 409, 422].contains(&status), "{status} to {event}: {body}");
        *seen.entry(status).or_insert(0) += 1;
    }
    assert!(seen[&202] > 100 && seen[&422] > 100, "both ways were gone: {seen:?}");
    app.run_until_idle().await;
    let open: i64 = app.sql("SELECT count(*) FROM queue WHERE state NOT IN ('queued', 'held')").await;
    assert_eq!(open, 0, "nothing hangs");
    let rejected: i64 =
        app.sql("SELECT count(*) FROM deliveries WHERE state NOT IN ('accepted', 'queued', 'held')").await;
    assert_eq!(rejected, 0, "what was taken can be sent");
    assert!(app.messages().await.iter().all(|message| {
        message["recipients"]
            .as_array()
            .unwrap()
            .iter()
            .all(|r| r["blanks"] == json!([]) && r["broken"] == json!([]))
    }));
}

#[tokio::test]
async fn bytes_that_are_cut_or_flipped_are_refused_or_taken_as_they_are() {
    let app = TestApp::start().await;
    let mut random = StdRng::seed_from_u64(74);
    for n in 0..500 {
        let mut bytes = order_shipped(&format!("o-{n}"), "user-42").to_string().into_bytes();
        match random.random_range(0..3) {
            0 => bytes.truncate(random.random_range(0..bytes.len())),
            1 => {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            _ => {
                let at = random.random_range(0..bytes.len());
                bytes.insert(at, random.random());
            }
        }
        let path = if n % 5 == 0 { "/v1/events/batch" } else { "/v1/events" };
        let answer = app.post_raw(path, &[JSON], bytes.clone()).await;
        let status = answer.status().as_u16();
        assert!([202, 400, 409, 422].contains(&status), "{status} to {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn hostile_values_are_the_same_again_on_a_retry() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0, "times": 4}))
        .await;
    let values = [
        json!({"invoice": "{{ 7 | times: 6 }}", "amount": "\u{202e}2", "pay_url": "https://a.example/?q=%7B%7B&x='(1)"}),
        json!({"invoice": "{% endraw %}", "amount": "🎉\u{200d}🎉", "pay_url": "https://a.example", "z": 1.0, "a": 5e-324}),
        json!({"invoice": "a\tb\nc", "amount": "\\u0041", "pay_url": "https://a.example", "n": [u64::MAX, i64::MIN, 1e300, -0.0]}),
        json!({"invoice": "7".repeat(2_500), "amount": "{{", "pay_url": "https://a.example"}),
    ];
    for (n, data) in values.iter().enumerate() {
        let mut event = payment_failed(&format!("p-{n}"), &format!("user-{n}"));
        event["data"] = data.clone();
        app.accept(&event).await;
        app.run_until_idle().await;
    }
    app.advance(std::time::Duration::from_secs(101)).await;
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 4);
    let stats = app.stats().await;
    assert_eq!((&stats["idempotent_replays"], &stats["idempotency_mismatches"]), (&json!(4), &json!(0)));
    assert_eq!(app.messages().await.len(), 4);
}

#[tokio::test]
async fn the_way_of_writing_makes_no_other_content() {
    let app = TestApp::start().await;
    let one = r#"{"id":"o-1","type":"order.shipped","recipient":{"external_id":"u"},
        "data":{"order_id":"1","carrier":"DHL","eta":"2026-11-26","more":{"a":1,"b":[1,2],"c":"é"}}}"#;
    let other = r#"{"data": {"more": {"c":"\u00e9", "b":[1, 2], "a":1}, "eta":"2026-11-26","carrier":"DHL","order_id":"1"},
        "recipient":{"external_id":"u"},"type":"order.shipped","id":"o-1"}"#;
    let different = one.replace("[1,2]", "[2,1]");
    for (body, status) in [(one.to_owned(), 202), (other.to_owned(), 202), (different, 409)] {
        assert_eq!(app.post_raw("/v1/events", &[JSON], body.clone()).await.status(), status, "{body}");
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 1);
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n",
        app.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    let mut sent = 0;
    while sent < 400 && stream.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 400, "somebody read 25 MiB");
    app.accept(&order_shipped("o-1", "user-42")).await;
}

#[tokio::test]
async fn addresses_that_are_none_get_a_problem_too() {
    let app = TestApp::start().await;
    for path in
        ["/v1/events/%FF", "/v1/events/..%2f..", "/v1/deliveries/dlv_%00", "/v1/events/evt_x?limit=2", "//v1"]
    {
        let answer = app.get_raw(path).await;
        let status = answer.status().as_u16();
        assert!([400, 404].contains(&status), "{path}: {status}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
    }
}
