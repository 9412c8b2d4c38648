//! Writing templates, event types and rules: checked, saved, uploaded to OneSignal, and only then live.
//!
//! `files` reads and writes the catalog as files, `forms` are its things as people write them, `checks` say everything
//! that is wrong with them, `changes` what is different, `publish` carries changes out. `templates` is the life of a
//! template between files: drafts, approval, versions, roll-backs; `traffic` holds copy against real events. Nothing
//! here sends a message; the pipeline reads what is live and never writes it.

mod template_settings;
mod app_files;
mod author;
mod canaries;
mod changes;
pub mod check;
mod checks;
pub mod diff;
mod manifest;
pub mod drift;
pub mod entries;
pub mod preview_data;
pub mod files;
pub mod forms;
mod preconditions;
pub mod import;
pub mod infer;
mod patience;
pub mod publish;
pub mod sample;
mod source_files;
mod gates;
mod template_checks;
pub mod templates;
mod test_recipients;
pub mod traffic;
mod upload;

pub use author::{By, Rights};
pub use changes::Change;
pub use check::{CatalogProblem, Severity};
pub use forms::duration_hint;
pub use publish::{Applied, ApplyError, Applying, Publisher};
pub use source_files::is_source_name;
pub use upload::UploadError;
