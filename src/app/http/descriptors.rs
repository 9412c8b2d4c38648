//! File descriptors, which are used by connections, the database and calls to OneSignal.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors reserved for the database, calls to OneSignal, and files.
const RESERVED: u64 = 256;
/// The limit below which to warn.
const ENOUGH: u64 = 4_096;

/// The process's file descriptor limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

impl DescriptorLimit {
    /// The current limits; `None` if the system doesn't report them.
    pub fn read() -> Option<Self> {
        getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, hard)| Self { soft, hard })
    }

    /// Whether there are enough for thousands of connections.
    pub fn is_enough(self) -> bool {
        self.soft >= ENOUGH
    }
}

/// Raises the soft limit to the hard one, and warns when that is still low.
pub fn raise_descriptor_limit() {
    let Some(limit) = DescriptorLimit::read() else { return };
    if limit.soft < limit.hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)
    {
        tracing::warn!(%error, "the file descriptor limit could not be raised and stays at {}", limit.soft);
    }
    if let Some(limit) = DescriptorLimit::read().filter(|limit| !limit.is_enough()) {
        let soft = limit.soft;
        tracing::warn!(
            soft,
            "this process is limited to {soft} file descriptors: it accepts at most {} connections; raise the limit \
             (`ulimit -n`, LimitNOFILE=) to {ENOUGH} or more",
            connections_within(usize::MAX)
        );
    }
}

/// The connection limit: the configured number, or fewer if there are not enough descriptors.
pub(super) fn connections_within(wanted: usize) -> usize {
    let Some(limit) = DescriptorLimit::read() else { return wanted };
    let room = limit.soft.saturating_sub(RESERVED).max(limit.soft / 2).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}
