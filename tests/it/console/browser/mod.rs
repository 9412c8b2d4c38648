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

mod coming_in;
mod editing;
mod finding;
mod safety;

/// How long a page may take to become what is waited for.
const PATIENCE: Duration = Duration::from_secs(40);

/// Keys that are no letters.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

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

    /// Writes a field of the copy anew, as a person does: all of it marked and written over.
    async fn write_copy(&self, field: &str, text: &str) {
        let place = self.wait(&format!("[data-box='copy.{field}'] .cm-content")).await;
        place.click().await.expect(field);
        place
            .send_keys(&format!("{}a{}", char::from(Key::Control), char::from(Key::Null)))
            .await
            .expect(field);
        place.send_keys(text).await.expect(field);
    }

    /// Waits until `text` is what is marked on the page.
    async fn selects(&self, text: &str) {
        let began = std::time::Instant::now();
        loop {
            let marked =
                self.client.execute("return String(getSelection())", vec![]).await.expect("a selection");
            if marked == json!(text) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "`{text}` was never marked, but {marked}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the form would send for a field of the copy.
    async fn copy(&self, field: &str) -> String {
        let area = self.wait(&format!("textarea[name='copy.{field}']")).await;
        area.prop("value").await.expect(field).unwrap_or_default()
    }

    /// Presses keys where the focus is.
    async fn press(&self, keys: &str) {
        self.client.active_element().await.expect("a focus").send_keys(keys).await.expect(keys);
    }

    /// Goes on with Tab, as someone without a mouse does, until the focus is on `css`.
    async fn tab_to(&self, css: &str) {
        self.wait(css).await;
        let is_there = format!("return document.activeElement.matches({css:?})");
        for _ in 0..80 {
            if self.client.execute(&is_there, vec![]).await.expect("a focus") == json!(true) {
                return;
            }
            self.press(TAB).await;
        }
        panic!("Tab never reaches {css}");
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
