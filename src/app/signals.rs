//! What asks a process to stop.

use tokio::signal::unix::{SignalKind, signal};

/// How a process was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C: a person waits.
    Interrupt,
    /// SIGTERM: a supervisor does, and a load balancer should hear of it first.
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
