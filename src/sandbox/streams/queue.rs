//! The queue of pending posts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Stream, StreamEvent};

/// How many events wait for one stream; above it the oldest are dropped.
const WAITING: usize = 10_000;
/// How many posts of one stream are under way at once.
const AT_ONCE: usize = 8;
/// Retry delays; then the event is dropped.
const RETRIES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
/// An answer that takes longer counts as slow.
const SLOW: Duration = Duration::from_secs(2);
/// So many failed or slow posts in a row switch the stream off.
const PATIENCE: u32 = 20;

/// A post that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub stream: Arc<Stream>,
    pub event: StreamEvent,
    /// How often it failed before.
    pub failures: usize,
}

/// How a post went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Result {
    pub succeeded: bool,
    pub took: Duration,
}

#[derive(Debug)]
struct Line {
    stream: Arc<Stream>,
    ready: VecDeque<Post>,
    /// Failed posts by retry time.
    later: BTreeMap<(Instant, u64), Post>,
    under_way: usize,
    /// Consecutive failed or slow posts.
    bad_in_a_row: u32,
    delivered: u64,
    failed: u64,
    dropped: u64,
}

/// Every stream with its queue.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Streams {
    lines: BTreeMap<Uuid, Line>,
    numbered: u64,
}

impl Streams {
    /// Creates or changes a stream; pending posts are kept.
    pub(in crate::sandbox) fn put(&mut self, stream: Stream) {
        let stream = Arc::new(stream);
        let line = self.lines.entry(stream.id).or_insert_with(|| Line {
            stream: stream.clone(),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            under_way: 0,
            bad_in_a_row: 0,
            delivered: 0,
            failed: 0,
            dropped: 0,
        });
        line.bad_in_a_row = 0;
        line.stream = stream;
    }

    pub(in crate::sandbox) fn remove(&mut self, id: Uuid) -> bool {
        self.lines.remove(&id).is_some()
    }

    pub(in crate::sandbox) fn clear(&mut self) {
        self.lines.clear();
    }

    /// Whether some stream wants events of the app.
    pub(in crate::sandbox) fn listen_to(&self, app: Uuid) -> bool {
        self.lines.values().any(|line| !line.stream.disabled && line.stream.app_id == Some(app))
    }

    /// The streams with their counts.
    pub(in crate::sandbox) fn view(&self) -> Vec<Value> {
        let with_counts = |line: &Line| {
            let mut shown = line.stream.view();
            shown["waiting"] = json!(line.ready.len() + line.later.len() + line.under_way);
            shown["delivered"] = json!(line.delivered);
            shown["failed"] = json!(line.failed);
            shown["dropped"] = json!(line.dropped);
            shown
        };
        self.lines.values().map(with_counts).collect()
    }

    /// Queues an event for every stream that wants it.
    pub(in crate::sandbox) fn push(&mut self, event: &StreamEvent) {
        let kind = event.kind();
        let app = Some(event.message.app_id);
        for line in self.lines.values_mut() {
            if line.stream.app_id != app || !line.stream.wants(&kind) {
                continue;
            }
            line.ready.push_back(Post { stream: line.stream.clone(), event: event.clone(), failures: 0 });
            if line.ready.len() > WAITING {
                line.ready.pop_front();
                line.dropped += 1;
            }
        }
    }

    /// A post that may be made now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Post> {
        for line in self.lines.values_mut().filter(|line| line.under_way < AT_ONCE) {
            let is_due = line.later.first_key_value().is_some_and(|((due, _), _)| *due <= now);
            let post =
                if is_due { line.later.pop_first().map(|(_, post)| post) } else { line.ready.pop_front() };
            let Some(mut post) = post else { continue };
            post.stream = line.stream.clone();
            line.under_way += 1;
            return Some(post);
        }
        None
    }

    /// The next retry time.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = |line: &Line| line.later.first_key_value().map(|((due, _), _)| *due);
        self.lines.values().filter_map(first).min()
    }

    /// Takes note of how a post went; the stream when that switched it off.
    pub(super) fn finish(&mut self, mut post: Post, result: Result, now: Instant) -> Option<Stream> {
        self.numbered += 1;
        let line = self.lines.get_mut(&post.stream.id)?;
        line.under_way = line.under_way.saturating_sub(1);
        if result.succeeded {
            line.delivered += 1;
        } else if let Some(wait) = RETRIES.get(post.failures) {
            post.failures += 1;
            line.later.insert((now + *wait, self.numbered), post);
        } else {
            line.failed += 1;
        }
        let is_bad = !result.succeeded || result.took > SLOW;
        line.bad_in_a_row = if is_bad { line.bad_in_a_row + 1 } else { 0 };
        if line.bad_in_a_row < PATIENCE || line.stream.disabled {
            return None;
        }
        let off = Stream { disabled: true, ..Stream::clone(&line.stream) };
        line.dropped += (line.ready.len() + line.later.len()) as u64;
        line.ready.clear();
        line.later.clear();
        line.stream = Arc::new(off.clone());
        Some(off)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::message::{Channel, Message, Reached, Recipient};
    use super::*;

    fn event() -> StreamEvent {
        let at = "2026-03-01T12:00:00Z".parse().unwrap();
        let message = Message {
            sequence: 1,
            id: Uuid::nil(),
            app_id: Uuid::nil(),
            idempotency_key: None,
            channel: Channel::Push,
            template: None,
            received_at: at,
            send_after: None,
            request: "{}".into(),
            reached: Reached::EveryTarget,
            recipients: 1,
            notes: Vec::new(),
            canceled: false,
            capped: Vec::new(),
            paced: false,
        };
        let recipient = Recipient::made_up("external_id", "u1");
        StreamEvent {
            id: Uuid::nil(),
            what: "sent",
            at,
            message: Arc::new(message),
            recipient,
            reason: String::new(),
        }
    }

    fn streams(kinds: &[&str]) -> Streams {
        let mut stream: Stream = serde_json::from_str(r#"{"url":"http://127.0.0.1:1/"}"#).unwrap();
        stream.app_id = Some(Uuid::nil());
        stream.kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let mut streams = Streams::default();
        streams.put(stream);
        streams
    }

    const BAD: Result = Result { succeeded: false, took: Duration::ZERO };

    #[test]
    fn a_failed_post_is_tried_three_more_times_with_growing_delay() {
        let mut streams = streams(&[]);
        streams.push(&event());
        let mut now = Instant::now();
        for wait in RETRIES {
            let post = streams.next(now).unwrap();
            streams.finish(post, BAD, now);
            assert_eq!(streams.next_due(), Some(now + wait));
            assert!(streams.next(now).is_none(), "not before its time");
            now += wait;
        }
        let post = streams.next(now).unwrap();
        streams.finish(post, BAD, now);
        assert_eq!(streams.next_due(), None);
        assert_eq!(streams.view()[0]["failed"], 1);
    }

    #[test]
    fn a_receiver_that_dawdles_is_switched_off() {
        let mut streams = streams(&[]);
        let now = Instant::now();
        let slow = Result { succeeded: true, took: Duration::from_secs(3) };
        let mut off = None;
        for _ in 0..PATIENCE {
            assert!(off.is_none());
            streams.push(&event());
            let post = streams.next(now).unwrap();
            off = streams.finish(post, slow, now);
        }
        assert!(off.unwrap().disabled);
        streams.push(&event());
        assert!(streams.next(now).is_none());
    }

    #[test]
    fn a_stream_gets_the_kinds_that_it_wants() {
        let mut streams = streams(&["message.push.clicked"]);
        streams.push(&event());
        assert!(streams.next(Instant::now()).is_none());
        streams.push(&StreamEvent { what: "clicked", ..event() });
        assert!(streams.next(Instant::now()).is_some());
    }
}
