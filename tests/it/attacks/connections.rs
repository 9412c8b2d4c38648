//! Slow, idle and too many connections.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::{TestApp, Wanted, order_shipped};

/// Longer than anything here takes: what is not over by then never is.
const NEVER: Duration = Duration::from_secs(20);
const HALF_A_HEAD: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

async fn app_with(settings: &[(&'static str, &str)]) -> TestApp {
    let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    TestApp::start_with(Wanted { settings, ..Wanted::default() }).await
}

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.url.trim_start_matches("http://")).await.expect("a connection")
}

async fn connect_and_send(app: &TestApp, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(app).await;
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// What the server sends until it closes the connection.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        let mut buffer = [0; 4_096];
        // A reset is an end, too.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(NEVER, reading).await.expect("the server closed the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One whole response on a connection that stays open.
async fn read_response(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains("\r\n\r\n") {
            let mut buffer = [0; 4_096];
            let count = stream.read(&mut buffer).await.expect("a response");
            assert!(count > 0, "closed after: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    timeout(NEVER, reading).await.expect("a response in time");
    text
}

#[tokio::test]
async fn a_client_that_stops_within_a_request_s_head_is_disconnected() {
    let app = app_with(&[("HERALD_HTTP__HEAD_TIMEOUT", "200ms")]).await;
    let mut slow = connect_and_send(&app, HALF_A_HEAD).await;
    assert_eq!(read_to_end(&mut slow).await, "");
}

#[tokio::test]
async fn a_head_that_arrives_one_byte_at_a_time_is_not_waited_for() {
    let app = app_with(&[("HERALD_HTTP__HEAD_TIMEOUT", "200ms")]).await;
    let mut slow = connect_and_send(&app, HALF_A_HEAD).await;
    let mut sent = 0_u32;
    let dripping = async {
        let mut buffer = [0; 64];
        loop {
            // Each byte comes well before the limit; all of them together do not.
            match timeout(Duration::from_millis(20), slow.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) => panic!("there was an answer to half a head"),
                Err(_) => {}
            }
            if slow.write_all(b"x").await.is_err() {
                break;
            }
            sent += 1;
        }
    };
    timeout(NEVER, dripping).await.expect("the server closed the connection");
    assert!(sent > 0);
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed_after_the_idle_time() {
    let app = app_with(&[("HERALD_HTTP__IDLE_TIMEOUT", "200ms")]).await;
    let mut silent = connect(&app).await;
    assert_eq!(read_to_end(&mut silent).await, "");
    let mut idle = connect_and_send(&app, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(read_response(&mut idle).await.starts_with("HTTP/1.1 200"));
    read_to_end(&mut idle).await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_that_a_head_may_take() {
    let app = app_with(&[("HERALD_HTTP__HEAD_TIMEOUT", "50ms")]).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = connect_and_send(&app, request).await;
    let mut buffer = [0; 4_096];
    // Several head times pass between requests, and within each request none does.
    for _ in 0..3 {
        assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 200"));
        let quiet = timeout(Duration::from_millis(150), stream.read(&mut buffer)).await;
        assert!(quiet.map_or(true, |read| read.is_ok_and(|count| count > 0)), "it was closed");
        stream.write_all(request).await.expect("still open");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_answered_and_given_up() {
    let app = app_with(&[("HERALD_HTTP__BODY_TIMEOUT", "200ms")]).await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n\r\n{{\"id\":",
        app.key
    );
    let mut slow = connect_and_send(&app, head.as_bytes()).await;
    let answer = read_to_end(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("the body did not arrive in time"), "{answer}");
}

#[tokio::test]
async fn a_client_that_reads_no_answers_is_disconnected() {
    let app = app_with(&[("HERALD_HTTP__WRITE_TIMEOUT", "200ms")]).await;
    let mut deaf = connect(&app).await;
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let asking = async {
        // The system's buffers are full at some point; from then on the server can't write.
        while deaf.write_all(request).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(NEVER, asking).await.expect("the server closed the connection");
}

#[tokio::test]
async fn a_head_over_16_kib_is_refused() {
    let app = TestApp::start().await;
    let head =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: {}\r\n\r\n", "x".repeat(17 * 1_024));
    let mut stream = connect_and_send(&app, head.as_bytes()).await;
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn clients_get_in_while_one_holds_as_many_connections_as_it_can() {
    let app = app_with(&[("HERALD_HTTP__MAX_ANONYMOUS_CONNECTIONS_PER_ADDRESS", "20")]).await;
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(connect_and_send(&app, HALF_A_HEAD).await);
    }
    for n in 0..10 {
        let fresh = reqwest::Client::new();
        let answer = fresh.get(format!("{}/readyz", app.url)).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        app.accept(&order_shipped(&format!("o-{n}"), "user-42")).await;
    }
    assert_eq!(read_to_end(&mut held[0]).await, "", "the oldest had to go");
}

#[tokio::test]
async fn a_client_that_showed_its_key_keeps_its_connection() {
    let app = app_with(&[("HERALD_HTTP__MAX_ANONYMOUS_CONNECTIONS_PER_ADDRESS", "5")]).await;
    let request =
        format!("GET /v1/apps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", app.key);
    let mut known = connect_and_send(&app, request.as_bytes()).await;
    read_response(&mut known).await;
    // The key is known from the first request on; this one shows it.
    known.write_all(request.as_bytes()).await.expect("sent");
    read_response(&mut known).await;
    let mut held = Vec::new();
    for _ in 0..30 {
        held.push(connect_and_send(&app, HALF_A_HEAD).await);
    }
    read_to_end(&mut held[0]).await;
    known.write_all(request.as_bytes()).await.expect("still open");
    assert!(read_response(&mut known).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn health_is_answered_when_every_connection_is_busy_and_everything_else_has_to_wait() {
    let app = app_with(&[("HERALD_HTTP__MAX_CONNECTIONS", "3")]).await;
    // Requests in progress: their bodies are still on their way.
    let head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 100\r\nExpect: 100-continue\r\nAuthorization: Bearer ";
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut stream = connect_and_send(&app, format!("{head}{}\r\n\r\n", app.key).as_bytes()).await;
        assert!(read_response(&mut stream).await.starts_with("HTTP/1.1 100"), "the request is being read");
        busy.push(stream);
    }
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut stream = connect_and_send(&app, request.as_bytes()).await;
        read_to_end(&mut stream).await
    };
    for path in ["/healthz", "/readyz"] {
        let answer = ask(path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let answer = ask("/v1/events").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    drop(busy);
    let (status, _) = app.call(Method::GET, "/v1/apps", Some(&app.key), None).await;
    assert!([200, 503].contains(&status), "{status}");
}
