//! The template language and the compiler on top of it.
//!
//! [`liquid`] is the language alone. [`compile()`] turns what authors write (`{{ data.order_id }}`,
//! `{{ user.tags.city }}`) into what OneSignal runs, plus a plan of what Herald computes for each event: a
//! [`CompiledContent`] then yields the entry of `custom_data` for an event, or the whole text.
//!
//! [`check::check`] reports in advance what an event could render as, based on the event type's schema.
//!
//! Everything here is pure: sources and events come in as arguments, texts, values and problems go out; no I/O, no
//! clock. It rejects what it can't guarantee: a template that OneSignal would render as a blank, a value in a context
//! where it is not safe, an event without a value that the text needs. Its errors never contain a value.

pub mod check;
mod compile;
pub mod liquid;
pub mod mjml;
pub mod partials;
pub mod preview;

pub use compile::compile_content;
pub use compile::{CompiledContent, FieldPath, LOOKUP, Problem, ValueError, compile};
