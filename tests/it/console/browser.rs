//! The console in a real browser: the main stories, by mouse and by keyboard. Without a driver this says so; where `CI`
//! is set, that is a failure.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use super::visitor::PASSWORD;
use super::*;

/// How long a page may take to become what is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// One browser at a time: several at once on a small machine only wait for each other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A driver with one browser; both go with it.
struct Browser {
    client: Client,
    driver: Child,
    port: u16,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Browser {
    /// Opens one, or says why not.
    async fn open() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(driver) = driver else {
            assert!(std::env::var_os("CI").is_none(), "the browser's tests need chromedriver");
            eprintln!("skipped: there is no chromedriver (Debian: chromium-driver)");
            return None;
        };
        let turn = TURN.lock().await;
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--window-size=1280,900",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ];
        let wanted = json!({"goog:chromeOptions": {"args": arguments}});
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(wanted.as_object().expect("an object").clone());
        let address = format!("http://127.0.0.1:{port}");
        for _ in 0..400 {
            if let Ok(client) = builder.connect(&address).await {
                return Some(Self { client, driver, port, _turn: turn });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("chromedriver did not answer");
    }

    async fn wait(&self, css: &str) -> fantoccini::elements::Element {
        let found = self.client.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{css}: {error}\n{}", self.client.source().await.unwrap_or_default()),
        }
    }

    async fn click(&self, css: &str) {
        self.wait(css).await.click().await.expect(css);
    }

    async fn write(&self, css: &str, text: &str) {
        let field = self.wait(css).await;
        field.clear().await.expect(css);
        field.send_keys(text).await.expect(css);
    }

    /// Waits until the page says `text`.
    async fn says(&self, text: &str) {
        let began = std::time::Instant::now();
        loop {
            let body = self.wait("body").await.text().await.unwrap_or_default();
            if body.contains(text) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the page never said `{text}`:\n{body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn log_in(&self, app: &TestApp, role: Role) {
        let _ = Visitor::with_role(app, Role::Admin).await;
        if role != Role::Admin {
            let _ = Visitor::with_role(app, role).await;
        }
        self.client.goto(&format!("{}/log-in", app.url)).await.expect("the log-in");
        self.write("[name=email]", &format!("{}@shop.example", role.as_str())).await;
        self.write("[name=password]", PASSWORD).await;
        self.click("button.primary").await;
        self.says("Live").await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, the driver closes its browser; killed, it would leave parts of it running.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ =
                stream.write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_admin_sets_up_edits_sees_a_problem_mends_it_publishes_and_goes_back() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    let token = app.herald.team.offer_set_up().await.unwrap().unwrap();
    browser.client.goto(&app.url).await.unwrap();
    browser.says("Set up the console").await;
    browser.write("[name=token]", secrecy::ExposeSecret::expose_secret(&token)).await;
    browser.write("[name=name]", "Mia").await;
    browser.write("[name=email]", "mia@shop.example").await;
    browser.write("[name=password]", PASSWORD).await;
    browser.click("button.primary").await;
    browser.says("No event has arrived yet").await;

    browser.click(".rail a[href='/templates']").await;
    browser.click("a[href='/templates/order-shipped-push']").await;
    browser.says("Hi Anna, DHL brings order 1001").await;
    let contents = "textarea[name='copy.en.contents']";
    browser.write(contents, "Hi {{ data.carier }}").await;
    browser.says("carrier").await;
    browser.wait(".problems li.error").await;
    browser.write(contents, "Hello from {{ data.carrier }}").await;
    browser.says("Hello from DHL").await;
    browser.click("#editor button.primary").await;
    browser.says("Draft saved.").await;
    browser.click("a[href$='/publish']").await;
    browser.says("Publish version 2").await;
    browser.click("form[action$='/publish'] button.primary").await;
    browser.says("Version 2 is live").await;
    // A question comes before the way back.
    browser.click("form[action$='/rollback'] button").await;
    assert!(browser.client.get_alert_text().await.unwrap().contains("version 1"));
    browser.client.accept_alert().await.unwrap();
    browser.says("says again what v1 said").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_keeps_itself_fresh_and_the_keyboard_alone_finds_why() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Viewer).await;
    app.accept(&order_shipped("order-77", "user-42")).await;
    app.run_until_idle().await;
    browser.says("order-77").await;
    let body = browser.wait("body").await;
    body.send_keys("/").await.unwrap();
    let focused = browser.client.active_element().await.unwrap();
    assert_eq!(focused.attr("id").await.unwrap().as_deref(), Some("find"));
    focused.send_keys("order-77").await.unwrap();
    focused.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    browser.says("What happened").await;
    browser.says("user-42").await;
    let body = browser.wait("main").await;
    body.send_keys(&format!("{}k", char::from(Key::Control))).await.unwrap();
    let input = browser.wait("#palette[open] input").await;
    input.send_keys("order-shipped-email").await.unwrap();
    browser.wait("#palette-list a[href='/templates/order-shipped-email']").await;
    for _ in 0..8 {
        input.send_keys(&char::from(Key::Down).to_string()).await.unwrap();
        let chosen = browser.wait("#palette-list [aria-selected=true] a").await;
        if chosen.attr("href").await.unwrap().as_deref() == Some("/templates/order-shipped-email") {
            break;
        }
    }
    input.send_keys(&char::from(Key::Enter).to_string()).await.unwrap();
    browser.says("Order {{ data.order_id }}").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsaved_work_outlives_a_reload() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    let page = format!("{}/templates/order-shipped-push", app.url);
    browser.client.goto(&page).await.unwrap();
    browser.write("textarea[name='copy.en.contents']", "Half a thought").await;
    browser.says("Not saved yet").await;
    browser.client.execute("window.onbeforeunload = null; location.reload()", vec![]).await.ok();
    browser.client.accept_alert().await.ok();
    browser.says("Not saved since").await;
    browser.click("[data-saved] button").await;
    let text = browser.wait("textarea[name='copy.en.contents']").await.prop("value").await.unwrap();
    assert_eq!(text.as_deref(), Some("Half a thought"));
}

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
async fn a_mail_is_shown_with_its_styles_in_a_frame_without_rights() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    browser.log_in(&app, Role::Editor).await;
    browser.client.goto(&format!("{}/templates/order-shipped-email", app.url)).await.unwrap();
    let mail = "<p style=\"color: rgb(1, 2, 3)\" id=\"styled\">Styled {{ data.carrier }}</p><script>parent.document.title = 'taken'; document.title = 'taken'</script><img src=\"data:,x\" onerror=\"document.body.id = 'ran'\">";
    browser.write("textarea[name='copy.en.body']", mail).await;
    let frame = "#preview section[data-locale=en] iframe.wide";
    let began = std::time::Instant::now();
    loop {
        browser.wait(frame).await.enter_frame().await.ok();
        let styled = browser.client.find(Locator::Css("#styled")).await;
        if let Ok(styled) = styled {
            assert_eq!(styled.css_value("color").await.unwrap(), "rgba(1, 2, 3, 1)");
            assert_eq!(styled.text().await.unwrap(), "Styled DHL");
            break;
        }
        browser.client.clone().enter_parent_frame().await.ok();
        assert!(began.elapsed() < PATIENCE, "the mail was never shown");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(browser.client.find(Locator::Css("#ran")).await.is_err(), "what the mail brought along was run");
    browser.client.clone().enter_parent_frame().await.unwrap();
    assert_ne!(browser.client.title().await.unwrap(), "taken");
}

/// The accessibility checker's script: axe, of Deque Systems, unchanged; its licence lies beside it.
const AXE: &str = include_str!("axe/axe.min.js");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_can_be_used_by_everybody() {
    let Some(browser) = Browser::open().await else { return };
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("order-1", "user-42")).await;
    app.run_until_idle().await;
    browser.log_in(&app, Role::Admin).await;
    let event = format!("/events/{}", accepted["id"].as_str().unwrap());
    let delivery = format!("/deliveries/{}", accepted["deliveries"][0]["id"].as_str().unwrap());
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
        "/trouble",
        "/health",
        "/settings",
        "/settings/apps",
        "/settings/keys",
        "/settings/team",
        "/settings/audit",
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
               .then((told) => done(told.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`)));";
        let told = browser.client.execute_async(check, vec![]).await.unwrap();
        found.extend(told.as_array().unwrap().iter().map(|one| format!("{page}: {one}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
