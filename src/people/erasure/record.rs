//! The record of erasures outside the database: one file that a restore of the database does not change.
//!
//! Each line is a JSON object: the key of the hashes (sealed with the secret key), an erasure with its hashes, or the
//! lifting of one. Lines are only appended. At start, erasures that the database does not have are applied again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Progress;
use crate::domain::clock::Timestamp;
use crate::domain::erasure::Identifier;
use crate::domain::id::ErasureId;
use crate::people::People;
use crate::store::erasures::{Digest, RecordedErasure};
use crate::store::{Store, StoreError};

/// Rows that are read at once when identifiers are looked for by their hashes.
const ROWS_AT_ONCE: i64 = 10_000;

/// The file.
#[derive(Debug, Clone)]
pub struct ErasureRecord(Arc<PathBuf>);

/// Why the record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file can't be read or written.
    #[error("the record of erasures {path} can't be used: {cause}")]
    File {
        /// The file.
        path: String,
        /// The system's error.
        cause: std::io::Error,
    },
    /// A line is not one of ours.
    #[error("the record of erasures {path} is damaged: line {line} can't be read")]
    Damaged {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// It was written for another database.
    #[error("the record of erasures {path} belongs to another database: its key is different")]
    OtherKey {
        /// The file.
        path: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Key { key: String },
    Erasure { erasure: String, requested_at: Timestamp, digests: BTreeSet<String> },
    Lifted { lifted: String },
}

/// What a record contains.
#[derive(Debug, Default)]
struct Content {
    key: Option<Vec<u8>>,
    erasures: BTreeMap<ErasureId, (Timestamp, BTreeSet<Digest>)>,
}

impl ErasureRecord {
    /// The record in a file; it is created when it is first written to.
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(path.to_owned()))
    }

    fn failed(&self, cause: std::io::Error) -> RecordError {
        RecordError::File { path: self.0.display().to_string(), cause }
    }

    fn read(&self) -> Result<Content, RecordError> {
        let text = match std::fs::read_to_string(&*self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(self.failed(error)),
        };
        let mut content = Content::default();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        for (number, line) in complete.lines().enumerate() {
            let damaged = || RecordError::Damaged { path: self.0.display().to_string(), line: number + 1 };
            content.add(line).ok_or_else(damaged)?;
        }
        Ok(content)
    }

    fn append(&self, lines: &[Line]) -> Result<(), RecordError> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&json!(line).to_string());
            text.push('\n');
        }
        let write = || {
            let mut file = std::fs::OpenOptions::new().read(true).append(true).create(true).open(&*self.0)?;
            // Several processes may share the file.
            file.lock()?;
            let mut present = Vec::new();
            file.read_to_end(&mut present)?;
            // What a crash cut off was not marked as recorded, and is written again.
            let complete = present.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            file.set_len(u64::try_from(complete).unwrap_or_default())?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|cause| self.failed(cause))
    }
}

impl Content {
    fn add(&mut self, line: &str) -> Option<()> {
        match serde_json::from_str(line).ok()? {
            Line::Key { key } => self.key = Some(from_hex(&key)?),
            Line::Erasure { erasure, requested_at, digests } => {
                let entry =
                    self.erasures.entry(erasure.parse().ok()?).or_insert((requested_at, BTreeSet::new()));
                for digest in &digests {
                    entry.1.insert(from_hex(digest)?.try_into().ok()?);
                }
            }
            Line::Lifted { lifted } => drop(self.erasures.remove(&lifted.parse().ok()?)),
        }
        Some(())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    text.len().is_multiple_of(2).then(|| (0..text.len()).step_by(2).map(digits).collect())?
}

fn lines_of(one: &RecordedErasure) -> Line {
    if one.is_lifted {
        return Line::Lifted { lifted: one.id.to_string() };
    }
    Line::Erasure {
        erasure: one.id.to_string(),
        requested_at: one.requested_at,
        digests: one.digests.iter().map(|digest| to_hex(digest)).collect(),
    }
}

/// Applies erasures again that a restored database does not have. Must run before anything is sent, and before the key
/// of hashes is first used.
///
/// # Errors
/// [`RecordError`]: nothing must be sent then.
pub async fn apply(store: &Store, record: &ErasureRecord) -> Result<usize, RecordError> {
    let content = record.read()?;
    if let Some(key) = &content.key
        && !store.is_erasure_key(key).await?
    {
        return Err(RecordError::OtherKey { path: record.0.display().to_string() });
    }
    let sealed = store.sealed_erasure_key().await?;
    if content.key.as_ref() != Some(&sealed) {
        record.append(&[Line::Key { key: to_hex(&sealed) }])?;
    }
    let ids: Vec<ErasureId> = content.erasures.keys().copied().collect();
    let unknown = store.unknown_erasures(&ids).await?;
    for id in &unknown {
        let Some((requested_at, digests)) = content.erasures.get(id) else { continue };
        let progress = Progress { is_restored: true, ..Progress::default() };
        store.apply_erasure_again(*id, *requested_at, digests, &progress.to_json()).await?;
        let requested_at = requested_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        tracing::warn!(erasure.id = %id, "an erasure of {requested_at} is applied again: this database does not have it");
    }
    Ok(unknown.len())
}

impl People {
    /// Writes erasures to the record that it does not have. Returns whether it has all of them.
    pub(super) async fn record_erasures(&self) -> bool {
        let Some(record) = &self.record else { return true };
        match self.write_record(record.clone()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("erasures wait, because {error}");
                false
            }
        }
    }

    async fn write_record(&self, record: ErasureRecord) -> Result<(), RecordError> {
        let missing = self.store.unrecorded_erasures().await?;
        if missing.is_empty() {
            return Ok(());
        }
        let lines: Vec<Line> = missing.iter().map(lines_of).collect();
        let written = tokio::task::spawn_blocking(move || record.append(&lines));
        // A panic in it is a defect of ours, and has been logged.
        if let Ok(written) = written.await {
            written?;
        }
        let ids: Vec<ErasureId> = missing.iter().map(|one| one.id).collect();
        Ok(self.store.mark_recorded(&ids).await?)
    }

    /// Finds the identifiers of an erasure by their hashes, in a database that was restored: among users, and among the
    /// recipients of deliveries.
    pub(super) async fn find_again(&self, id: ErasureId) -> Result<BTreeSet<Identifier>, StoreError> {
        let digests = self.store.digests_of_erasure(id).await?;
        let key = self.store.erasure_key().await?;
        let mut found = BTreeSet::new();
        let mut keep = |each: Identifier| {
            if digests.contains(key.digest(&each.matching_text()).as_slice()) {
                found.insert(each);
            }
        };
        let mut after = (String::new(), String::new());
        loop {
            let rows = self.store.aliases_after(&after, ROWS_AT_ONCE).await?;
            let Some(last) = rows.last() else { break };
            after = last.clone();
            for (label, id) in rows {
                keep(Identifier { label, id });
            }
        }
        self.store.each_recipient(keep).await?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_hexadecimal_text_and_nothing_else_is_read() {
        assert_eq!(from_hex(&to_hex(&[0, 127, 255])), Some(vec![0, 127, 255]));
        for wrong in ["0", "zz", "0g", "é0"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_that_was_cut_off_by_a_crash_is_ignored_and_a_lifted_erasure_is_gone() {
        let folder = std::env::temp_dir().join(format!("herald-record-{}", std::process::id()));
        let record = ErasureRecord::new(&folder);
        let (kept, lifted) = (id(1), id(2));
        let at: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        let line = |id: ErasureId, is_lifted: bool| {
            lines_of(&RecordedErasure { id, requested_at: at, is_lifted, digests: [[7; 32]].into() })
        };
        record.append(&[line(kept, false), line(lifted, false), line(lifted, true)]).unwrap();
        std::fs::OpenOptions::new().append(true).open(&folder).unwrap().write_all(b"{\"erasu").unwrap();
        let content = record.read().unwrap();
        assert_eq!(content.erasures.keys().collect::<Vec<_>>(), [&kept]);
        record.append(&[line(lifted, false)]).unwrap();
        let content = record.read().unwrap();
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(content.erasures.keys().collect::<Vec<_>>(), [&kept, &lifted]);
    }

    fn id(n: u128) -> ErasureId {
        use crate::domain::id::TypedId;
        ErasureId::from_uuid(uuid::Uuid::from_u128(n))
    }
}
