//! OneSignal's official clients, unchanged, against the sandbox, and the official libraries of CloudEvents and Standard
//! Webhooks against Herald: `tests/clients`.
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

use std::path::PathBuf;
use std::process::{Command, Output};

use herald::domain::clock::Clock;
use herald::sandbox::SandboxOptions;
use reqwest::Method;
use serde_json::json;

use crate::sandbox::support::{Served, unlimited};
use crate::support::app::TestApp;

/// Where the clients are installed.
fn installed(language: &str) -> PathBuf {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients")).join(language);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn story(language: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients")).join(language)
}

/// Whether the program is there. In CI it has to be.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var_os("CI").is_none(), "{program} is missing, which CI needs");
    if !there {
        println!("skipped: {program} is missing");
    }
    there
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}\n{}", String::from_utf8_lossy(&output.stdout));
    output
}

/// Runs a client's story against a sandbox on the paid plan that is in no hurry.
async fn run_client(prepare: impl FnOnce() -> Command + Send + 'static) {
    let plan = SandboxOptions::paid().plan;
    let served = Served::with(SandboxOptions { plan, ..unlimited() }).await;
    let url = served.url("");
    let output = tokio::task::spawn_blocking(move || succeed(prepare().arg(url))).await.unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("finished its run"));
}

/// Python with the wanted packages; one at a time installs them.
fn python() -> PathBuf {
    static INSTALLED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let install = || {
        let folder = installed("python");
        let python = folder.join("bin/python");
        if !python.exists() {
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        }
        let wanted = story("python").join("requirements.txt");
        succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(wanted));
        python
    };
    INSTALLED.get_or_init(install).clone()
}

/// A folder with the wanted packages of Node and the stories; one at a time installs them.
fn node() -> PathBuf {
    static INSTALLED: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let install = || {
        let folder = installed("node");
        for file in ["package.json", "story.js", "senders.js"] {
            std::fs::copy(story("node").join(file), folder.join(file)).unwrap();
        }
        let quiet = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"];
        succeed(Command::new("npm").args(quiet).current_dir(&folder));
        folder
    };
    INSTALLED.get_or_init(install).clone()
}

#[tokio::test]
async fn the_python_client_works_unchanged() {
    if !has("python3") {
        return;
    }
    run_client(|| {
        let mut command = Command::new(python());
        command.arg(story("python").join("story.py"));
        command
    })
    .await;
}

#[tokio::test]
async fn the_node_client_works_unchanged() {
    if !has("node") || !has("npm") {
        return;
    }
    run_client(|| {
        let mut command = Command::new("node");
        command.arg(node().join("story.js"));
        command
    })
    .await;
}

#[tokio::test]
async fn the_libraries_of_cloudevents_and_standard_webhooks_are_understood() {
    let app = TestApp::start().await;
    let settings = json!({"webhook": {"auth": "standard_webhooks"}, "mapping": [{
        "type": "order.shipped", "recipient": {"external_id": "body.user"},
        "data": {"order_id": "string(body.number)", "carrier": "'DHL'", "eta": "'2026-11-25'"}}]});
    let (status, _, answer) =
        app.call_seen((Method::PUT, "/v1/sources/webshop"), &app.key, None, &settings).await;
    assert_eq!(status, 200, "{answer}");
    let path = "/v1/sources/webshop/secrets";
    let made = app.call(Method::POST, path, Some(&app.key), Some(&json!({}))).await.1;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let arguments = [app.url.clone(), app.key.clone(), secret, app.clock.now().timestamp().to_string()];
    let posted = tokio::task::spawn_blocking(move || {
        let mut commands = Vec::new();
        if has("python3") {
            let mut command = Command::new(python());
            command.arg(story("python").join("senders.py"));
            commands.push(command);
        }
        if has("node") && has("npm") {
            let mut command = Command::new("node");
            command.arg(node().join("senders.js"));
            commands.push(command);
        }
        for command in &mut commands {
            succeed(command.args(&arguments));
        }
        commands.len()
    });
    let posted = posted.await.unwrap();
    assert!(posted < 2 || app.sql::<i64>("SELECT count(*) FROM events").await == 8);
}

/// Every operation is tried with values at the edges of its description, with values that violate it, and with what
/// earlier answers brought.
#[tokio::test]
async fn requests_made_up_from_the_description_find_nothing_that_it_does_not_say() {
    if !has("python3") {
        return;
    }
    let app = TestApp::start().await;
    let description = format!("{}/openapi.json", app.url);
    let key = format!("Authorization: Bearer {}", app.key);
    let examples = std::env::var("HERALD_EXAMPLES").unwrap_or_else(|_| "1".to_owned());
    let tried = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(python().with_file_name("st"));
        // It keeps notes where it runs.
        command.current_dir(installed("python"));
        command.arg("--config-file").arg(story("python").join("schemathesis.toml"));
        command.args(["run", &description, "-H", &key, "--max-examples", &examples, "--seed", "18"]);
        succeed(command.args(["--continue-on-failure", "--no-color"]))
    });
    let tried = tried.await.unwrap();
    let said = String::from_utf8_lossy(&tried.stdout);
    println!("{}", said.split("SUMMARY").nth(1).unwrap_or_default());
    // Every operation, of which there are more than a hundred.
    assert!(said.contains("Tested: 106"), "{said}");
}

#[tokio::test]
async fn the_rust_client_works_unchanged() {
    run_client(|| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--locked", "--manifest-path"]);
        command.arg(story("rust").join("Cargo.toml")).arg("--target-dir").arg(installed("rust")).arg("--");
        command
    })
    .await;
}
