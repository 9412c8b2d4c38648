//! File descriptors: every connection takes one, and so do the database and the calls to OneSignal.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that connections of clients leave alone: for the database, for calls to OneSignal, and for files.
const RESERVED: u64 = 256;
/// Fewer than this are worth a warning.
const ENOUGH: u64 = 4_096;

/// How many file descriptors the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// In force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

impl DescriptorLimit {
    /// The process's own; `None` if the system does not say.
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

/// How many connections there can be: as many as are wanted, within what the descriptors allow.
pub(super) fn connections_within(wanted: usize) -> usize {
    let Some(limit) = DescriptorLimit::read() else { return wanted };
    let room = limit.soft.saturating_sub(RESERVED).max(limit.soft / 2).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}
