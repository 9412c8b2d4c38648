//! `herald stats`: funnels, the comparison of two versions, and whether the counts are correct.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::Method;
use serde_json::Value;

use super::client::{ClientArgs, plain};
use super::counted;

#[derive(Debug, Subcommand)]
pub enum StatsCommand {
    /// Show what happened to messages, by template, version, rule, event type, channel, locale or day
    Show(ShowArgs),
    /// Compare two versions of a template
    Compare(CompareArgs),
    /// Count all outcomes again and compare with the statistics (exit code 2 if they differ)
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// template, version, rule, `event_type`, channel, locale or day
    #[arg(long, default_value = "template")]
    by: String,
    /// First day, such as 2026-11-24 [default: 30 days before the last one]
    #[arg(long)]
    since: Option<String>,
    /// Last day [default: today]
    #[arg(long)]
    until: Option<String>,
    /// Only this template
    #[arg(long)]
    template: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The template
    template: String,
    /// The first version
    a: i32,
    /// The second version
    b: i32,
    /// clicked, opened or delivered
    #[arg(long, default_value = "clicked")]
    metric: String,
    /// How many people of each version are needed
    #[arg(long, default_value_t = 1_000)]
    people: i64,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Correct the statistics
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(command: StatsCommand) -> anyhow::Result<ExitCode> {
    match command {
        StatsCommand::Show(args) => show(&args).await,
        StatsCommand::Compare(args) => compare(&args).await,
        StatsCommand::Verify(args) => verify(&args).await,
    }
}

async fn show(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("by", &args.by);
    for (name, value) in [("since", &args.since), ("until", &args.until), ("template", &args.template)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let stats = args.client.call(Method::GET, &format!("/v1/stats?{}", query.finish()), None).await?;
    if args.client.json {
        println!("{stats:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let groups = stats["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if groups.is_empty() {
        println!("nothing was sent from {} to {}", plain(&stats["since"]), plain(&stats["until"]));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(["", "accepted", "measured", "delivered", "opened", "clicked", "failed", "bounced", ""]);
    for group in groups {
        let name: Vec<String> =
            group["group"].as_object().into_iter().flatten().map(|(_, value)| plain(value)).collect();
        let note = if group["still_counting"] == true { "still counting" } else { "" };
        let cells = ["delivered", "opened", "clicked", "failed", "bounced"].map(|kind| share(&group[kind]));
        let row = [name.join(" v"), plain(&group["accepted"]), percent(&group["coverage"])];
        table.add_row(row.into_iter().chain(cells).chain([note.to_owned()]));
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// A count with its rate; `-` for what was not measured.
fn share(share: &Value) -> String {
    if share.is_null() {
        "-".to_owned()
    } else {
        format!("{} ({})", share["people"], percent(&share["rate"]))
    }
}

fn percent(rate: &Value) -> String {
    rate.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{:.1} %", rate * 100.0))
}

async fn compare(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("template", &args.template)
        .append_pair("a", &args.a.to_string())
        .append_pair("b", &args.b.to_string())
        .append_pair("metric", &args.metric)
        .append_pair("people", &args.people.to_string());
    let found =
        args.client.call(Method::GET, &format!("/v1/stats/comparison?{}", query.finish()), None).await?;
    if args.client.json {
        println!("{found:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", plain(&found["text"]));
    for arm in [&found["a"], &found["b"]] {
        println!(
            "  v{}: {} of {} people ({})",
            arm["version"],
            arm["successes"],
            arm["people"],
            percent(&arm["rate"])
        );
    }
    if let Some([low, high]) = found["difference"].as_array().map(Vec::as_slice) {
        println!("  difference {} to {} (95 % interval)", percent(low), percent(high));
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    if args.repair {
        let done = args.client.call(Method::POST, "/v1/stats/check", None).await?;
        if args.client.json {
            println!("{done:#}");
        } else {
            println!("{} corrected", plain(&done["repaired"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let check = args.client.call(Method::GET, "/v1/stats/check", None).await?;
    let differences = check["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
    if args.client.json {
        println!("{check:#}");
    } else if differences.is_empty() {
        println!("the statistics are what the outcomes say");
    } else {
        for one in differences {
            println!(
                "{} {} v{} by {}",
                plain(&one["day"]),
                plain(&one["template"]),
                one["version"],
                plain(&one["rule"])
            );
            println!("  stored  {}\n  counted {}", one["stored"], one["counted"]);
        }
        println!(
            "{}; `herald stats verify --repair` corrects them",
            counted(differences.len(), "difference")
        );
    }
    Ok(if differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
