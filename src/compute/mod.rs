//! Threads for work on input: parsing, checking, rendering, converting and evaluating what people and producers send.
//!
//! Such work can be slow, and slow work on an async worker delays every request. So async code passes it to
//! [`Compute::run`] as a closure and awaits the result. The closure gets the [`Budget`] that it has to pay from. The
//! threads have stacks of [`STACK_BYTES`]; a panic becomes an error for the caller. Events have their own threads, so
//! that work for people can't delay them.

mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::budget::{Budget, Limits};
use crate::domain::clock::Deadline;
use crate::domain::stack::{STACK_BYTES, declare_deep};

use queue::Queue;

/// The purpose of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Events: checked, planned, rendered.
    Events,
    /// Work that a person started and waits for: checks, previews, publishing, trying out.
    People,
}

/// The number of threads and the size of their queues.
#[derive(Debug, Clone, Copy)]
pub struct ComputeOptions {
    /// Threads for events.
    pub event_threads: usize,
    /// Threads for people's work.
    pub people_threads: usize,
    /// The maximum number of queued jobs for events.
    pub events_waiting: usize,
    /// The maximum number of queued jobs for people.
    pub people_waiting: usize,
    /// How long a job for events may take.
    pub event_time: Duration,
    /// How long a job for people may take.
    pub people_time: Duration,
}

impl Default for ComputeOptions {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            event_threads: processors.clamp(2, 16),
            people_threads: (processors / 2).clamp(1, 2),
            events_waiting: 4_096,
            people_waiting: 64,
            event_time: Duration::from_secs(5),
            people_time: Duration::from_secs(10),
        }
    }
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// Too many jobs are queued; retrying later helps.
    #[error("too much work is waiting")]
    Full,
    /// The work panicked: a bug in Herald, which is logged.
    #[error("the work failed because of an internal error")]
    Panicked,
}

/// The threads. They end once this is dropped and their jobs are done.
#[derive(Debug)]
pub struct Compute {
    events: Arc<Queue>,
    people: Arc<Queue>,
    options: ComputeOptions,
}

impl Compute {
    /// Starts the threads.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(options: ComputeOptions) -> std::io::Result<Self> {
        let compute = Self {
            events: Arc::new(Queue::new(options.events_waiting)),
            people: Arc::new(Queue::new(options.people_waiting)),
            options,
        };
        for (queue, name, threads) in [
            (&compute.events, "herald-events", options.event_threads),
            (&compute.people, "herald-people", options.people_threads),
        ] {
            for _ in 0..threads.max(1) {
                let queue = Arc::clone(queue);
                let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
                thread.spawn(move || {
                    declare_deep();
                    queue.work();
                })?;
            }
        }
        Ok(compute)
    }

    /// Runs `work` with a budget of [`Limits::JOB`] and the purpose's time limit. Jobs whose caller is gone before they
    /// start are skipped; running ones end by themselves or with their budget.
    ///
    /// # Errors
    /// [`ComputeError`]; after [`ComputeError::Full`] retrying later helps.
    pub async fn run<T: Send + 'static>(
        &self,
        purpose: Purpose,
        work: impl FnOnce(&Budget) -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        let (queue, time) = match purpose {
            Purpose::Events => (&self.events, self.options.event_time),
            Purpose::People => (&self.people, self.options.people_time),
        };
        let (reply, result) = oneshot::channel();
        let job = move || {
            if reply.is_closed() {
                return;
            }
            let budget = Budget::new(Limits::JOB.until(Deadline::after(time)));
            let done = catch_unwind(AssertUnwindSafe(|| work(&budget)));
            if done.is_err() {
                tracing::error!("work on input panicked; its caller got an error");
            }
            // The caller may be gone.
            let _ = reply.send(done.map_err(|_| ComputeError::Panicked));
        };
        if !queue.push(Box::new(job)) {
            return Err(ComputeError::Full);
        }
        result.await.unwrap_or(Err(ComputeError::Panicked))
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        self.events.close();
        self.people.close();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::domain::budget::Spent;

    fn small() -> Compute {
        let options = ComputeOptions {
            event_threads: 1,
            people_threads: 1,
            events_waiting: 1,
            people_waiting: 1,
            ..ComputeOptions::default()
        };
        Compute::start(options).expect("threads start")
    }

    #[tokio::test]
    async fn a_panic_is_the_caller_s_alone_and_the_thread_goes_on() {
        let compute = small();
        for _ in 0..3 {
            let failed: Result<(), _> = compute.run(Purpose::People, |_| panic!("on purpose")).await;
            assert_eq!(failed, Err(ComputeError::Panicked));
        }
        assert_eq!(compute.run(Purpose::People, |_| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_people_and_events_go_on() {
        let compute = Arc::new(small());
        let (release, held) = mpsc::channel::<()>();
        let (began, started) = oneshot::channel();
        let busy = Arc::clone(&compute);
        let first = tokio::spawn(async move {
            busy.run(Purpose::People, move |_| {
                let _ = began.send(());
                held.recv()
            })
            .await
        });
        started.await.expect("it runs");
        let waits = compute.run(Purpose::People, |_| 1);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending(), "one may wait");
        assert_eq!(compute.run(Purpose::People, |_| 2).await, Err(ComputeError::Full));
        assert_eq!(compute.run(Purpose::Events, |_| 3).await, Ok(3), "events have their own threads");
        release.send(()).expect("it waits");
        assert_eq!(waits.await, Ok(1));
        assert!(first.await.expect("it ends").is_ok());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_left_undone() {
        let compute = small();
        let (release, held) = mpsc::channel::<()>();
        let (said, heard) = mpsc::channel();
        let first = compute.run(Purpose::People, move |_| held.recv());
        tokio::pin!(first);
        let _ = futures_util::poll!(&mut first);
        {
            let given_up = compute.run(Purpose::People, move |_| said.send(()));
            tokio::pin!(given_up);
            // It may be refused where the first has not begun yet; it is not run in either case.
            let _ = futures_util::poll!(&mut given_up);
        }
        release.send(()).expect("it waits");
        assert!(first.await.is_ok());
        assert_eq!(compute.run(Purpose::People, |_| 1).await, Ok(1));
        assert!(heard.try_recv().is_err());
    }

    #[tokio::test]
    async fn work_without_an_end_ends_with_its_time() {
        let options = ComputeOptions { people_time: Duration::from_millis(20), ..ComputeOptions::default() };
        let compute = Compute::start(options).expect("threads start");
        let endless = |budget: &Budget| loop {
            if let Err(spent) = budget.steps(1) {
                return spent;
            }
        };
        let spent = compute.run(Purpose::People, endless).await.expect("it ends");
        assert!(matches!(spent, Spent("time" | "steps")), "{spent:?}");
    }
}
