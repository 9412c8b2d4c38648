//! Sends scheduled messages at their time and posts events, as long as the sandbox is served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::header::CONTENT_TYPE;
use tokio_util::sync::CancellationToken;

use super::super::Sandbox;
use super::queue::{Post, Result};

/// A receiver that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

type Posting = FuturesUnordered<BoxFuture<'static, (Post, Result)>>;

impl Sandbox {
    /// Runs until `stop`, without polling: it is woken by a new message, a moved clock and a new event.
    pub(in crate::sandbox) async fn work(self: Arc<Self>, stop: CancellationToken) {
        let client = match reqwest::Client::builder().timeout(PATIENCE).build() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!("the sandbox can't post events: {error}");
                return;
            }
        };
        let mut posting = Posting::new();
        loop {
            self.send_due();
            self.start_posts(&client, &mut posting);
            let rest = self.rest();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.woken.notified() => {}
                () = tokio::time::sleep(rest) => {}
                Some((post, result)) = posting.next(), if !posting.is_empty() => self.finish_post(post, result),
            }
        }
    }

    fn start_posts(&self, client: &reqwest::Client, posting: &mut Posting) {
        let mut streams = self.streams.lock();
        while let Some(post) = streams.next(Instant::now()) {
            posting.push(deliver(client.clone(), post).boxed());
        }
    }

    /// The time until something is due.
    fn rest(&self) -> Duration {
        let hour = Duration::from_hours(1);
        let message =
            self.state.lock().next_due().map_or(hour, |due| (due - self.now()).to_std().unwrap_or_default());
        let retry = self.streams.lock().next_due();
        let retry = retry.map_or(hour, |due| due.saturating_duration_since(Instant::now()));
        message.min(retry).min(hour)
    }

    fn finish_post(&self, post: Post, result: Result) {
        let off = self.streams.lock().finish(post, result, Instant::now());
        if let Some(stream) = off {
            tracing::warn!(stream = %stream.id, "an Event Stream was disabled: its receiver fails or is too slow");
            if let Err(error) = self.state.lock().put_stream(&stream) {
                tracing::error!("the sandbox could not store a stream: {error}");
            }
        }
    }
}

async fn deliver(client: reqwest::Client, post: Post) -> (Post, Result) {
    let start = Instant::now();
    let succeeded = match post.stream.render(&post.event) {
        Ok(body) => {
            let mut request = client.post(post.stream.url.clone()).header(CONTENT_TYPE, "application/json");
            for (name, value) in &post.stream.headers {
                request = request.header(name, value);
            }
            request.body(body).send().await.is_ok_and(|answer| answer.status().is_success())
        }
        Err(error) => {
            tracing::warn!(stream = %post.stream.id, "the body of an Event Stream: {error}");
            false
        }
    };
    (post, Result { succeeded, took: start.elapsed() })
}
