//! What people do to deliveries by hand: cancel, release, replay and recall them, preview and test copy, and look at what
//! became of messages.

pub mod cancel;
pub mod erase;
pub mod message_stats;
pub mod preview;
pub mod recall;
pub mod release;
pub mod replay;
pub mod test_send;
