//! Invalid answers from OneSignal, or from a proxy in front of it: each is classified, and none breaks anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::app::{TestApp, Wanted, payment_failed};

const RULE: &str = "payment-failed-sms";

/// Something at OneSignal's address that answers every call with the same bytes.
struct Impostor {
    url: String,
    calls: Arc<AtomicUsize>,
    _answering: tokio_util::task::AbortOnDropHandle<()>,
}

impl Impostor {
    async fn with(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let answering = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move { reply(stream, &answer).await });
            }
        });
        Self { url, calls, _answering: tokio_util::task::AbortOnDropHandle::new(answering) }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Reads the whole request and writes the answer; write errors are ignored.
async fn reply(mut stream: TcpStream, answer: &[u8]) {
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some(head) = text.find("\r\n\r\n") else { continue };
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.trim().parse::<usize>().ok())
            .unwrap_or_default();
        if request.len() >= head + 4 + length {
            break;
        }
    }
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

fn http(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The service after one call with this answer.
async fn answered(answer: Vec<u8>) -> (TestApp, Impostor, Value) {
    let impostor = Impostor::with(answer).await;
    let app = TestApp::start().await;
    let accepted = send_to(&app, &impostor.url, "p-1").await;
    (app, impostor, accepted)
}

async fn send_to(app: &TestApp, url: &str, id: &str) -> Value {
    app.move_onesignal(url).await;
    let accepted = app.accept(&payment_failed(id, "user-42")).await;
    app.run_until_idle().await;
    app.delivery(&accepted, RULE).await
}

#[tokio::test]
async fn an_answer_that_can_t_be_read_may_have_been_a_yes() {
    let huge = vec![b'{'; 2 * 1024 * 1024];
    let deep = "[".repeat(200_000);
    let endless = [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        b"10000\r\n".to_vec(),
        vec![b' '; 0x10000],
    ]
    .concat();
    let app = TestApp::start().await;
    let answers = [
        ("huge", http("200 OK", "", &huge)),
        ("deep", http("200 OK", "", deep.as_bytes())),
        ("empty", http("200 OK", "", b"")),
        ("a number as id", http("200 OK", "", b"{\"id\":7}")),
        ("a list", http("200 OK", "", b"[]")),
        ("no UTF-8", http("200 OK", "", b"{\"id\":\"\xff\xfe\"}")),
        ("zipped unasked", http("200 OK", "content-encoding: gzip\r\n", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0])),
        ("cut off", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":\"b1".to_vec()),
        ("endless, then gone", endless),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("nothing at all", Vec::new()),
        ("a code of a proxy's", http("520 Web Server Returned an Unknown Error", "", b"<html>")),
        ("half a second Retry-After", http("503 Unavailable", "retry-after: 0.5\r\n", b"")),
    ];
    for (n, (what, answer)) in answers.into_iter().enumerate() {
        let impostor = Impostor::with(answer).await;
        let delivery = send_to(&app, &impostor.url, &format!("p-{n}")).await;
        let attempt = &delivery["attempts"][0];
        assert_eq!(
            (&delivery["state"], &attempt["answer"]),
            (&json!("retrying"), &json!("ambiguous")),
            "{what}"
        );
        app.move_onesignal(&app.sandbox_url).await;
        app.advance(Duration::from_mins(16)).await;
        app.run_until_idle().await;
        let id = delivery["id"].as_str().unwrap();
        assert_eq!(app.get(&format!("/v1/deliveries/{id}")).await["state"], "accepted", "{what}");
        assert_eq!(app.messages().await.len(), n + 1, "{what}");
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed_and_closes_the_app() {
    let trap = Impostor::with(http("200 OK", "", b"{\"id\":\"stolen\"}")).await;
    let location = format!("location: {}/notifications\r\n", trap.url);
    let (app, _, delivery) = answered(http("307 Temporary Redirect", &location, b"")).await;
    assert_eq!(trap.calls(), 0, "the key went to a stranger");
    assert_eq!((&delivery["state"], &delivery["decisions"][0]["code"]), (&json!("queued"), &json!("gated")));
    assert_eq!(app.sql::<String>("SELECT code FROM gates").await, "app_unusable");
    assert_eq!(app.sql::<i16>("SELECT attempts FROM queue").await, 0);
}

#[tokio::test]
async fn an_absurd_retry_after_is_believed_up_to_a_quarter_of_an_hour() {
    for (status, wait) in
        [("429 Too Many Requests", "18446744073709551615"), ("503 Unavailable", "99999999999999999")]
    {
        let (app, _, delivery) = answered(http(status, &format!("retry-after: {wait}\r\n"), b"")).await;
        assert!(["queued", "retrying"].contains(&delivery["state"].as_str().unwrap()), "{delivery}");
        app.move_onesignal(&app.sandbox_url).await;
        app.advance(Duration::from_mins(17)).await;
        app.run_until_idle().await;
        let id = delivery["id"].as_str().unwrap();
        assert_eq!(app.get(&format!("/v1/deliveries/{id}")).await["state"], "accepted", "{status}");
    }
}

#[tokio::test]
async fn a_refused_key_is_probed_by_one_call_ever_less_often() {
    let denied = http(
        "403 Forbidden",
        "",
        br#"{"errors":["Access denied.  Please include an 'Authorization: ...' header"]}"#,
    );
    let impostor = Impostor::with(denied).await;
    let app = TestApp::start().await;
    app.move_onesignal(&impostor.url).await;
    for n in 0..20 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u{n}"))).await;
    }
    app.run_until_idle().await;
    let before = impostor.calls();
    // Probes after 1, 2, 4, 8, then every 10 minutes: seven in three quarters of an hour at most.
    for _ in 0..270 {
        app.advance(Duration::from_secs(10)).await;
        app.run_until_idle().await;
    }
    let probes = impostor.calls() - before;
    assert!((3..=7).contains(&probes), "{probes} calls with a refused key in 45 minutes");
    app.move_onesignal(&app.sandbox_url).await;
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 20);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM gates").await, 0);
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_in_time() {
    let short = vec![("HERALD_DELIVERY__CALL_TIMEOUT", "300ms".to_owned())];
    let app = TestApp::start_with(Wanted { settings: short, ..Wanted::default() }).await;
    app.fault(json!({"endpoint": "notifications", "kind": "hang", "probability": 1.0, "times": 1})).await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["attempts"][0]["answer"], "ambiguous");
    app.advance(Duration::from_secs(101)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn a_conflict_is_waited_out_a_few_times_and_then_unknown() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 409, "probability": 1.0}))
        .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    for _ in 0..5 {
        app.run_until_idle().await;
        app.advance(Duration::from_secs(6)).await;
    }
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!((&delivery["state"], delivery["attempts"].as_array().unwrap().len()), (&json!("unknown"), 4));
}

#[tokio::test]
async fn a_no_after_a_doubt_leaves_the_doubt() {
    let app = TestApp::start().await;
    app.fault(
        json!({"endpoint": "notifications", "kind": "status", "status": 500, "probability": 1.0, "times": 1}),
    )
    .await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0}))
        .await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..3).map(|n| json!({"external_id": format!("u{n}")})).collect();
    app.accept(&event).await;
    app.run_until_idle().await;
    app.advance(Duration::from_secs(101)).await;
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'unknown'").await, 3);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM batches").await, 1, "nothing was packed anew");
}

#[tokio::test]
async fn without_any_connection_the_tries_end_and_say_so() {
    let app = TestApp::start().await;
    app.move_onesignal("http://127.0.0.1:1").await;
    let rule = "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\nexpires_in = \"30d\"\n";
    app.apply(&[("rules/payment-failed-sms.toml", rule)]).await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    for _ in 0..100 {
        app.run_until_idle().await;
        app.advance(Duration::from_hours(1)).await;
    }
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(delivery["state"], "exhausted");
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 25);
    let last = delivery["decisions"].as_array().unwrap().last().unwrap();
    assert_eq!(last["code"], "exhausted");
}

#[tokio::test]
async fn one_bad_recipient_among_many_is_found_and_the_others_get_their_message() {
    let app = TestApp::start().await;
    let known = json!({"external_id": "u5", "subscriptions": []});
    app.sandbox_call(reqwest::Method::POST, "/_sandbox/users", Some(known)).await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..16).map(|n| json!({"external_id": format!("u{n}")})).collect();
    app.fault(
        json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0, "times": 3}),
    )
    .await;
    app.accept(&event).await;
    for _ in 0..10 {
        app.run_until_idle().await;
        app.advance(Duration::from_secs(31)).await;
    }
    let states: Vec<String> = app
        .sql("SELECT array_agg(state || ' ' || n ORDER BY state) FROM (SELECT state, count(*) AS n FROM deliveries GROUP BY state) AS s")
        .await;
    assert_eq!(states, ["accepted 15", "unreachable 1"]);
    let people: Vec<Value> =
        app.messages().await.iter().flat_map(|m| m["recipients"].as_array().unwrap().clone()).collect();
    let once: std::collections::HashSet<&str> =
        people.iter().map(|p| p["external_id"].as_str().unwrap()).collect();
    assert_eq!((people.len(), once.len()), (15, 15));
}
