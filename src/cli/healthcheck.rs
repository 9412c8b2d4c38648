//! `herald healthcheck`: the readiness probe.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// Herald's URL
    #[arg(long, env = "HERALD_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
}

pub(super) async fn run(args: HealthcheckArgs) -> anyhow::Result<ExitCode> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).build()?;
    let url = format!("{}/readyz", args.url.trim_end_matches('/'));
    match client.get(&url).send().await {
        Ok(answer) if answer.status().is_success() => {
            println!("ready");
            Ok(ExitCode::SUCCESS)
        }
        Ok(answer) => {
            let body: serde_json::Value = answer.json().await.unwrap_or_default();
            eprintln!("herald: not ready: {}", body["reason"].as_str().unwrap_or("no reason given"));
            Ok(ExitCode::FAILURE)
        }
        Err(_) => {
            eprintln!("herald: no response from {url}");
            Ok(ExitCode::FAILURE)
        }
    }
}
