//! `herald replay`: replaying deliveries, after showing a plan.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{ClientArgs, plain, with_flags};

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub struct ReplayArgs {
    /// Delivery IDs (dlv_…) [default: those that match the filters]
    deliveries: Vec<String>,
    /// Only deliveries in this final state; repeatable [default: exhausted and rejected]
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Only this event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only this rule
    #[arg(long)]
    rule: Option<String>,
    /// Only this template
    #[arg(long)]
    template: Option<String>,
    /// Only deliveries whose last decision is this one, such as rejected
    #[arg(long)]
    code: Option<String>,
    /// Created at or after this time (RFC 3339) [default: 7 days ago]
    #[arg(long)]
    since: Option<String>,
    /// Created before this time (RFC 3339)
    #[arg(long)]
    until: Option<String>,
    /// Template version: same (the pinned one), live, or a version number
    #[arg(long, default_value = "same")]
    version: String,
    /// Reason, shown on each delivery
    #[arg(long)]
    reason: String,
    /// Include deliveries that may already have reached the recipient
    #[arg(long)]
    may_duplicate: bool,
    /// Include expired deliveries
    #[arg(long)]
    even_if_expired: bool,
    /// Show the plan without replaying anything
    #[arg(long)]
    dry_run: bool,
    /// Don't ask for confirmation
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let request = request(&args);
    let plan = args.client.call(Method::POST, "/v1/replays?dry_run=true", Some(&request)).await?;
    let count = plan["count"].as_u64().unwrap_or_default();
    if args.dry_run || count == 0 {
        if args.client.json {
            println!("{plan:#}");
        } else {
            show(&plan);
            if count == 0 {
                explain_unfinished(&args).await?;
            }
        }
        return Ok(if count == 0 { ExitCode::from(2) } else { ExitCode::SUCCESS });
    }
    if !args.yes {
        show(&plan);
        if !std::io::stdin().is_terminal() {
            bail!("nothing was replayed: pass --yes when there is no terminal to ask at");
        }
        if !confirmed(count)? {
            println!("nothing was replayed");
            return Ok(ExitCode::from(2));
        }
    }
    let made = args.client.call(Method::POST, "/v1/replays", Some(&request)).await?;
    if args.client.json {
        println!("{made:#}");
    } else {
        let count = made["count"].as_u64().unwrap_or_default();
        let what = if count == 1 { "delivery was" } else { "deliveries were" };
        println!("{count} {what} replayed as {}", plain(&made["id"]));
    }
    Ok(ExitCode::SUCCESS)
}

/// Explains why the given deliveries can't be replayed: they have not ended.
async fn explain_unfinished(args: &ReplayArgs) -> anyhow::Result<()> {
    const IN_PROGRESS: [&str; 4] = ["queued", "scheduled", "sending", "retrying"];
    for id in args.deliveries.iter().take(10) {
        let delivery = args.client.call(Method::GET, &format!("/v1/deliveries/{id}"), None).await?;
        match plain(&delivery["state"]).as_str() {
            "held" => println!("{id} is held: release it in the console or through the API"),
            state if IN_PROGRESS.contains(&state) => {
                println!("{id} is {state}: only finished deliveries can be replayed");
            }
            _ => {}
        }
    }
    Ok(())
}

fn request(args: &ReplayArgs) -> Value {
    let mut filter = Map::new();
    let mut say = |name: &str, value: Value| {
        let is_said = match &value {
            Value::Array(items) => !items.is_empty(),
            other => !other.is_null(),
        };
        if is_said {
            filter.insert(name.to_owned(), value);
        }
    };
    say("deliveries", json!(args.deliveries));
    say("states", json!(args.states));
    say("type", json!(args.event_type));
    say("rule", json!(args.rule));
    say("template", json!(args.template));
    say("code", json!(args.code));
    say("since", json!(args.since));
    say("until", json!(args.until));
    let version: Value = args.version.parse::<i64>().map_or_else(|_| json!(args.version), Value::from);
    json!({
        "filter": filter, "version": version, "reason": args.reason,
        "may_duplicate": args.may_duplicate, "even_if_expired": args.even_if_expired,
    })
}

fn confirmed(count: u64) -> anyhow::Result<bool> {
    print!("replay {count} {}? [y/N] ", if count == 1 { "delivery" } else { "deliveries" });
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn show(plan: &Value) {
    let list = |name: &str| plan[name].as_array().cloned().unwrap_or_default();
    let count = plan["count"].as_u64().unwrap_or_default();
    println!("{count} {} be replayed", if count == 1 { "delivery will" } else { "deliveries will" });
    for group in list("groups") {
        let why = group["detail"].as_str().map(|detail| format!(": {detail}")).unwrap_or_default();
        println!("  {} {}{why}", plain(&group["count"]), plain(&group["state"]));
    }
    for version in list("versions") {
        println!(
            "  {} with {} v{}",
            plain(&version["count"]),
            plain(&version["template"]),
            plain(&version["version"])
        );
    }
    if let Some(second) = plan["second_copies"].as_u64().filter(|count| *count > 0) {
        println!("  {second} may reach the recipient a second time");
    }
    for left in list("left_out") {
        println!("{} skipped: {}", plain(&left["count"]), with_flags(&plain(&left["detail"])));
    }
    if plan["is_complete"] == false {
        println!(
            "more deliveries match than one replay can include: narrow the filters, or run it again afterwards"
        );
    }
}
