//! A client's stream: it may be idle between requests, but a request's head and a response's bytes have timeouts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Timeouts for each phase of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientTimes {
    /// From the first byte of a request to the end of its head.
    pub head: Duration,
    /// Between two requests, and before the first.
    pub idle: Duration,
    /// Until the next bytes of a response are read.
    pub write: Duration,
}

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No byte of the next request has arrived.
    Idle,
    /// Receiving a request's head.
    Head,
    /// Processing a request.
    Busy,
}

/// A connection's phase, seen by its stream, its service and the registry.
#[derive(Debug, Default)]
pub(super) struct PhaseCell(AtomicU8);

impl PhaseCell {
    pub fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Idle,
            1 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    pub fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Idle => 0,
            Phase::Head => 1,
            Phase::Busy => 2,
        };
        self.0.store(number, Ordering::Release);
    }
}

/// A TCP stream that fails with [`io::ErrorKind::TimedOut`] when its client takes too long.
pub(super) struct TimedStream {
    stream: TcpStream,
    times: ClientTimes,
    phase: Arc<PhaseCell>,
    /// The phase of `read_deadline`.
    timed: Option<Phase>,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl TimedStream {
    pub fn new(stream: TcpStream, times: ClientTimes, phase: Arc<PhaseCell>) -> Self {
        let read_deadline = Box::pin(sleep_until(Instant::now() + times.idle));
        Self { stream, times, phase, timed: None, read_deadline, write_deadline: None }
    }

    /// Fails once the deadline of the current phase has passed. The deadline is set when a phase is first seen.
    fn check_read_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let phase = self.phase.get();
        if self.timed != Some(phase) {
            let time = match phase {
                Phase::Idle => self.times.idle,
                Phase::Head => self.times.head,
                Phase::Busy => {
                    self.timed = Some(phase);
                    return Ok(());
                }
            };
            self.read_deadline.as_mut().reset(Instant::now() + time);
            self.timed = Some(phase);
        }
        if phase != Phase::Busy && self.read_deadline.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    /// Passes a write's result on; one that makes no progress for too long fails.
    fn watch_write<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline = None;
            return result;
        }
        let limit = self.times.write;
        let deadline =
            self.write_deadline.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            // The deadline of an earlier request's head is not this one's.
            self.timed = None;
        }
        // Even if bytes arrived: a head that arrives one byte at a time has to meet the deadline, too.
        self.check_read_deadline(cx)?;
        result
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request body with a timeout.
pub(super) struct TimedBody<B> {
    body: B,
    deadline: Pin<Box<Sleep>>,
}

impl<B> TimedBody<B> {
    pub fn new(body: B, time: Duration) -> Self {
        Self { body, deadline: Box::pin(sleep_until(Instant::now() + time)) }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
        }
        Pin::new(&mut self.body).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body; dropping it makes the connection idle again.
pub(super) struct TrackedBody {
    body: axum::body::Body,
    phase: Arc<PhaseCell>,
}

impl TrackedBody {
    pub fn new(body: axum::body::Body, phase: Arc<PhaseCell>) -> Self {
        Self { body, phase }
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.phase.set(Phase::Idle);
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
