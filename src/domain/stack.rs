//! A stack that is deep enough for recursion over input.
//!
//! Depth is counted before anything recurses; this is the second line of defence, for errors in the counting and for
//! libraries that need much stack per level.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// The stack of a thread that works on input, in bytes.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    static IS_DEEP: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread was started with a stack of [`STACK_BYTES`].
pub fn declare_deep() {
    IS_DEEP.set(true);
}

/// Runs recursive work on a stack of [`STACK_BYTES`]: on this thread if it has one, otherwise on a new thread. `None`
/// if it panicked, or if no thread could be started.
pub fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if IS_DEEP.get() {
        return catch_unwind(AssertUnwindSafe(work)).ok();
    }
    thread::scope(|scope| {
        let deep = move || {
            declare_deep();
            work()
        };
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, deep);
        thread.ok().and_then(|thread| thread.join().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(levels: u32) -> u64 {
        let room = [u64::from(levels); 64];
        if levels == 0 { room[0] } else { down(levels - 1) + std::hint::black_box(room)[1] }
    }

    #[test]
    fn what_would_overflow_a_usual_stack_fits_and_a_panic_is_none() {
        assert!(on_deep_stack(|| down(3_000)).is_some());
        assert!(on_deep_stack(|| on_deep_stack(|| down(3_000))).flatten().is_some());
        assert_eq!(on_deep_stack(|| -> u32 { panic!("on purpose") }), None);
    }
}
