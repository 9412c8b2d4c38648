//! `herald replay`: deliveries made again, after a look at what that means.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{ClientArgs, plain};

/// What to make again.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub struct ReplayArgs {
    /// Deliveries (dlv_…); without any, those that the filters find
    deliveries: Vec<String>,
    /// In this final state: exhausted and rejected unless named
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Of this event type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// By this rule
    #[arg(long)]
    rule: Option<String>,
    /// Of this template
    #[arg(long)]
    template: Option<String>,
    /// With this decision as the last one, such as rejected
    #[arg(long)]
    code: Option<String>,
    /// Made at this time or later (RFC 3339); seven days back unless named
    #[arg(long)]
    since: Option<String>,
    /// Made before this time (RFC 3339)
    #[arg(long)]
    until: Option<String>,
    /// same (as pinned), live, or a version's number
    #[arg(long, default_value = "same")]
    version: String,
    /// Why: it is shown at each delivery
    #[arg(long)]
    reason: String,
    /// Also those that have reached somebody, or may have
    #[arg(long)]
    may_duplicate: bool,
    /// Also those whose time is over
    #[arg(long)]
    even_if_expired: bool,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Don't ask
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
        }
        return Ok(if count == 0 { ExitCode::from(2) } else { ExitCode::SUCCESS });
    }
    if !args.yes {
        show(&plan);
        if !std::io::stdin().is_terminal() {
            bail!("nothing was made: say --yes where nobody can be asked");
        }
        if !confirmed(count)? {
            println!("nothing was made");
            return Ok(ExitCode::from(2));
        }
    }
    let made = args.client.call(Method::POST, "/v1/replays", Some(&request)).await?;
    if args.client.json {
        println!("{made:#}");
    } else {
        let count = made["count"].as_u64().unwrap_or_default();
        let what = if count == 1 { "delivery was" } else { "deliveries were" };
        println!("{count} {what} made again as {}", plain(&made["id"]));
    }
    Ok(ExitCode::SUCCESS)
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
    print!("make {count} {} again? [y/N] ", if count == 1 { "delivery" } else { "deliveries" });
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn show(plan: &Value) {
    let list = |name: &str| plan[name].as_array().cloned().unwrap_or_default();
    let count = plan["count"].as_u64().unwrap_or_default();
    println!("{count} {} made again", if count == 1 { "delivery is" } else { "deliveries are" });
    for group in list("groups") {
        let why = group["detail"].as_str().map(|detail| format!(": {detail}")).unwrap_or_default();
        println!("  {} {}{why}", plain(&group["count"]), plain(&group["state"]));
    }
    for version in list("versions") {
        println!(
            "  {} say {} v{}",
            plain(&version["count"]),
            plain(&version["template"]),
            plain(&version["version"])
        );
    }
    if let Some(second) = plan["second_copies"].as_u64().filter(|count| *count > 0) {
        println!("  {second} may reach somebody a second time");
    }
    for left in list("left_out") {
        println!("{} left out: {}", plain(&left["count"]), plain(&left["detail"]));
    }
    if plan["is_complete"] == false {
        println!("there are more than one replay takes: narrow it down, or run it again after this one");
    }
}
