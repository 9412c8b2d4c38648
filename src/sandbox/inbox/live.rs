//! The stream that the page listens to.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::watch;

use super::super::http::Closing;
use super::super::{News, Sandbox};
use super::{PAGE, card_of};

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u64>,
}

/// Server-sent events: `message` with a card for each message after the one in `Last-Event-ID` or `?after=`, and
/// `reset` after a reset.
pub(super) async fn events(
    State(sandbox): State<Arc<Sandbox>>,
    Extension(closing): Extension<Closing>,
    headers: HeaderMap,
    Query(query): Query<After>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let news = sandbox.news.subscribe();
    let now = *news.borrow();
    let reported = last.or(query.after).unwrap_or(now.newest);
    let listening = Listening { sandbox, news, reported, resets: now.resets };
    let batches = stream::unfold(listening, |mut listening| async move {
        let events = listening.next().await?;
        Some((stream::iter(events.into_iter().map(Ok)), listening))
    });
    let ended = async move { closing.0.cancelled().await };
    Sse::new(batches.flatten().take_until(Box::pin(ended))).keep_alive(KeepAlive::default())
}

/// One open page.
struct Listening {
    sandbox: Arc<Sandbox>,
    news: watch::Receiver<News>,
    /// The last message that was sent to it.
    reported: u64,
    resets: u64,
}

impl Listening {
    /// Waits for news; `None` when the sandbox is gone.
    async fn next(&mut self) -> Option<Vec<Event>> {
        loop {
            let news = *self.news.borrow_and_update();
            if news.resets != self.resets {
                self.resets = news.resets;
                return Some(vec![Event::default().event("reset").data("{}")]);
            }
            let events = self.untold(news.newest);
            if !events.is_empty() {
                return Some(events);
            }
            self.news.changed().await.ok()?;
        }
    }

    fn untold(&mut self, newest: u64) -> Vec<Event> {
        // Under load, messages that would immediately scroll off the page are not sent.
        let from = self.reported.max(newest.saturating_sub(PAGE as u64));
        let found = self.sandbox.state.lock().messages_after(from, PAGE);
        self.reported = found.last().map_or(self.reported, |message| message.sequence);
        let event = |sequence: u64| Event::default().event("message").id(sequence.to_string());
        found
            .iter()
            .map(|message| event(message.sequence).data(card_of(&self.sandbox, message).into_string()))
            .collect()
    }
}
