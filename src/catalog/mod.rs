//! Editing templates, event types and rules: checked, saved, uploaded to OneSignal, and only then live.
//!
//! `files` reads and writes the catalog as files, `forms` are the written forms of its entries, `checks` report all
//! problems, `changes` computes differences, `publish` applies changes. `templates` covers drafts, approval, versions
//! and rollbacks; `traffic` renders content for real events. Nothing here sends a message; the pipeline reads the live
//! catalog and never writes it.

mod app_files;
mod author;
mod canaries;
mod changes;
pub mod check;
mod checks;
pub mod diff;
pub mod drift;
pub mod entries;
pub mod files;
pub mod forms;
mod gates;
pub mod import;
pub mod infer;
mod manifest;
mod patience;
mod preconditions;
pub mod preview_data;
pub mod publish;
pub mod sample;
mod source_files;
mod template_checks;
mod template_settings;
pub mod templates;
mod test_recipients;
pub mod traffic;
mod upload;

pub use author::{By, Rights};
pub use changes::Change;
pub use check::{CatalogProblem, Severity};
pub use forms::explain_value;
pub use publish::{Applied, ApplyError, Applying, Publisher};
pub use source_files::is_source_name;
pub use upload::UploadError;
