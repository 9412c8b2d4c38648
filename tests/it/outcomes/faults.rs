//! Reports survive a process that dies, repeats and an unavailable receiver: none is lost, none counts twice.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::report;
use crate::support::app::{STREAM_SECRET, order_shipped};
use crate::support::processes::{KEY, Processes};

/// How many different reports are sent; `HERALD_TEST_REPORTS` for a longer run.
fn reports() -> usize {
    std::env::var("HERALD_TEST_REPORTS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_200)
}

/// Messages of pushes that were sent, each with its person.
async fn messages(processes: &Processes) -> Vec<(String, String)> {
    let people: Vec<Value> = (0..40).map(|n| json!({"external_id": format!("user-{n}")})).collect();
    let mut event = order_shipped("o-1", "x");
    event.as_object_mut().expect("an event").remove("recipient");
    event["recipients"] = json!(people);
    let client = reqwest::Client::new();
    let posted =
        client.post(format!("{}/v1/events", processes.url())).bearer_auth(KEY).json(&event).send().await;
    let accepted: Value = posted.expect("an answer").json().await.expect("JSON");
    let mut found = Vec::new();
    for delivery in accepted["deliveries"].as_array().expect("deliveries") {
        let url = format!("{}/v1/deliveries/{}", processes.url(), delivery["id"].as_str().expect("an id"));
        let began = Instant::now();
        loop {
            let trace: Value = client
                .get(&url)
                .bearer_auth(KEY)
                .send()
                .await
                .expect("an answer")
                .json()
                .await
                .expect("JSON");
            if let Some(message) = trace["attempts"][0]["provider_message_id"].as_str() {
                let person = trace["recipient"]["external_id"].as_str().expect("a person");
                found.push((message.to_owned(), person.to_owned()));
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{trace}");
        }
    }
    found
}

/// Posts a report until it is stored, as OneSignal would.
async fn deliver(client: &reqwest::Client, url: &str, body: &str) {
    let began = Instant::now();
    loop {
        let answer = client.post(url).bearer_auth(STREAM_SECRET).body(body.to_owned()).send().await;
        if answer.is_ok_and(|answer| answer.status() == 204) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it was never stored");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn none_is_lost_and_none_counts_twice_although_the_process_is_killed_and_a_fifth_is_repeated() {
    let mut processes = Processes::start(&[("HERALD_EVENT_STREAMS__SECRET", STREAM_SECRET)]).await;
    let messages = messages(&processes).await;
    let count = reports();
    let bodies: Vec<String> = (0..count)
        .map(|n| {
            let (message, person) = &messages[n % messages.len()];
            let mut one = report(&format!("e-{n}"), "push.sent", message, person);
            one["subscription_id"] = json!(format!("device-{}", n / messages.len()));
            one.to_string()
        })
        .collect();
    let url = format!("{}/v1/onesignal/events", processes.url());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    let began = Instant::now();
    // Each fifth is sent again, later and out of order.
    let order: Vec<usize> = (0..count).chain((0..count).step_by(5).rev()).collect();
    let (client, url, bodies) = (&client, &url, &bodies);
    let send = futures_util::stream::iter(order)
        .for_each_concurrent(64, async |n| deliver(client, url, &bodies[n]).await);
    let kill = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            processes.kill();
            processes.start_again(&[]).await;
        }
    };
    tokio::join!(send, kill);
    let sent_in = began.elapsed();
    let get = async |path: &str| -> Value {
        let request = client.get(format!("{}{path}", processes.url())).bearer_auth(KEY);
        request.send().await.expect("an answer").json().await.expect("JSON")
    };
    while get("/v1/stats").await["reports"]["joined"] != json!(count) {
        assert!(began.elapsed() < sent_in + Duration::from_secs(30), "{}", get("/v1/stats").await["reports"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{count} reports were sent in {sent_in:?} and recorded after {:?}", began.elapsed());
    let (mut seen, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let page = get(&format!("/v1/outcomes?after={cursor}&limit=1000")).await;
        let data = page["data"].as_array().expect("outcomes");
        if data.is_empty() {
            break;
        }
        seen.extend(data.iter().map(|one| (one["delivery"].to_string(), one["subscription"].to_string())));
        page["next_cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
    }
    assert_eq!(seen.len(), count, "each once");
    assert_eq!(cursor, count.to_string(), "and no number twice");
    assert_eq!(get("/v1/stats/check").await["differences"], json!([]), "the counts are what the rows say");
}
