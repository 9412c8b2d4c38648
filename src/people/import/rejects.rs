//! The file of rejected rows: each row as it was, with its line, the column and the reason at the end, so that the
//! corrected file can be imported again.

use super::mapping::REJECT_COLUMNS;
use super::records;
use super::stage::read_format;
use crate::store::StoreError;
use crate::store::import_rows::StagedRow;
use crate::store::imports::Import;

/// The file as UTF-8 text with the delimiter of the original. Cells are written as they were; only the added reason is
/// ours, and never begins with a character that a spreadsheet takes for a formula.
///
/// # Errors
/// [`StoreError::Corrupt`].
pub fn file(import: &Import, rows: &[StagedRow]) -> Result<String, StoreError> {
    let Some(format) = &import.format else { return Ok(String::new()) };
    let format = read_format(import, format)?;
    let delimiter = format.delimiter;
    let byte = format.delimiter_byte();
    let is_added = |name: &String| REJECT_COLUMNS.contains(&name.as_str());
    let kept: Vec<usize> =
        (0..format.header.len()).filter(|place| !is_added(&format.header[*place])).collect();
    let header = kept.iter().map(|place| quoted(&format.header[*place], delimiter));
    let mut text = joined(header.chain(REJECT_COLUMNS.map(str::to_owned)), delimiter);
    for row in rows {
        let problem = row.problem.as_ref();
        let said = |name: &str| problem.and_then(|problem| problem[name].as_str()).unwrap_or_default();
        let added =
            [row.line.to_string(), quoted(said("column"), delimiter), quoted(said("reason"), delimiter)];
        // A row that was rejected before has those three columns already; one that can't be split stays as it is.
        let fields = records::fields(&row.raw, byte);
        let cells: Vec<String> = if kept.len() < format.header.len() && fields.len() == format.header.len() {
            kept.iter().map(|place| quoted(&fields[*place], delimiter)).collect()
        } else {
            vec![row.raw.clone()]
        };
        text.push_str(&joined(cells.into_iter().chain(added), delimiter));
    }
    Ok(text)
}

fn joined(cells: impl Iterator<Item = String>, delimiter: char) -> String {
    let mut line = cells.collect::<Vec<_>>().join(&delimiter.to_string());
    line.push('\n');
    line
}

fn quoted(cell: &str, delimiter: char) -> String {
    if cell.contains(['"', '\n', '\r', delimiter]) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}
