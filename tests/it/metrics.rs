//! `/metrics` as a collector reads it.

use std::collections::BTreeSet;

use crate::support::app::order_shipped;
use crate::support::processes::Processes;

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_says_what_it_counts_and_durations_can_be_aggregated() {
    let processes = Processes::start(&[]).await;
    processes.post(&order_shipped("o-1", "u")).await.expect("accepted");
    processes.wait_until_drained().await;
    let text = reqwest::get(format!("{}/metrics", processes.url())).await.unwrap().text().await.unwrap();
    let described: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
        .filter_map(|line| line.split_once(' ').filter(|(_, help)| !help.is_empty()))
        .map(|(name, _)| name)
        .collect();
    let typed: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(typed.len() > 4, "{text}");
    for (name, kind) in typed {
        assert!(described.contains(name), "{name} has no help text");
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{name} is a {kind}");
    }
    for name in ["herald_provider_call_seconds_bucket", "herald_ingest_group_seconds_bucket"] {
        assert!(text.lines().any(|line| line.starts_with(name) && line.contains("le=\"")), "{name}: {text}");
    }
}
