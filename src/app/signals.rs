//! Stop signals.

use tokio::signal::unix::{SignalKind, signal};

/// The stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C: stop immediately, a person is waiting.
    Interrupt,
    /// SIGTERM from a supervisor: load balancers should notice first.
    Terminate,
}

/// Waits for Ctrl-C or SIGTERM.
///
/// # Errors
/// When the process may not listen to signals.
pub async fn stop_signal() -> std::io::Result<Stop> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => Stop::Interrupt,
        _ = terminate.recv() => Stop::Terminate,
    })
}
