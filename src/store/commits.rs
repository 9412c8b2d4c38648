//! Commits, whose results can be unknown.

use super::{StoreError, Tx};

/// The result of a commit.
#[derive(Debug)]
pub enum Committed {
    /// Committed.
    Yes,
    /// The server rolled it back.
    No(StoreError),
    /// The connection broke before the response: it may be committed.
    Unclear(StoreError),
}

/// Commits, and distinguishes "rolled back" from "unknown".
pub async fn commit(tx: Tx) -> Committed {
    #[cfg(debug_assertions)]
    return super::fault_injection::commit(tx).await;
    #[cfg(not(debug_assertions))]
    commit_now(tx).await
}

pub(super) async fn commit_now(tx: Tx) -> Committed {
    match tx.commit().await {
        Ok(()) => Committed::Yes,
        Err(error @ sqlx::Error::Database(_)) => {
            let error = StoreError::from(error);
            if error.is_refusal() { Committed::No(error) } else { Committed::Unclear(error) }
        }
        Err(error) => Committed::Unclear(error.into()),
    }
}
