//! Writing templates, event types and rules: checked, saved, uploaded to OneSignal, and only then live.
//!
//! `files` reads the catalog as files (one folder a thing), `check` says everything that is wrong with them, `publish`
//! carries changes out. Nothing here sends a message; the pipeline reads what is live and never writes it.

pub mod check;
mod document;
pub mod files;
pub mod publish;
pub mod sample;
mod source_files;
mod upload;

pub use check::{CatalogProblem, Severity};
pub use publish::{Applied, ApplyError, Change, Publisher};
pub use source_files::is_source_name;
pub use upload::UploadError;
