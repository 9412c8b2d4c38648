//! `herald users`: import users from CSV, and show what Herald holds about one.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{ClientArgs, plain, with_flags};
use super::erasures::{self, EraseArgs, ErasuresCommand, ExportArgs};
use super::usage;
use crate::people::import::encoding::encoding_words;
use crate::people::in_words;

/// The size of a part of a file.
const PART_BYTES: usize = 4 * 1024 * 1024;
/// How long the next attempt to send a part waits while Herald can't be reached.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(10)];
/// How often progress is read.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Import users from a CSV file: checks it as a whole, shows what would change, and asks before it starts
    Import(Box<ImportArgs>),
    /// List imports, newest first
    Imports(ClientArgs),
    /// Show what Herald holds about a user, what is pending, and OneSignal's last answer
    Show {
        /// The user, such as `external_id=user-42`
        #[arg(value_parser = usage::recipient)]
        user: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Erase a person here and at OneSignal, and keep them from coming back
    Erase(EraseArgs),
    /// List, show and lift erasures
    #[command(subcommand)]
    Erasures(ErasuresCommand),
    /// Export everything that Herald holds about a user, one JSON object per line
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// CSV file; `-` reads standard input
    file: PathBuf,
    /// What a column means: `--column "Customer no=external_id"`, `--column "Plan=tag:plan"`, also
    /// `tag:NAME:number|boolean|date`, `email`, `phone`, `language`, `time_zone`, `country` and `ignore`
    #[arg(long = "column", value_name = "HEADER=MEANING", value_parser = column)]
    columns: Vec<(String, String)>,
    /// Make every other column a tag of the same name
    #[arg(long)]
    tags: bool,
    /// Empty cells of this column remove its tag (otherwise they leave it alone)
    #[arg(long, value_name = "HEADER")]
    blank_removes: Vec<String>,
    /// Country code of phone numbers without one, such as 49
    #[arg(long, value_name = "CODE")]
    country_code: Option<String>,
    /// Import nothing if more than this share of rows is rejected, in percent [default: 5]
    #[arg(long, value_name = "PERCENT")]
    max_rejected: Option<f64>,
    /// Import nothing if more tags than this would be removed
    #[arg(long, value_name = "COUNT")]
    max_removed: Option<i64>,
    /// App, by name or OneSignal ID [default: the default app]
    #[arg(long)]
    app: Option<String>,
    /// Only check: show what would change, and import nothing
    #[arg(long)]
    dry_run: bool,
    /// Start without asking
    #[arg(long)]
    yes: bool,
    /// Write rejected rows to this file [default: FILE.rejected.csv]
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

fn column(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('=') {
        Some((header, meaning)) if !header.is_empty() && !meaning.is_empty() => {
            Ok((header.to_owned(), meaning.to_owned()))
        }
        Some(_) | None => Err("write HEADER=MEANING, such as `Plan=tag:plan`".to_owned()),
    }
}

pub(super) async fn run(command: UsersCommand) -> anyhow::Result<ExitCode> {
    match command {
        UsersCommand::Import(args) => import(&args).await,
        UsersCommand::Imports(client) => list(&client).await,
        UsersCommand::Show { user, client } => show(&user, &client).await,
        UsersCommand::Erase(args) => erasures::erase(&args).await,
        UsersCommand::Erasures(command) => erasures::run(command).await,
        UsersCommand::Export(args) => erasures::export(&args).await,
    }
}

async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let columns: BTreeMap<&str, &str> =
        args.columns.iter().map(|(header, meaning)| (header.as_str(), meaning.as_str())).collect();
    let name = args
        .file
        .file_name()
        .map_or_else(|| "standard input".to_owned(), |name| name.to_string_lossy().into_owned());
    let request = json!({
        "name": if name == "-" { "standard input" } else { &name },
        "app": args.app,
        "settings": {
            "columns": columns, "other_columns_are_tags": args.tags, "blank_removes": args.blank_removes,
            "country_code": args.country_code, "max_rejected_percent": args.max_rejected,
            "max_removed_tags": args.max_removed,
        },
    });
    let mut file = open(&args.file)?;
    let created = args.client.call(Method::POST, "/v1/users/imports", Some(&request)).await?;
    let id = plain(&created["id"]);
    let path = format!("/v1/users/imports/{id}");
    if let Err(error) = upload(args, &path, file.as_mut()).await {
        // An import without its file is of no use to anybody.
        let _ = args.client.call(Method::POST, &format!("{path}/cancel"), None).await;
        return Err(error);
    }
    let checked = follow(args, &path, "checking").await?;
    if !args.client.json {
        print_check(&checked);
    }
    if checked["counts"]["rejected"].as_i64() > Some(0) {
        save_rejected(args, &path).await?;
    }
    if checked["state"] == "stopped" {
        bail!("nothing was imported: {}", with_flags(&plain(&checked["detail"])));
    }
    if args.dry_run || checked["counts"]["changed"] == 0 {
        args.client.call(Method::POST, &format!("{path}/cancel"), None).await?;
        return Ok(finish(
            args,
            &checked,
            if args.dry_run { "dry run: nothing was imported" } else { "nothing to import" },
        ));
    }
    if !args.yes && !confirmed(&checked)? {
        args.client.call(Method::POST, &format!("{path}/cancel"), None).await?;
        println!("nothing was imported");
        return Ok(ExitCode::SUCCESS);
    }
    args.client.call(Method::POST, &format!("{path}/start"), None).await?;
    let done = follow(args, &path, "running").await?;
    let counts = &done["counts"];
    let text = format!(
        "{} users were written, {} were refused in part",
        plain(&counts["sent"]),
        plain(&counts["refused"])
    );
    Ok(finish(args, &done, &text))
}

fn open(path: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = std::fs::File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    Ok(Box::new(file))
}

fn finish(args: &ImportArgs, import: &Value, text: &str) -> ExitCode {
    if args.client.json {
        println!("{import:#}");
    } else {
        println!("{text}");
    }
    ExitCode::SUCCESS
}

/// Sends the file in parts.
async fn upload(args: &ImportArgs, path: &str, file: &mut (dyn Read + Send)) -> anyhow::Result<()> {
    let mut offset: u64 = 0;
    let mut part = next_part(file)?;
    loop {
        let following = next_part(file)?;
        let is_last = following.is_empty();
        let length = u64::try_from(part.len()).unwrap_or_default();
        send_part(args, path, (offset, is_last), part).await?;
        offset += length;
        progress(&format!("{offset} bytes sent"));
        if is_last {
            return Ok(());
        }
        part = following;
    }
}

/// Sends a part. After a lost connection it is sent again, unless it has arrived.
async fn send_part(
    args: &ImportArgs,
    path: &str,
    (offset, is_last): (u64, bool),
    part: Vec<u8>,
) -> anyhow::Result<()> {
    let target = format!("{path}/content?offset={offset}&last={is_last}");
    let end = offset + u64::try_from(part.len()).unwrap_or_default();
    for wait in PAUSES {
        let Err(error) = args.client.put_bytes(&target, part.clone()).await else { return Ok(()) };
        let Ok(import) = args.client.call(Method::GET, path, None).await else {
            progress(&format!("{error:#}; trying again"));
            tokio::time::sleep(wait).await;
            continue;
        };
        let has_arrived = import["received_bytes"].as_u64() == Some(end) && end > offset;
        return if has_arrived && !(is_last && import["state"] == "uploading") { Ok(()) } else { Err(error) };
    }
    args.client.put_bytes(&target, part).await.map(|_| ())
}

fn next_part(file: &mut (dyn Read + Send)) -> anyhow::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(PART_BYTES);
    let limit = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut part).context("the file can't be read")?;
    Ok(part)
}

/// Follows an import until it leaves a state.
async fn follow(args: &ImportArgs, path: &str, state: &str) -> anyhow::Result<Value> {
    let began = Instant::now();
    loop {
        let import = args.client.call(Method::GET, path, None).await?;
        if import["state"] != state {
            progress("");
            return Ok(import);
        }
        let count = |name: &str| import["counts"][name].as_i64().unwrap_or_default();
        let (done, total) = match state {
            "running" => (count("sent") + count("refused"), count("changed")),
            _ => (
                count("changed") + count("unchanged") + count("conflicts"),
                count("records") - count("rejected"),
            ),
        };
        progress(&line(state, done, total, began.elapsed()));
        tokio::time::sleep(POLL).await;
    }
}

/// A line of progress: share, rate and time left.
fn line(what: &str, done: i64, total: i64, elapsed: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (done_f, total_f) = (done.max(0) as f64, total.max(1) as f64);
    let rate = done_f / elapsed.as_secs_f64().max(0.001);
    let left = if rate > 0.0 {
        format!(", {:.0} s left", ((total_f - done_f) / rate).max(0.0))
    } else {
        String::new()
    };
    format!("{what}: {done} of {total} ({:.0} %), {rate:.0}/s{left}", (done_f / total_f * 100.0).min(100.0))
}

/// Shows a line of progress on a terminal, in place of the one before; an empty one ends it.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        let end = if text.is_empty() { "" } else { "\r" };
        eprint!("\x1b[2K{text}{end}");
        let _ = std::io::stderr().flush();
    }
}

fn print_check(import: &Value) {
    let count = |name: &str| plain(&import["counts"][name]);
    println!(
        "{}, {}, delimiter `{}`",
        plain(&import["name"]),
        encoding_words(&plain(&import["encoding"])),
        plain(&import["delimiter"])
    );
    for column in import["columns"].as_array().into_iter().flatten() {
        println!("  {} -> {}", plain(&column["name"]), plain(&column["meaning"]));
    }
    println!("{} rows, {} rejected, {} in conflict", count("records"), count("rejected"), count("conflicts"));
    if import["state"] == "stopped" {
        print_rejected(import);
        return;
    }
    println!(
        "{} users to write, {} of them new to Herald; {} unchanged; {} tags to remove",
        count("changed"),
        count("new_users"),
        count("unchanged"),
        count("removed_tags")
    );
    for row in import["preview"].as_array().into_iter().flatten().take(3) {
        println!(
            "  line {}: {} {} {}",
            plain(&row["line"]),
            plain(&row["method"]),
            plain(&row["path"]),
            row["body"]
        );
    }
    print_rejected(import);
}

fn print_rejected(import: &Value) {
    for row in import["rejected_rows"].as_array().into_iter().flatten() {
        let column = plain(&row["column"]);
        let column = if column.is_empty() { String::new() } else { format!(", {column}") };
        println!("  rejected: line {}{column}: {}", plain(&row["line"]), with_flags(&plain(&row["reason"])));
    }
}

fn confirmed(import: &Value) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("pass --yes to start the import without a terminal, or --dry-run to only check it");
    }
    print!("write {} users to OneSignal? [y/N] ", plain(&import["counts"]["changed"]));
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn save_rejected(args: &ImportArgs, path: &str) -> anyhow::Result<()> {
    let file = args.rejected.clone().unwrap_or_else(|| {
        let mut name = args.file.clone().into_os_string();
        name.push(".rejected.csv");
        PathBuf::from(name)
    });
    let text = args.client.get_text(&format!("{path}/rejected")).await?;
    std::fs::write(&file, text).with_context(|| format!("{} can't be written", file.display()))?;
    eprintln!("rejected rows: {} (correct them and import that file)", file.display());
    Ok(())
}

async fn list(client: &ClientArgs) -> anyhow::Result<ExitCode> {
    let imports = client.call(Method::GET, "/v1/users/imports", None).await?;
    if client.json {
        println!("{imports:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let imports = imports["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    if imports.is_empty() {
        println!("no imports yet: herald users import FILE.csv");
    }
    for import in imports {
        let count = |name: &str| plain(&import["counts"][name]);
        println!(
            "{} {} {}: {} rows, {} rejected, {} users written, {} refused",
            plain(&import["id"]),
            plain(&import["state"]),
            plain(&import["name"]),
            count("records"),
            count("rejected"),
            count("sent"),
            count("refused")
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(user: &str, client: &ClientArgs) -> anyhow::Result<ExitCode> {
    let shown = get(user, client).await?;
    if client.json {
        println!("{shown:#}");
    } else {
        print(&shown);
    }
    Ok(ExitCode::SUCCESS)
}

/// What Herald holds about a user, such as `external_id=user-42`.
pub(super) async fn get(user: &str, client: &ClientArgs) -> anyhow::Result<Value> {
    client.call(Method::GET, &path_of(user), None).await
}

/// The path of a user, such as `external_id=user-42`.
pub(super) fn path_of(user: &str) -> String {
    let (label, id) = user.split_once('=').unwrap_or(("external_id", user));
    format!("/v1/users/{}/{}", segment(label), segment(id))
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut written, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = std::fmt::Write::write_fmt(&mut written, format_args!("%{byte:02X}"));
        }
        written
    })
}

/// Prints what Herald holds about a user.
pub(super) fn print(user: &Value) {
    let names = user["aliases"].as_object().into_iter().flatten();
    let names: Vec<String> = names.map(|(label, id)| format!("{label}={}", plain(id))).collect();
    println!("{} {}", plain(&user["id"]), names.join(", "));
    println!("  language {}, time zone {}", plain(&user["language"]), plain(&user["time_zone"]));
    let opted_out = texts(&user["opted_out"]);
    if !opted_out.is_empty() {
        println!("  opted out of {opted_out}");
    }
    for app in user["apps"].as_array().into_iter().flatten() {
        println!("  app {}: {}", plain(&app["app"]), plain(&app["state"]));
        if app["pending"].as_object().is_some_and(|pending| !pending.is_empty()) {
            println!("    pending, next call at {}: {}", plain(&app["next_call_at"]), app["pending"]);
        }
        let confirmed = app["confirmed"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let confirmed = in_words(confirmed);
        if !confirmed.is_empty() {
            println!("    confirmed: {confirmed}");
        }
        for part in app["refused"].as_array().into_iter().flatten() {
            println!(
                "    refused: {} ({}): {}",
                plain(&part["part"]),
                plain(&part["code"]),
                plain(&part["detail"])
            );
            println!("    -> {}", plain(&part["remedy"]));
        }
    }
}

/// A list of texts, joined.
fn texts(list: &Value) -> String {
    list.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join(", ")
}
