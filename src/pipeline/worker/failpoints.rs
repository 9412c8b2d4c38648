//! Named points at which a test can make the process die, in debug builds only: the whole process through a variable,
//! or one replica of a simulation through the [`faults`](crate::store::fault_injection) around its steps.

/// The points, as `HERALD_CRASH_POINT` names them.
pub const POINTS: [&str; 5] = ["after_commit", "after_freeze", "after_call", "after_claim", "after_recall"];

/// Dies here, as if by `kill -9`, when `HERALD_CRASH_POINT` names this point. `HERALD_CRASH_AFTER=n` skips the first
/// `n` passes. Compiled to nothing in release builds.
#[inline]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is no crash point");
    #[cfg(debug_assertions)]
    {
        armed::pass(name);
        crate::store::fault_injection::pass(name);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    struct Armed {
        point: String,
        lives: AtomicI64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        ARMED
            .get_or_init(|| {
                let point = std::env::var("HERALD_CRASH_POINT").ok()?;
                let lives =
                    std::env::var("HERALD_CRASH_AFTER").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
                Some(Armed { point, lives: AtomicI64::new(lives) })
            })
            .as_ref()
    }

    pub(in crate::pipeline) fn pass(name: &str) {
        let Some(armed) = armed().filter(|armed| armed.point == name) else { return };
        if armed.lives.fetch_sub(1, Ordering::SeqCst) > 0 {
            return;
        }
        let me = nix::unistd::Pid::this();
        let _ = nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL);
        // The signal has been sent: nothing more may happen in this thread until it arrives.
        loop {
            std::thread::park();
        }
    }
}
