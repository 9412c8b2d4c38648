//! Receiving a file in parts: decoded, split into records, checked, and staged in one transaction per part.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Format;
use super::encoding::{Encoding, detect};
use super::mapping::{ImportSettings, Mapping, RowProblem};
use super::records::{self, Record};
use crate::domain::app::App;
use crate::people::People;
use crate::store::import_rows::{StagedRow, stage};
use crate::store::imports::{Import, ImportState, lock, update};
use crate::store::{StoreError, Tx};

/// The largest first line, in bytes.
const MAX_HEADER_BYTES: usize = 256 * 1024;
/// Rows staged in one statement.
const STAGE_AT_ONCE: usize = 5_000;

/// What a part of a file brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The state now.
    pub state: ImportState,
    /// Bytes received so far: the offset of the next part.
    pub received_bytes: i64,
}

/// Why a part is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// There is no such import.
    #[error("there is no such import")]
    Unknown,
    /// It does not receive parts.
    #[error("the import is {0}, and takes no more of its file")]
    NotUploading(&'static str),
    /// Another part is next.
    #[error("the next part begins at byte {0}")]
    WrongOffset(i64),
    /// The file can't be imported.
    #[error("{0}")]
    BadFile(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl People {
    /// Takes a part of a file that begins at `offset`. After the last one the import is checked.
    ///
    /// # Errors
    /// [`PartError`]; nothing of the part is stored then.
    pub async fn receive_part(
        &self,
        import: Uuid,
        app: &App,
        offset: i64,
        (part, is_last): (&[u8], bool),
    ) -> Result<Received, PartError> {
        let mut tx = self.store.begin().await?;
        let mut import = lock(&mut tx, import).await?.ok_or(PartError::Unknown)?;
        if import.state != ImportState::Uploading {
            return Err(PartError::NotUploading(import.state.as_str()));
        }
        if import.received_bytes != offset {
            return Err(PartError::WrongOffset(import.received_bytes));
        }
        let mut bytes = std::mem::take(&mut import.tail);
        bytes.extend_from_slice(part);
        import.received_bytes += i64::try_from(part.len()).unwrap_or(i64::MAX);
        let known = import.format.as_ref().map(|format| read_format(&import, format)).transpose()?;
        let encoding = match &known {
            Some(format) => format.encoding,
            None => encoding_of(&bytes)?,
        };
        let (text, decoded) = encoding.decode(&bytes, is_last);
        let (format, start) = match known {
            Some(format) => (Some(format), 0),
            None => begin(&mut import, &text, encoding, is_last)?,
        };
        let Some(format) = format else {
            import.tail = bytes;
            update(&mut tx, &import).await?;
            return finish(tx, &import).await;
        };
        let settings = read_settings(&import)?;
        let mapping =
            Mapping::of(&format.header, &settings, app.alias_labels.clone()).map_err(PartError::BadFile)?;
        import.format = Some(json!(format));
        let mut line = u64::try_from(import.next_line).unwrap_or(1);
        let (found, used) = records::split(&text[start..], format.delimiter_byte(), &mut line, is_last);
        import.next_line = i64::try_from(line).unwrap_or(i64::MAX);
        import.tail = encoding.encode(&text[start + used..]);
        import.tail.extend_from_slice(&bytes[decoded..]);
        stage_records(&mut tx, &mut import, found, &mapping).await?;
        if is_last {
            complete(&mut import)?;
        }
        update(&mut tx, &import).await?;
        let received = finish(tx, &import).await?;
        self.wake();
        Ok(received)
    }
}

async fn finish(tx: Tx, import: &Import) -> Result<Received, PartError> {
    tx.commit().await.map_err(StoreError::from)?;
    Ok(Received { state: import.state, received_bytes: import.received_bytes })
}

/// The form of an import's file.
pub(super) fn read_format(import: &Import, format: &Value) -> Result<Format, StoreError> {
    serde_json::from_value(format.clone()).map_err(|_| StoreError::corrupt("imports", "format", import.id))
}

/// The settings of an import.
pub(super) fn read_settings(import: &Import) -> Result<ImportSettings, StoreError> {
    serde_json::from_value(import.settings.clone())
        .map_err(|_| StoreError::corrupt("imports", "settings", import.id))
}

/// The encoding of a file that begins with these bytes.
fn encoding_of(bytes: &[u8]) -> Result<Encoding, PartError> {
    let bad = |detail: &str| Err(PartError::BadFile(detail.to_owned()));
    if bytes.starts_with(b"PK\x03\x04") {
        return bad("this is an Excel file (XLSX), not CSV: save it as \"CSV UTF-8\" and import that");
    }
    let start = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
    let encoding = detect(start);
    if encoding == Encoding::Utf8 && start.contains(&0) {
        return bad("the file contains NUL characters: it is not text, or its encoding is not known");
    }
    Ok(encoding)
}

/// The form of a file, from its first line, and where its first row begins in the text. Without a whole first line, the
/// form is not known yet.
fn begin(
    import: &mut Import,
    text: &str,
    encoding: Encoding,
    is_last: bool,
) -> Result<(Option<Format>, usize), PartError> {
    let bad = |detail: &str| PartError::BadFile(detail.to_owned());
    let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let text = &text[mark..];
    let first = text.split_inclusive('\n').next().filter(|line| line.ends_with('\n') || is_last);
    let Some(first) = first else {
        return match (is_last, text.len() > MAX_HEADER_BYTES) {
            (true, _) => Err(bad("the file is empty")),
            (false, true) => Err(bad("the first line is longer than 256 KiB")),
            (false, false) => Ok((None, 0)),
        };
    };
    let (delimiter, names_only) = records::delimiter(first);
    let skipped = if names_only { first.len() } else { 0 };
    let mut line = 1 + u64::from(names_only);
    let (header, end) = records::split_first(&text[skipped..], delimiter, &mut line, is_last);
    let Some(header) = header else {
        return if is_last { Err(bad("the file has no header")) } else { Ok((None, 0)) };
    };
    let fields =
        header.fields.map_err(|reason| PartError::BadFile(format!("the header can't be read: {reason}")))?;
    import.next_line = i64::try_from(line).unwrap_or(i64::MAX);
    let header =
        fields.into_iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_owned()).collect();
    Ok((Some(Format { encoding, delimiter: char::from(delimiter), header }), mark + skipped + end))
}

/// Checks records and stages them.
async fn stage_records(
    tx: &mut Tx,
    import: &mut Import,
    records: Vec<Record>,
    mapping: &Mapping,
) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(records.len());
    for record in records {
        let problem = match record.fields {
            Ok(fields) => mapping.user(&fields).err(),
            Err(reason) => Some(RowProblem { column: String::new(), reason: reason.to_owned() }),
        };
        import.counts.records += 1;
        import.counts.rejected += i64::from(problem.is_some());
        rows.push(StagedRow {
            line: i64::try_from(record.line).unwrap_or(i64::MAX),
            // Postgres stores no NUL.
            raw: record.raw.replace('\0', "\u{fffd}"),
            problem: problem.map(|problem| json!(problem)),
        });
    }
    for chunk in rows.chunks(STAGE_AT_ONCE) {
        stage(tx, import.id, chunk).await?;
    }
    Ok(())
}

/// The file is complete: a limit may stop it.
fn complete(import: &mut Import) -> Result<(), StoreError> {
    let settings = read_settings(import)?;
    let counts = import.counts;
    import.state = ImportState::Checking;
    let max = settings.max_rejected_percent.unwrap_or(MAX_REJECTED_PERCENT);
    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
    let percent = counts.rejected as f64 * 100.0 / counts.records.max(1) as f64;
    if counts.records == 0 {
        stop(import, "the file has no rows".to_owned());
    } else if percent > max {
        let detail = format!(
            "{} of {} rows are rejected, more than {max} %: correct the file or its mapping, or raise `max_rejected_percent`",
            counts.rejected, counts.records
        );
        stop(import, detail);
    }
    Ok(())
}

/// The share of rejected rows above which nothing is imported, unless the import says otherwise.
const MAX_REJECTED_PERCENT: f64 = 5.0;

/// Stops an import before anything is accepted.
pub(super) fn stop(import: &mut Import, detail: String) {
    import.state = ImportState::Stopped;
    import.detail = detail;
}
