//! `herald events tail`: outcomes as they are recorded.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::client::{ClientArgs, plain};

/// How long to wait before connecting again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often a connection is tried before giving up.
const TRIES: u32 = 30;

#[derive(Debug, Args)]
pub struct TailArgs {
    /// Begin after this cursor instead of now
    #[arg(long, default_value = "")]
    after: String,
    /// Stop after this many outcomes
    #[arg(long)]
    count: Option<usize>,
    #[command(flatten)]
    client: ClientArgs,
}

/// What was read of the stream, and what it was read up to.
#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    cursor: String,
    printed: usize,
}

pub(super) async fn run(args: &TailArgs) -> anyhow::Result<ExitCode> {
    let mut reader = Reader { cursor: args.after.clone(), ..Reader::default() };
    let mut failures = 0;
    loop {
        match args.client.open_outcomes(&reader.cursor).await {
            Ok(mut answer) => {
                failures = 0;
                reader.buffer.clear();
                while let Ok(Some(chunk)) = answer.chunk().await {
                    reader.buffer.extend_from_slice(&chunk);
                    if reader.print(args) {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
            // The first try says what is wrong; later ones wait for Herald to come back.
            Err(error) if reader.cursor == args.after && reader.printed == 0 => return Err(error),
            Err(error) if failures >= TRIES => return Err(error),
            Err(_) => failures += 1,
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

impl Reader {
    /// Prints whole events; returns whether enough were printed.
    fn print(&mut self, args: &TailArgs) -> bool {
        while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let (Some(id), Some(data)) = (field("id:"), field("data:")) else { continue };
            id.clone_into(&mut self.cursor);
            self.printed += 1;
            if args.client.json {
                println!("{data}");
            } else {
                println!("{}", line(&serde_json::from_str(data).unwrap_or_default()));
            }
            if args.count.is_some_and(|count| self.printed >= count) {
                return true;
            }
        }
        false
    }
}

/// An outcome in one line.
fn line(outcome: &Value) -> String {
    let to = outcome["recipient"].as_object().and_then(|labels| labels.values().next()).map(plain);
    let device = match plain(&outcome["device"]) {
        device if device.is_empty() => String::new(),
        device => format!(" on {device}"),
    };
    let reason = outcome["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!(
        "{} {:12} {:5} {} to {}{device}, event {} ({}){reason}",
        plain(&outcome["at"]),
        plain(&outcome["kind"]),
        plain(&outcome["channel"]),
        plain(&outcome["template"]),
        to.unwrap_or_else(|| "unknown".to_owned()),
        plain(&outcome["event_key"]),
        plain(&outcome["delivery"]),
    )
}
