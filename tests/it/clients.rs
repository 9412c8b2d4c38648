//! OneSignal's official clients, unchanged, against the sandbox: `tests/clients`.
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

use std::path::PathBuf;
use std::process::{Command, Output};

use herald::sandbox::SandboxOptions;

use crate::sandbox::support::{Served, unlimited};

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
async fn tell(prepare: impl FnOnce() -> Command + Send + 'static) {
    let plan = SandboxOptions::paid().plan;
    let served = Served::with(SandboxOptions { plan, ..unlimited() }).await;
    let url = served.url("");
    let told = tokio::task::spawn_blocking(move || succeed(prepare().arg(url))).await.unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("told its story"));
}

#[tokio::test]
async fn the_python_client_works_unchanged() {
    if !has("python3") {
        return;
    }
    tell(|| {
        let folder = installed("python");
        let python = folder.join("bin/python");
        if !python.exists() {
            succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        }
        let wanted = story("python").join("requirements.txt");
        succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(wanted));
        let mut command = Command::new(python);
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
    tell(|| {
        let folder = installed("node");
        for file in ["package.json", "story.js"] {
            std::fs::copy(story("node").join(file), folder.join(file)).unwrap();
        }
        let quiet = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"];
        succeed(Command::new("npm").args(quiet).current_dir(&folder));
        let mut command = Command::new("node");
        command.arg(folder.join("story.js"));
        command
    })
    .await;
}

#[tokio::test]
async fn the_rust_client_works_unchanged() {
    tell(|| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["run", "--quiet", "--locked", "--manifest-path"]);
        command.arg(story("rust").join("Cargo.toml")).arg("--target-dir").arg(installed("rust")).arg("--");
        command
    })
    .await;
}
