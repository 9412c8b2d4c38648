//! A server that speaks OneSignal's contract.
