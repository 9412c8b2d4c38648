//! Attacks on a running Herald, one file per class of fault. Each test is an attack that once worked, or one like it.

mod approval;
mod browser;
mod bypassed_limits;
mod connections;
mod heavy_input;
mod keys;
mod log_in;
pub mod logs;
mod secrets;
mod starvation;
