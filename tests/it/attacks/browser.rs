//! What a browser is sent: headers, cookies, redirects, frames and links.

use std::time::{Duration, Instant};

use herald::access::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::console::visitor::{PASSWORD, Seen, Visitor};
use crate::support::app::{TestApp, Wanted, order_shipped};

const ORIGIN: &str = "https://herald.shop.example";

/// A Herald that people open over https, behind a proxy that ends TLS.
async fn over_https() -> TestApp {
    let settings = vec![("HERALD_CONSOLE__PUBLIC_URL", ORIGIN.to_owned())];
    TestApp::start_with(Wanted { settings, ..Wanted::default() }).await
}

/// A browser that has the console open there, logged in.
async fn admin_over_https(app: &TestApp) -> Visitor {
    let email = Visitor::member(app, Role::Admin).await;
    let visitor = Visitor::stranger(app).sending("origin", ORIGIN);
    assert_eq!(visitor.log_in(&email, PASSWORD).await.status, 303);
    visitor
}

fn cookies(seen: &Seen) -> Vec<String> {
    let all = seen.headers.get_all("set-cookie").iter();
    all.map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn every_response_carries_the_security_headers_errors_among_them() {
    let app = over_https().await;
    let admin = admin_over_https(&app).await;
    let html = [("accept", "text/html")];
    for path in [
        "/",
        "/log-in",
        "/nothing-here",
        "/v1/nothing",
        "/v1/events",
        "/healthz",
        "/templates/none",
        "/rules/%00",
        "/docs",
    ] {
        let seen = admin.get_with(path, &html).await;
        for name in [
            "strict-transport-security",
            "x-content-type-options",
            "referrer-policy",
            "cross-origin-opener-policy",
            "content-security-policy",
            "cache-control",
        ] {
            assert!(seen.headers.contains_key(name), "{path} ({}) lacks {name}", seen.status);
        }
        assert_eq!(seen.headers["cache-control"], "no-store", "{path}");
    }
    let refused = admin.post_from("/settings/team", &[], &[("sec-fetch-site", "cross-site")]).await;
    assert!(refused.status == 403 && refused.headers.contains_key("cross-origin-opener-policy"));
}

#[tokio::test]
async fn without_https_no_browser_is_made_to_insist_on_it() {
    let app = TestApp::start().await;
    let seen = Visitor::stranger(&app).get("/set-up").await;
    assert!(!seen.headers.contains_key("strict-transport-security"));
}

#[tokio::test]
async fn cookies_are_strict_and_with_https_they_are_secure_and_bound_to_the_host() {
    let app = over_https().await;
    let email = Visitor::member(&app, Role::Admin).await;
    let visitor = Visitor::stranger(&app).sending("origin", ORIGIN);
    let mut seen = cookies(&visitor.log_in(&email, PASSWORD).await);
    let rule = [("scope", "app"), ("name", "default")];
    seen.extend(cookies(&visitor.post("/issues/switches/open", &rule).await));
    let stop = [("what", "app all"), ("reason", "a test")];
    seen.extend(cookies(&visitor.post("/issues/switches/close", &stop).await));
    for name in ["__Host-herald=", "__Host-herald_browser=", "__Host-herald_notice="] {
        let cookie =
            seen.iter().find(|cookie| cookie.starts_with(name)).unwrap_or_else(|| panic!("{name}: {seen:?}"));
        for part in ["; Path=/;", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
            assert!(cookie.contains(part), "{cookie} lacks {part}");
        }
    }
}

#[tokio::test]
async fn a_link_from_another_site_still_opens_its_page() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    let session = visitor.token().unwrap();
    // The browser leaves the strict cookie out, because another site began this.
    visitor.forget("herald");
    let foreign = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let seen = visitor.get_with("/rules?x=1&y=%22%3E", &foreign).await;
    assert_eq!(seen.status, 200);
    assert!(seen.text.contains("content=\"0;url=/rules?x=1&amp;y=%22%3E\""), "{}", seen.text);
    assert!(!seen.text.contains("<script"));
    // The page of ours goes on to the same address, and now the cookie is there.
    visitor.keep("herald", &session);
    let own = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate")];
    assert!(visitor.get_with("/rules?x=1", &own).await.text.contains("<h1>"));
    visitor.forget("herald");
    let seen = visitor.get_with("/rules?x=1", &own).await;
    assert_eq!(
        seen.location.as_deref(),
        Some("/log-in?next=%2Frules%3Fx%3D1"),
        "it does not go around in circles"
    );
}

#[tokio::test]
async fn where_the_console_s_address_is_known_no_other_origin_is_ours() {
    let app = over_https().await;
    let admin = admin_over_https(&app).await;
    let session = admin.cookie("__Host-herald").unwrap();
    let form = [("what", "app all"), ("reason", "forged")];
    for headers in [
        vec![("origin", "https://evil.example"), ("host", "evil.example")],
        vec![("origin", "https://evil.example"), ("host", "evil.example"), ("sec-fetch-site", "same-origin")],
        vec![("origin", "null"), ("sec-fetch-site", "same-origin")],
        vec![("sec-fetch-site", "same-origin")],
        vec![("origin", ORIGIN), ("sec-fetch-site", "cross-site")],
        vec![("origin", "http://herald.shop.example")],
    ] {
        let forger = Visitor::stranger(&app);
        forger.keep("__Host-herald", &session);
        let seen = forger.post_from("/issues/switches/close", &form, &headers).await;
        assert_eq!(seen.status, 403, "{headers:?}");
    }
    assert_eq!(admin.post("/issues/switches/close", &form).await.status, 303);
}

#[tokio::test]
async fn a_nul_in_a_parameter_or_a_form_is_unusable_and_the_database_is_not_asked() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    for path in [
        "/?q=to:%00",
        "/rules/%00",
        "/templates/a%00b",
        "/recipients/external_id/%00",
        "/recipients?q=%00",
        "/event-types/%00",
        "/palette?q=%00",
        "/log-in?next=%00",
    ] {
        let seen = admin.get(path).await;
        assert!(seen.status == 422 && seen.text.contains("NUL"), "{path}: {} {}", seen.status, seen.text);
    }
    for (path, form) in [
        ("/settings/team", [("name", "A\0"), ("email", "a@shop.example"), ("role", "viewer")]),
        ("/settings/keys", [("source", "shop\0"), ("scope", "read"), ("is_test", "")]),
        ("/issues/switches/close", [("what", "app all"), ("reason", "\0"), ("x", "")]),
        ("/log-in", [("email", "a\0@shop.example"), ("password", "x"), ("next", "/")]),
    ] {
        assert_eq!(admin.post(path, &form).await.status, 422, "{path}");
    }
}

#[tokio::test]
async fn an_escaped_nul_inside_json_is_unusable_and_no_outage() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let form = [
        ("name", "order.shipped"),
        ("schema", "{\"type\": \"object\", \"title\": \"a\\u0000b\"}"),
        ("description", ""),
        ("owner", ""),
    ];
    let seen = admin.post("/event-types/order.shipped", &form).await;
    assert!(seen.status.is_client_error(), "{}: {}", seen.status, seen.text);
}

#[tokio::test]
async fn an_alias_label_stays_within_its_link() {
    let app = TestApp::start().await;
    app.declare_labels(&["crm_<svg/onload=alert(1)>"]).await;
    let mut event = order_shipped("order-1", "user-42");
    event["recipient"] = json!({"crm_<svg/onload=alert(1)>": "7"});
    let (status, accepted) = app.post(&event).await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    if status != 202 {
        // Labels that need encoding are refused when they come in; old ones may still be stored.
        assert!(status == 422, "{accepted}");
        return;
    }
    app.run_until_idle().await;
    let delivery = accepted["deliveries"][0]["id"].as_str().unwrap();
    for path in [
        format!("/events/{}", accepted["id"].as_str().unwrap()),
        format!("/deliveries/{delivery}"),
        "/recipients?q=7".to_owned(),
    ] {
        let seen = admin.get(&path).await;
        let place = seen.location.clone().unwrap_or(seen.text);
        assert!(place.contains("/recipients/crm_%3Csvg%2Fonload%3Dalert%281%29%3E/7"), "{path}: {place}");
    }
    let page = admin.get("/recipients/crm_%3Csvg%2Fonload%3Dalert%281%29%3E/7").await;
    assert!(page.status == 200 && !page.text.contains("<svg/onload"));
}

#[tokio::test]
async fn a_preview_loads_nothing_from_elsewhere_before_somebody_asks_for_it() {
    let app = TestApp::start().await;
    let editor = Visitor::with_role(&app, Role::Editor).await;
    let mail = "<img src=\"https://tracker.example/{{ data.order_id }}.png\">";
    let form = [
        ("revision", "0"),
        ("default_locale", "en"),
        ("mode", "provider"),
        ("copy.en.subject", "Hello"),
        ("copy.en.body", mail),
    ];
    let shown = editor.post("/templates/order-shipped-email/preview", &form).await.text;
    assert!(shown.contains("data-loads-images") && shown.contains("src=\"/mail-frame\""), "{shown}");
    let policy = |seen: &Seen| seen.headers["content-security-policy"].to_str().unwrap().to_owned();
    let frame = policy(&editor.get("/mail-frame").await);
    assert!(frame.contains("default-src 'none'") && frame.contains("img-src data:;"), "{frame}");
    let asked = policy(&editor.get("/mail-frame?images=yes").await);
    assert!(
        asked.contains("img-src https: data:;") && asked.starts_with("sandbox allow-scripts;"),
        "{asked}"
    );
    let page = policy(&editor.get("/templates/order-shipped-email").await);
    assert!(!page.contains("https:"), "{page}");
}

#[tokio::test]
async fn the_sandbox_answers_to_no_foreign_name() {
    let app = TestApp::start().await;
    let http = reqwest::Client::new();
    let ask = async |host: &str, path: &str| {
        let request = http.get(format!("{}{path}", app.sandbox_url)).header("host", host);
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/", "/_sandbox/messages", "/notifications"] {
        assert_eq!(ask("evil.example", path).await, 421, "{path}");
        assert_eq!(ask("evil.example:8081", path).await, 421, "{path}");
    }
    assert_eq!(ask("localhost:8081", "/_sandbox/messages").await, 200);
    assert_eq!(ask("127.0.0.1:8081", "/_sandbox/messages").await, 200);
}

#[tokio::test]
async fn a_form_of_somebody_who_is_not_logged_in_is_small() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let (large, larger) = ("x".repeat(17 * 1_024), "x".repeat(2 * 1_024 * 1_024));
    let stranger = Visitor::stranger(&app);
    for path in ["/log-in", "/set-up", "/welcome", "/log-in/code"] {
        assert_eq!(stranger.post(path, &[("password", &large)]).await.status, 413, "{path}");
    }
    let path = "/templates/order-shipped-push/preview";
    assert_ne!(admin.post(path, &[("copy.en.contents", &large)]).await.status, 413);
    assert_eq!(admin.post(path, &[("copy.en.contents", &larger)]).await.status, 413);
}

#[tokio::test]
async fn a_form_that_never_comes_to_its_end_is_given_up_after_fifteen_seconds() {
    let app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /log-in HTTP/1.1\r\nHost: herald\r\nOrigin: http://herald\r\nContent-Length: 1000\r\n\r\nemail=";
    stream.write_all(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    let mut answer = vec![0; 1_024];
    let read = tokio::time::timeout(Duration::from_secs(25), stream.read(&mut answer)).await;
    let read = read.expect("an answer").unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(began.elapsed() > Duration::from_secs(14), "{:?}", began.elapsed());
}
