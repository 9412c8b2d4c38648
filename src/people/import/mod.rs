//! Imports of users from CSV files.
//!
//! A file arrives in parts, each at the offset that the one before ended at, so that an upload can be resumed. Its rows
//! are staged and checked as a whole; only then, and only if no limit is exceeded, are they accepted, a chunk per
//! transaction together with the position. A process that dies loses nothing and repeats nothing.

pub mod encoding;
pub mod mapping;
pub mod records;
pub mod rejects;
mod run;
mod stage;

pub use run::PreviewedRow;
pub use stage::{PartError, Received};

use serde::{Deserialize, Serialize};

use encoding::Encoding;

/// The form of a file, once its first line is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Format {
    /// The encoding.
    pub encoding: Encoding,
    /// The delimiter.
    pub delimiter: char,
    /// The header.
    pub header: Vec<String>,
}

impl Format {
    /// The delimiter as a byte.
    pub fn delimiter_byte(&self) -> u8 {
        u8::try_from(u32::from(self.delimiter)).unwrap_or(b',')
    }
}
