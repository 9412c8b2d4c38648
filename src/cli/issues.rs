//! `herald issues`: what needs attention, grouped by reason.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;

use super::client::{ClientArgs, plain};

#[derive(Debug, Args)]
pub struct IssuesArgs {
    /// Include deliveries created at or after this time (RFC 3339) [default: 7 days ago]
    #[arg(long)]
    since: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: IssuesArgs) -> anyhow::Result<ExitCode> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(since) = &args.since {
        query.append_pair("since", since);
    }
    let path = format!("/v1/issues?{}", query.finish());
    let issues = args.client.call(Method::GET, path.trim_end_matches('?'), None).await?;
    if args.client.json {
        println!("{issues:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let groups = issues["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
    if groups.is_empty() {
        println!("no open issues since {}", plain(&issues["since"]));
    }
    for group in groups {
        println!(
            "{} {}: {} ({}, rule {})",
            plain(&group["count"]),
            plain(&group["state"]).to_uppercase(),
            plain(&group["code"]),
            plain(&group["template"]),
            plain(&group["rule"])
        );
        println!("  {}", plain(&group["detail"]));
        println!("  for example {}, latest at {}", plain(&group["example"]), plain(&group["newest_at"]));
        println!("  -> {}\n", plain(&group["remedy"]));
    }
    if issues["is_complete"] == false {
        println!("the list is incomplete: narrow it down with --since");
    }
    Ok(ExitCode::SUCCESS)
}
