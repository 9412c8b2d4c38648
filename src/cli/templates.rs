//! `herald templates`: listing, checking, previewing, publishing and rolling back.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use reqwest::Method;
use serde_json::{Value, json};

use super::catalog::print_traffic;
use super::client::{ClientArgs, plain};

#[derive(Debug, Subcommand)]
pub enum TemplatesCommand {
    /// List templates with live version, draft and usage
    List(ListArgs),
    /// Check a draft or version, also against recent events (exit code 2 if publishing would be refused)
    Check(CheckArgs),
    /// Show what the recipient would see and the request to OneSignal; sends nothing
    Preview(PreviewArgs),
    /// Send a draft or version to a registered test recipient
    TestSend(TestSendArgs),
    /// Publish a draft
    Publish(PublishArgs),
    /// Roll back to an earlier version
    Rollback(RollbackArgs),
    /// List a template's versions
    Versions(OneArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct OneArgs {
    /// Template key
    template: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    one: OneArgs,
    /// `draft`, `live`, or a version number [default: the draft if there is one, else live]
    #[arg(long)]
    version: Option<String>,
    /// Number of recent events to check against
    #[arg(long, default_value_t = 500)]
    events: u32,
}

#[derive(Debug, Args)]
pub struct PreviewArgs {
    #[command(flatten)]
    one: OneArgs,
    /// `draft`, `live`, or a version number [default: the draft if there is one, else live]
    #[arg(long)]
    version: Option<String>,
    /// Locale [default: the template's default locale]
    #[arg(long)]
    locale: Option<String>,
    /// Name of a sample of the event type
    #[arg(long, conflicts_with_all = ["event", "data"])]
    sample: Option<String>,
    /// ID of a past event
    #[arg(long, value_name = "EVENT", conflicts_with = "data")]
    event: Option<String>,
    /// Event data as JSON
    #[arg(long)]
    data: Option<String>,
}

#[derive(Debug, Args)]
pub struct TestSendArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Recipient, such as `external_id=user-42`
    #[arg(long, value_name = "LABEL=ID")]
    to: String,
    /// `draft`, `live`, or a version number [default: the draft if there is one, else live]
    #[arg(long)]
    version: Option<String>,
    /// Locale [default: the template's default locale]
    #[arg(long)]
    locale: Option<String>,
    /// Event data as JSON [default: the first sample]
    #[arg(long)]
    data: Option<String>,
}

#[derive(Debug, Args)]
pub struct PublishArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Version note
    #[arg(long, default_value = "")]
    note: String,
    /// Proceed even if events that are sent today would be held
    #[arg(long)]
    accept_held: bool,
    /// Show the result of the checks without publishing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Version number to roll back to
    #[arg(long)]
    to: i32,
    /// Version note
    #[arg(long, default_value = "")]
    note: String,
}

impl OneArgs {
    async fn post(&self, action: &str, body: Value) -> anyhow::Result<Value> {
        let path = format!("/v1/templates/{}/{action}", self.template);
        self.client.call(Method::POST, &path, Some(&body)).await
    }
}

pub(super) async fn run(command: TemplatesCommand) -> anyhow::Result<ExitCode> {
    match command {
        TemplatesCommand::List(args) => list(&args.client).await,
        TemplatesCommand::Check(args) => check(&args).await,
        TemplatesCommand::Preview(args) => preview(&args).await,
        TemplatesCommand::TestSend(args) => test_send(&args).await,
        TemplatesCommand::Publish(args) => publish(&args).await,
        TemplatesCommand::Rollback(args) => {
            let done = args.one.post("rollback", json!({"version": args.to, "note": args.note})).await?;
            print_published(&args.one, &done, false);
            Ok(ExitCode::SUCCESS)
        }
        TemplatesCommand::Versions(args) => versions(&args).await,
    }
}

async fn list(client: &ClientArgs) -> anyhow::Result<ExitCode> {
    let listed = client.call(Method::GET, "/v1/templates", None).await?;
    if client.json {
        println!("{listed:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["TEMPLATE", "CHANNEL", "LIVE", "LOCALES", "RULES", ""]);
    for template in listed["data"].as_array().into_iter().flatten() {
        let words = |list: &Value| {
            let words = list.as_array().into_iter().flatten().filter_map(Value::as_str);
            words.collect::<Vec<_>>().join(", ")
        };
        let marks =
            [("has_draft", "draft"), ("archived", "archived"), ("partials_changed", "partials changed")];
        let marks: Vec<&str> =
            marks.iter().filter(|(name, _)| template[name] == true).map(|(_, m)| *m).collect();
        table.add_row([
            plain(&template["key"]),
            plain(&template["channel"]),
            plain(&template["live_version"]),
            words(&template["locales"]),
            words(&template["used_by"]["rules"]),
            marks.join(", "),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn print_problems(problems: &Value, word: &str) {
    for problem in problems.as_array().into_iter().flatten() {
        let severity = problem["severity"].as_str().unwrap_or(word);
        let place = match (problem["line"].as_u64(), problem["column"].as_u64()) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            _ => String::new(),
        };
        let field = problem["field"].as_str().map(|field| format!("{field}{place}: ")).unwrap_or_default();
        let locale = problem["locale"].as_str().map(|locale| format!("{locale} ")).unwrap_or_default();
        let hint = problem["hint"].as_str().map(|hint| format!("; {hint}")).unwrap_or_default();
        println!(
            "{severity}: {locale}{field}{} [{}]{hint}",
            plain(&problem["message"]),
            plain(&problem["code"])
        );
    }
}

async fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let found = args.one.post("check", json!({"version": args.version, "events": args.events})).await?;
    let is_ok = found["ok"] == true;
    let holds = found["traffic"]["newly_held"].as_u64().unwrap_or_default();
    if args.one.client.json {
        println!("{found:#}");
    } else {
        print_problems(&found["problems"], "error");
        println!("{}", verdict(is_ok, holds));
        print_traffic(&found["traffic"]);
    }
    Ok(if is_ok && holds == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Whether it can be published; `holds` is the number of events that are sent today and would be held.
fn verdict(is_ok: bool, holds: u64) -> String {
    match (is_ok, holds) {
        (false, _) => "it can't be published".to_owned(),
        (true, 0) => "it can be published".to_owned(),
        (true, 1) => "1 event that is sent today would be held: publishing requires --accept-held".to_owned(),
        (true, many) => {
            format!("{many} events that are sent today would be held: publishing requires --accept-held")
        }
    }
}

fn data(text: Option<&str>) -> anyhow::Result<Option<Value>> {
    use anyhow::Context;
    text.map(|text| serde_json::from_str(text).context("--data is not valid JSON")).transpose()
}

async fn preview(args: &PreviewArgs) -> anyhow::Result<ExitCode> {
    let mut body = json!({"version": args.version});
    let given = [
        ("locale", args.locale.clone().map(Value::from)),
        ("sample", args.sample.clone().map(Value::from)),
        ("event", args.event.clone().map(Value::from)),
        ("data", data(args.data.as_deref())?),
    ];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        body[name] = value;
    }
    let shown = args.one.post("preview", body).await?;
    if args.one.client.json {
        println!("{shown:#}");
        return Ok(ExitCode::SUCCESS);
    }
    print_problems(&shown["problems"], "error");
    if let Some(detail) = shown["held"]["detail"].as_str() {
        println!("it would be held: {detail}");
    }
    for (name, text) in shown["fields"].as_object().into_iter().flatten() {
        println!("{name}: {}", plain(text));
    }
    if !shown["request"].is_null() {
        println!("\nPOST /notifications\n{:#}", shown["request"]);
    }
    Ok(ExitCode::SUCCESS)
}

async fn test_send(args: &TestSendArgs) -> anyhow::Result<ExitCode> {
    let Some((label, id)) = args.to.split_once('=') else {
        anyhow::bail!("--to takes label=id, such as external_id=user-42");
    };
    let mut body = json!({"version": args.version, "recipient": {label: id}});
    if let Some(locale) = &args.locale {
        body["locale"] = json!(locale);
    }
    if let Some(data) = data(args.data.as_deref())? {
        body["data"] = data;
    }
    let sent = args.one.post("test-send", body).await?;
    if args.one.client.json {
        println!("{sent:#}");
    } else {
        println!(
            "version {} is being sent; follow it with `herald why {}`",
            sent["version"],
            plain(&sent["id"])
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn publish(args: &PublishArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/templates/{}/draft", args.one.template);
    let draft = args.one.client.call(Method::GET, &path, None).await?;
    let revision = draft["revision"].as_i64().unwrap_or_default();
    let body = json!({"note": args.note, "accept_held": args.accept_held});
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let path = format!("/v1/templates/{}/publish{query}", args.one.template);
    let done = args.one.client.call_if(Method::POST, &path, revision, Some(&body)).await?;
    print_published(&args.one, &done, args.dry_run);
    Ok(ExitCode::SUCCESS)
}

fn print_published(one: &OneArgs, done: &Value, is_dry: bool) {
    if one.client.json {
        println!("{done:#}");
        return;
    }
    print_problems(&done["warnings"], "warning");
    let what = if is_dry { "would be live" } else { "is live" };
    println!("version {} of {} {what}", done["version"], one.template);
    print_traffic(&done["traffic"]);
}

async fn versions(args: &OneArgs) -> anyhow::Result<ExitCode> {
    let path = format!("/v1/templates/{}/versions", args.template);
    let listed = args.client.call(Method::GET, &path, None).await?;
    if args.client.json {
        println!("{listed:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["VERSION", "CREATED", "AUTHOR", "NOTE", ""]);
    for version in listed["data"].as_array().into_iter().flatten() {
        let mut marks = Vec::new();
        if version["is_live"] == true {
            marks.push("live".to_owned());
        }
        if let Some(number) = version["restores"].as_i64() {
            marks.push(format!("restores version {number}"));
        }
        table.add_row([
            plain(&version["number"]),
            plain(&version["created_at"]),
            plain(&version["author"]),
            plain(&version["note"]),
            marks.join(", "),
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}
