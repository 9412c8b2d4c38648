//! `herald doctor --consistency`: the consistency check of everything that was accepted.

use std::process::ExitCode;

use anyhow::Context;
use chrono::TimeDelta;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::json;

use crate::app::open_store;
use crate::domain::clock::{Clock, Timestamp};
use crate::store::clock::PgClock;

/// How far back the check goes by default.
const LOOK_BACK: TimeDelta = TimeDelta::hours(24);

pub(super) async fn run(since: Option<Timestamp>, as_json: bool) -> anyhow::Result<ExitCode> {
    let store = open_store(&super::settings(&[])?)?;
    let clock = PgClock::start(&store).await.context("the database is unreachable; check `database_url`")?;
    let since = since.unwrap_or_else(|| clock.now() - LOOK_BACK);
    let lines = store.check_consistency(since).await?;
    let is_well = !lines.iter().any(crate::store::consistency::ConsistencyLine::is_wrong);
    if as_json {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| json!({"name": line.name, "count": line.count, "is_wrong": line.is_wrong(), "example": line.example}))
            .collect();
        println!("{:#}", json!({"since": since, "is_well": is_well, "lines": lines}));
    } else {
        println!("since {since}");
        let mut table = Table::new();
        table.load_style(NOTHING);
        for line in &lines {
            let mark = match (line.must_be_none, line.is_wrong()) {
                (_, true) => "FAIL",
                (true, false) => "ok",
                (false, false) => "",
            };
            let example = line.example.map(|id| format!("such as {id}")).unwrap_or_default();
            table.add_row([mark.to_owned(), line.count.to_string(), line.name.clone(), example]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        println!("{}", if is_well { "everything is accounted for" } else { "inconsistencies found" });
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
