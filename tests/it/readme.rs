//! README's commands for a real installation, as they are written there, on an empty database.

use crate::support::app::TestApp;
use crate::support::database;
use crate::support::processes::run;

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_run_it_for_real_work_on_an_empty_database() {
    let onesignal = TestApp::start().await;
    let database = database::empty().await;
    let variables = [
        ("HERALD_DATABASE_URL", &*database),
        ("HERALD_SECRET_KEY", database::SECRET_KEY),
        ("HERALD_ALLOW_UNSAFE_POSTGRES", "true"),
        ("HERALD_ONESIGNAL__APP_ID", "5a0d0000-0000-4000-8000-000000000001"),
        ("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox"),
        ("HERALD_ONESIGNAL__BASE_URL", onesignal.sandbox_url.as_str()),
    ];
    let (_, section) =
        include_str!("../../README.md").split_once("## Running in production").expect("the section");
    let line = section.lines().find(|line| line.starts_with("herald migrate")).expect("the commands");
    let commands: Vec<&str> = line.split(" && ").collect();
    let (serve, before) = commands.split_last().expect("commands");
    assert_eq!(*serve, "herald serve");
    for command in before {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        let output = run(&words, &variables).await;
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
