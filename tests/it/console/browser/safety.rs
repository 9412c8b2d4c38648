//! What must not happen, and whom no page may keep out.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_in_an_event_never_runs() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    let mut event = order_shipped("evil", "<img src=x onerror=\"document.title='taken'\">");
    event["data"]["name"] = json!("<script>document.title='taken'</script>");
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    browser.log_in(&app, Role::Viewer).await;
    let delivery =
        accepted["deliveries"].as_array().unwrap().iter().find(|d| d["channel"] == "email").unwrap();
    for path in [
        "/".to_owned(),
        format!("/events/{}", accepted["id"].as_str().unwrap()),
        format!("/deliveries/{}", delivery["id"].as_str().unwrap()),
    ] {
        browser.client.goto(&format!("{}{path}", app.url)).await.unwrap();
        browser.wait("main").await;
        assert_ne!(browser.client.title().await.unwrap(), "taken", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_a_draft_and_can_neither_save_nor_publish_it() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    let editor = Visitor::with_role(&app, Role::Editor).await;
    let form = [
        ("revision", "0"),
        ("default_locale", "en"),
        ("mode", "provider"),
        ("copy.en.contents", "New words"),
    ];
    assert_eq!(editor.post("/templates/order-shipped-push/draft", &form).await.status, 303);
    browser.log_in(&app, Role::Viewer).await;
    browser.client.goto(&format!("{}/templates/order-shipped-push", app.url)).await.unwrap();
    browser.says("New words").await;
    assert!(browser.client.find(Locator::Css("#editor button.save")).await.is_err());
    browser.client.goto(&format!("{}/templates/order-shipped-push/publish", app.url)).await.unwrap();
    browser.says("Your role does not allow publishing").await;
    let post = "const done = arguments[0]; fetch('/templates/order-shipped-push/publish',
        { method: 'POST', body: new URLSearchParams({ revision: 1 }) }).then((answer) => done(answer.status));";
    assert_eq!(browser.client.execute_async(post, vec![]).await.unwrap(), json!(403));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_site_s_form_does_nothing_though_the_browser_is_logged_in() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Operator).await;
    let evil = format!(
        "<form method=post action='{}/issues/switches/close'><input name=what value='app all'><input name=reason value=forged></form><script>document.forms[0].submit()</script>",
        app.url
    );
    let site =
        axum::Router::new().route("/", axum::routing::get(move || async move { axum::response::Html(evil) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move { axum::serve(listener, site).await });
    // A name of its own makes it another site.
    browser.client.goto(&format!("http://localhost:{port}/")).await.unwrap();
    browser.says("sent from another site").await;
    assert!(app.get("/v1/gates").await.as_array().unwrap().is_empty());
    server.abort();
}

/// The accessibility checker's script: axe, of Deque Systems, unchanged; its licence lies beside it.
const AXE: &str = include_str!("../axe/axe.min.js");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_can_be_used_by_everybody() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    browser.log_in(&app, Role::Admin).await;
    // The page with the picture that authenticators read.
    browser.client.goto(&format!("{}/settings/second-factor", app.url)).await.unwrap();
    browser.click("main button.primary").await;
    browser.wait(".qr svg").await;
    let event = format!("/events/{}", accepted["id"].as_str().unwrap());
    let delivery = format!("/deliveries/{}", accepted["deliveries"][0]["id"].as_str().unwrap());
    let replay = format!("/issues/replay?delivery={}", accepted["deliveries"][0]["id"].as_str().unwrap());
    let pages = [
        "/",
        &event,
        &delivery,
        "/recipients",
        "/recipients/external_id/user-42",
        "/templates",
        "/templates/order-shipped-push",
        "/templates/order-shipped-push/history",
        "/rules",
        "/rules/order-shipped-push",
        "/rules/new",
        "/event-types",
        "/event-types/order.shipped",
        "/event-types/new",
        "/issues",
        "/health",
        "/settings",
        "/settings/apps",
        "/settings/keys",
        "/settings/team",
        "/settings/audit",
        "/settings/retention",
        "/settings/webhooks",
        "/settings/password",
        "/settings/second-factor",
        "/log-in",
        "/templates/order-shipped-email",
        "/templates/order-shipped-push/publish",
        "/templates/order-shipped-push/test",
        &replay,
        "/issues/group?state=held&code=missing_value",
        "/nothing-here",
        "/welcome",
    ];
    let mut found = Vec::new();
    for page in pages {
        browser.client.goto(&format!("{}{page}", app.url)).await.unwrap();
        browser.wait("main").await;
        browser.client.execute(AXE, vec![]).await.unwrap();
        let check = "const done = arguments[arguments.length - 1];
            axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], iframes: false })
               .then((found) => done(found.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`)));";
        let violations = browser.client.execute_async(check, vec![]).await.unwrap();
        found.extend(violations.as_array().unwrap().iter().map(|one| format!("{page}: {one}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
