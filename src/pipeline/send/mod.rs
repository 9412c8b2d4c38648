//! Sending: due deliveries become batches, calls and answers.
//!
//! `dispatch` claims what is due ([`memory_queue`] holds what this process has claimed), `pack` decides which deliveries share
//! a call, `call` makes the call with no transaction open, `record` writes what came back. `retry` sends a batch again under
//! its key, `load` reads what a claimed delivery says, `ordering` and `hours` decide whether it may go now.

pub mod batch_draft;
pub mod call;
pub mod dispatch;
pub mod fair_order;
pub mod hours;
pub mod load;
pub mod memory_queue;
pub mod ordering;
pub mod pack;
pub mod record;
pub mod retry;
