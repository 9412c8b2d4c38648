//! `herald dev`: one command, and a message has arrived; what it keeps outlives every way of stopping it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::processes::{PATIENCE, free_port, herald, scratch, tick};

/// A running `herald dev`, with everything that it has printed.
struct Dev {
    child: Child,
    printed: String,
    sandbox_port: u16,
    url: String,
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Dev {
    /// Starts it and reads until it says how to stop it.
    async fn start(data: &Path, ports: (u16, u16), more: &[&str]) -> Self {
        let mut command = herald();
        command.args([
            "dev",
            "--port",
            &ports.0.to_string(),
            "--sandbox-port",
            &ports.1.to_string(),
            "--data",
        ]);
        let mut child = command.arg(data).args(more).stdout(Stdio::piped()).spawn().expect("it starts");
        let output = child.stdout.take().expect("its output");
        let reading = tokio::task::spawn_blocking(move || {
            let mut printed = String::new();
            for line in BufReader::new(output).lines() {
                let line = line.expect("text");
                printed.push_str(&line);
                printed.push('\n');
                if line.contains("Stop with Ctrl-C") {
                    break;
                }
            }
            printed
        });
        let printed = tokio::time::timeout(PATIENCE, reading).await.expect("in time").expect("read");
        assert!(printed.contains("Stop with Ctrl-C"), "it ended early: {printed}");
        Self { child, printed, sandbox_port: ports.1, url: format!("http://127.0.0.1:{}", ports.0) }
    }

    fn key(&self) -> &str {
        let line = self.printed.lines().find_map(|line| line.trim().strip_prefix("Key ")).expect("a key");
        line.trim()
    }

    async fn messages(&self) -> usize {
        let url = format!("http://127.0.0.1:{}/_sandbox/messages?limit=1000", self.sandbox_port);
        let page: Value = reqwest::get(url).await.expect("an answer").json().await.expect("JSON");
        page["data"].as_array().expect("messages").len()
    }

    async fn stop(mut self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it runs");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                assert!(signal == Signal::SIGKILL || status.success(), "{status}");
                return;
            }
            assert!(std::time::Instant::now() < deadline, "it has not ended");
            tick().await;
        }
    }
}

/// The event that the printed curl line posts.
fn pasted(printed: &str) -> Value {
    let line = printed.lines().find(|line| line.trim().starts_with("curl ")).expect("a curl line");
    let body = line.split("-d '").nth(1).and_then(|rest| rest.strip_suffix('\'')).expect("a body");
    serde_json::from_str(body).expect("JSON")
}

fn data_folder() -> PathBuf {
    scratch("dev")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_and_everything_is_kept_however_it_is_stopped() {
    herald::app::choose_tls();
    let data = data_folder();
    let ports = (free_port(), free_port());
    let first = Dev::start(&data, ports, &[]).await;
    for shown in [
        "[push] Your order is on its way",
        "Hi Anna, DHL brings order 1001",
        "[email] Order 1001 is on its way",
    ] {
        assert!(first.printed.contains(shown), "{shown}: {}", first.printed);
    }
    assert_eq!(first.messages().await, 2);
    let http = reqwest::Client::new();
    let post = http.post(format!("{}/v1/events", first.url)).bearer_auth(first.key());
    assert_eq!(post.json(&pasted(&first.printed)).send().await.unwrap().status(), 202);
    let key = first.key().to_owned();
    let deadline = std::time::Instant::now() + PATIENCE;
    while first.messages().await < 4 {
        assert!(std::time::Instant::now() < deadline, "the second event's messages have not arrived");
        tick().await;
    }
    first.stop(Signal::SIGINT).await;

    let second = Dev::start(&data, ports, &[]).await;
    assert_eq!(
        (second.key(), second.messages().await),
        (key.as_str(), 6),
        "two more, and the first four are kept"
    );
    let again = http.post(format!("{}/v1/events", second.url)).bearer_auth(&key);
    let answer: Value =
        again.json(&json!({"id": "x", "type": "order.shiped"})).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["code"], "unknown_event_type");
    second.stop(Signal::SIGKILL).await;

    let third = Dev::start(&data, ports, &[]).await;
    assert_eq!(third.messages().await, 8, "what the killed one left behind was stopped, and kept");
    third.stop(Signal::SIGTERM).await;

    let fresh = Dev::start(&data, ports, &["--fresh"]).await;
    assert_eq!(fresh.messages().await, 2);
    fresh.stop(Signal::SIGINT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_changed_in_the_catalog_stays_over_a_restart() {
    herald::app::choose_tls();
    let data = data_folder();
    let ports = (free_port(), free_port());
    let first = Dev::start(&data, ports, &[]).await;
    let rule =
        "event = \"order.shipped\"\ntemplate = \"order-shipped-push\"\nwhen = \"data.carrier == 'UPS'\"\n";
    let email = rule.replace("-push", "-email");
    let files =
        json!({"files": {"rules/order-shipped-push.toml": rule, "rules/order-shipped-email.toml": email}});
    let http = reqwest::Client::new();
    let apply = http.post(format!("{}/v1/catalog/apply", first.url)).bearer_auth(first.key()).json(&files);
    let applied = apply.send().await.unwrap();
    assert!(applied.status().is_success(), "{}", applied.text().await.unwrap());
    first.stop(Signal::SIGINT).await;
    // The sample event finds no rule any more: Herald runs all the same, and says so.
    let second = Dev::start(&data, ports, &[]).await;
    assert!(second.printed.contains("order.shipped failed"), "{}", second.printed);
    let rule = http.get(format!("{}/v1/rules/order-shipped-push", second.url)).bearer_auth(second.key());
    let rule: Value = rule.send().await.unwrap().json().await.unwrap();
    assert!(rule.to_string().contains("UPS"), "{rule}");
    second.stop(Signal::SIGINT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_with_the_flag_that_changes_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let free = free_port().to_string();
    let data = data_folder();
    for (arguments, flag) in [
        (["--port", port.as_str(), "--sandbox-port", free.as_str()], "--port"),
        (["--port", free.as_str(), "--sandbox-port", port.as_str()], "--sandbox-port"),
    ] {
        let mut command = herald();
        command.arg("dev").args(arguments).arg("--data").arg(&data);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(&format!("port {port} is in use")), "{words}");
        assert!(words.contains(&format!("with {flag}")), "{words}");
    }
}
