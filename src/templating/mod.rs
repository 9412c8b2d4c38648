//! The template language and the compiler on top of it.

pub mod liquid;
