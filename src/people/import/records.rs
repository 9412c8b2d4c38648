//! Splits CSV text into records, with the physical line that each begins with. A broken quote costs one line: reading
//! goes on at the next one.

/// The largest record, in bytes, and the most lines in one.
const MAX_RECORD_BYTES: usize = 64 * 1024;
const MAX_RECORD_LINES: u64 = 100;
/// Delimiters that are found out by themselves.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// A record, or a line that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The physical line that it begins with; the first one is 1.
    pub line: u64,
    /// Its text, without the line break at its end.
    pub raw: String,
    /// Its fields, or why it has none.
    pub fields: Result<Vec<String>, &'static str>,
}

/// The delimiter of a file that begins with this line, and whether that line only names it (`sep=;`).
pub fn delimiter(first_line: &str) -> (u8, bool) {
    let line = first_line.trim_start_matches('\u{feff}').trim_end();
    if let Some(named) = line.strip_prefix("sep=").or_else(|| line.strip_prefix("SEP=")) {
        if let [delimiter] = named.as_bytes() {
            return (*delimiter, true);
        }
        if named.is_empty() && first_line.contains("sep=\t") {
            return (b'\t', true);
        }
    }
    let count = |delimiter: u8| {
        let mut is_quoted = false;
        line.bytes()
            .filter(|byte| {
                is_quoted ^= *byte == b'"';
                *byte == delimiter && !is_quoted
            })
            .count()
    };
    let best = DELIMITERS.into_iter().rev().max_by_key(|delimiter| count(*delimiter));
    (best.filter(|delimiter| count(*delimiter) > 0).unwrap_or(b','), false)
}

/// Splits text into records; returns them with the number of bytes that they take. `line` is the physical line of the
/// text's beginning, and is moved on. Without `is_last`, an incomplete record at the end is left alone. Empty lines are
/// no records.
pub fn split(text: &str, delimiter: u8, line: &mut u64, is_last: bool) -> (Vec<Record>, usize) {
    split_up_to(usize::MAX, text, delimiter, line, is_last)
}

/// The first record, with the number of bytes up to its end.
pub fn split_first(text: &str, delimiter: u8, line: &mut u64, is_last: bool) -> (Option<Record>, usize) {
    let (records, taken) = split_up_to(1, text, delimiter, line, is_last);
    (records.into_iter().next(), taken)
}

fn split_up_to(max: usize, text: &str, delimiter: u8, line: &mut u64, is_last: bool) -> (Vec<Record>, usize) {
    let mut records = Vec::new();
    let mut taken = 0;
    while taken < text.len() && records.len() < max {
        let rest = &text[taken..];
        let (record, bytes, lines) = match next(rest.as_bytes(), delimiter, is_last) {
            Next::Incomplete => break,
            Next::Record { end, bytes, lines } => {
                let raw = &rest[..end];
                (
                    Record { line: *line, raw: raw.to_owned(), fields: Ok(fields(raw, delimiter)) },
                    bytes,
                    lines,
                )
            }
            Next::Broken(reason) => {
                let (end, bytes) = line_end(rest.as_bytes());
                // The line, or its line break, may go on in the next part.
                if !is_last && bytes == rest.len() && !rest.ends_with('\n') && bytes < 2 * MAX_RECORD_BYTES {
                    break;
                }
                (Record { line: *line, raw: rest[..end].to_owned(), fields: Err(reason) }, bytes, 1)
            }
        };
        taken += bytes;
        *line += lines;
        if !record.raw.trim().is_empty() {
            records.push(record);
        }
    }
    (records, taken)
}

enum Next {
    /// More text is needed.
    Incomplete,
    /// A record up to `end`, and the bytes and lines with its line break.
    Record { end: usize, bytes: usize, lines: u64 },
    /// Its first line can't be read.
    Broken(&'static str),
}

fn next(text: &[u8], delimiter: u8, is_last: bool) -> Next {
    let mut lines = 1;
    let mut at = 0;
    let mut is_field_start = true;
    let mut is_quoted = false;
    while at < text.len() {
        if at > MAX_RECORD_BYTES {
            return Next::Broken("the record is longer than 64 KiB; is a closing quote missing?");
        }
        let byte = text[at];
        if is_quoted {
            match (byte, text.get(at + 1)) {
                (b'"', Some(b'"')) => at += 1,
                (b'"', None) if !is_last => return Next::Incomplete,
                (b'"', following) => {
                    let ends =
                        following.is_none_or(|byte| *byte == delimiter || *byte == b'\n' || *byte == b'\r');
                    if !ends {
                        return Next::Broken(
                            "a quote is followed by text; is a quote missing or not doubled?",
                        );
                    }
                    is_quoted = false;
                }
                (b'\n', _) => {
                    lines += 1;
                    if lines > MAX_RECORD_LINES {
                        return Next::Broken(
                            "the record has more than 100 lines; is a closing quote missing?",
                        );
                    }
                }
                _ => {}
            }
        } else if byte == b'"' && is_field_start {
            is_quoted = true;
            is_field_start = false;
        } else if byte == b'\n' || byte == b'\r' {
            // A carriage return at the end of a part may be half of a line break.
            if byte == b'\r' && at + 1 == text.len() && !is_last {
                return Next::Incomplete;
            }
            let width = if text[at..].starts_with(b"\r\n") { 2 } else { 1 };
            return Next::Record { end: at, bytes: at + width, lines };
        } else {
            is_field_start = byte == delimiter;
        }
        at += 1;
    }
    match (is_last, is_quoted) {
        (false, _) => Next::Incomplete,
        (true, true) => Next::Broken("a quote is not closed"),
        (true, false) => Next::Record { end: text.len(), bytes: text.len(), lines },
    }
}

/// The end of the first line, and its bytes with the line break.
fn line_end(text: &[u8]) -> (usize, usize) {
    let end = text.iter().position(|byte| *byte == b'\n' || *byte == b'\r').unwrap_or(text.len());
    let width = if text[end..].starts_with(b"\r\n") { 2 } else { usize::from(end < text.len()) };
    (end, end + width)
}

/// The fields of a well-formed record.
pub fn fields(raw: &str, delimiter: u8) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = Vec::new();
    let mut is_quoted = false;
    let bytes = raw.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if is_quoted && byte == b'"' && bytes.get(at + 1) == Some(&b'"') {
            field.push(b'"');
            at += 1;
        } else if byte == b'"' && (is_quoted || field.is_empty()) {
            is_quoted = !is_quoted;
        } else if byte == delimiter && !is_quoted {
            fields.push(std::mem::take(&mut field));
        } else {
            field.push(byte);
        }
        at += 1;
    }
    fields.push(field);
    // The text is cut at ASCII bytes only, so every field is valid UTF-8.
    fields.into_iter().map(|field| String::from_utf8_lossy(&field).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<Record> {
        let mut line = 1;
        split(text, b',', &mut line, true).0
    }

    #[test]
    fn quotes_delimiters_and_line_breaks_within_a_field_belong_to_it() {
        let records = read("id,name\r\n1,\"Zoë, \"\"Z\"\"\nMüller\"\n\n2,Bob\n");
        let lines: Vec<u64> = records.iter().map(|record| record.line).collect();
        assert_eq!(lines, [1, 2, 5]);
        assert_eq!(records[1].fields, Ok(vec!["1".to_owned(), "Zoë, \"Z\"\nMüller".to_owned()]));
    }

    #[test]
    fn a_missing_quote_costs_one_line_and_names_it() {
        let mut text: String =
            (1..=3_000).map(|n| format!("{n},\"name {n}\"\n")).collect::<Vec<_>>().concat();
        text = text.replace("1914,\"name 1914\"", "1914,\"name 1914");
        let records = read(&text);
        assert_eq!(records.len(), 3_000);
        let broken: Vec<u64> = records.iter().filter(|r| r.fields.is_err()).map(|r| r.line).collect();
        assert_eq!(broken, [1_914]);
        assert_eq!(read("1,\"a\n2,b\n").iter().filter(|record| record.fields.is_err()).count(), 1);
    }

    #[test]
    fn the_delimiter_is_found_out_or_named() {
        for (line, expected) in [
            ("id;name;\"a,b,c,d\"", (b';', false)),
            ("id\tname", (b'\t', false)),
            ("id|name", (b'|', false)),
            ("id,name", (b',', false)),
            ("id", (b',', false)),
            ("sep=;", (b';', true)),
            ("\u{feff}sep=|\r", (b'|', true)),
        ] {
            assert_eq!(delimiter(line), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_file_is_read_the_same_wherever_it_is_cut(
            text in "([a-z]{0,3}|\"|,|\n|\r\n|ë){0,40}", cut in 0_usize..120
        ) {
            let whole = read(&text);
            let mut line = 1;
            let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let (mut records, taken) = split(&text[..cut], b',', &mut line, false);
            records.extend(split(&text[taken..], b',', &mut line, true).0);
            prop_assert_eq!(records, whole);
        }
    }
}
