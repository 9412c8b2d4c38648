//! Queued jobs: bounded, in order of arrival.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::{Condvar, Mutex};

/// One piece of work. It does not panic.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Jobs that wait.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    max: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Queue {
    /// A queue in which up to `max` jobs may wait.
    pub fn new(max: usize) -> Self {
        Self { waiting: Mutex::default(), changed: Condvar::new(), max: max.max(1) }
    }

    /// Adds a job; `false` if the queue is full.
    pub fn push(&self, job: Job) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed || waiting.jobs.len() >= self.max {
            return false;
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Runs jobs until the queue is closed and empty.
    pub fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            if waiting.is_closed {
                return None;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// Closes the queue and lets the threads end.
    pub fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_all();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.lock().jobs.len();
        formatter
            .debug_struct("Queue")
            .field("waiting", &waiting)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
