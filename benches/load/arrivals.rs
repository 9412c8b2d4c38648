//! When what was posted arrived at the sandbox.

use std::collections::HashMap;
use std::time::Duration;

use crate::setup::{Setup, at, sandbox_json};

/// Every message that the sandbox has, page by page.
pub async fn each_message(setup: &Setup, see: impl FnMut(&serde_json::Value)) {
    each_of(setup.sandbox_port, see).await;
}

/// Every message that the sandbox at this port has, page by page.
pub async fn each_of(sandbox_port: u16, mut see: impl FnMut(&serde_json::Value)) {
    let mut cursor = String::new();
    loop {
        let page = sandbox_json(sandbox_port, &format!("/_sandbox/messages?limit=1000{cursor}")).await;
        for message in page["data"].as_array().into_iter().flatten() {
            see(message);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return,
        }
    }
}

/// When each person's message arrived, in microseconds of the day.
async fn arrivals(setup: &Setup) -> HashMap<String, i64> {
    let mut arrived = HashMap::new();
    each_message(setup, |message| {
        let at = message["received_at"].as_str().and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok());
        let at = at.expect("a time").timestamp_micros();
        for recipient in message["recipients"].as_array().into_iter().flatten() {
            arrived.insert(recipient["external_id"].as_str().unwrap_or_default().to_owned(), at);
        }
    })
    .await;
    arrived
}

/// A message that took so long had a call that hung.
const HANGS: Duration = Duration::from_secs(10);

/// Prints how long people's messages took; `acknowledged` has each person with the moments of the post and of the 202.
pub async fn report_arrivals(setup: &Setup, acknowledged: &[(String, i64, i64)]) {
    let arrived = arrivals(setup).await;
    let since = |moment: fn(&(String, i64, i64)) -> i64| {
        let mut times: Vec<Duration> = acknowledged
            .iter()
            .filter_map(|a| Some(Duration::from_micros((arrived.get(&a.0)? - moment(a)).max(0) as u64)))
            .collect();
        times.sort_unstable();
        times
    };
    let (ack, due) = (since(|a| a.2), since(|a| a.1));
    println!("arrived {} of {}", ack.len(), acknowledged.len());
    println!("202 to sandbox   p50 {:.2} ms   p99 {:.2} ms", at(&ack, 0.5), at(&ack, 0.99));
    println!("post to sandbox  p50 {:.2} ms   p99 {:.2} ms", at(&due, 0.5), at(&due, 0.99));
    // Of calls that hang, some are made for a code itself: it is late whatever the others do.
    let others: Vec<Duration> = due.into_iter().take_while(|time| *time < HANGS).collect();
    if others.len() < ack.len() {
        let own = ack.len() - others.len();
        println!(
            "without the {own} whose own call hung  p50 {:.2} ms   p99 {:.2} ms",
            at(&others, 0.5),
            at(&others, 0.99)
        );
    }
}
