//! The filter `date`: moments in, strftime out.

use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, TimeZone, Utc};

/// The forms of a moment without an offset, which is taken as UTC.
const MOMENTS: [&str; 5] =
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S"];
/// The forms of a day, taken as midnight UTC.
const DAYS: [&str; 6] = ["%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%B %d, %Y", "%d %B %Y", "%b %d, %Y"];

/// Reads a moment: RFC 3339 and near it, RFC 2822, a day, or seconds since 1970 in digits.
pub fn parse(text: &str) -> Option<DateTime<FixedOffset>> {
    let text = text.trim();
    if let Ok(moment) = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc2822(text)) {
        return Some(moment);
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f %z", "%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%#z"] {
        if let Ok(moment) = DateTime::parse_from_str(text, form) {
            return Some(moment);
        }
    }
    let text = text.strip_suffix(" UTC").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
    let moment = MOMENTS.into_iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let day = || DAYS.into_iter().find_map(|form| NaiveDate::parse_from_str(text, form).ok());
    if text.len() > 8 && text.bytes().all(|b| b.is_ascii_digit()) {
        return from_epoch(text.parse().ok()?);
    }
    let moment = moment.or_else(|| day().and_then(|day| day.and_hms_opt(0, 0, 0)))?;
    Some(Utc.from_utc_datetime(&moment).fixed_offset())
}

/// The moment `seconds` after 1970 began.
pub fn from_epoch(seconds: i64) -> Option<DateTime<FixedOffset>> {
    DateTime::from_timestamp(seconds, 0).map(|moment| moment.fixed_offset())
}

/// Writes `moment` by a strftime `pattern`; what no directive stands for is written as it is.
pub fn format(moment: &DateTime<FixedOffset>, pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = directive_length(rest);
        write_directive(&mut out, moment, &rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// How long the directive at the start is: `%`, flags, digits, `:` and one character.
fn directive_length(text: &str) -> usize {
    let mark = |c: char| matches!(c, '-' | '_' | '^' | '#' | ':') || c.is_ascii_digit();
    let body = text[1..].find(|c| !mark(c)).map_or(text.len(), |at| at + 1);
    text[body..].chars().next().map_or(body, |c| body + c.len_utf8())
}

fn write_directive(out: &mut String, moment: &DateTime<FixedOffset>, directive: &str) {
    let upper = directive.contains('^');
    let plain = directive.replace(['^', '#'], "");
    let pattern = match plain.as_str() {
        "%L" | "%3N" => "%3f",
        "%N" | "%9N" => "%9f",
        "%6N" => "%6f",
        "%P" => "%P",
        "%Z" if moment.offset().local_minus_utc() == 0 => "UTC",
        other => other,
    };
    let items: Vec<Item<'_>> = StrftimeItems::new(pattern).collect();
    let mut text = String::new();
    let known = !items.iter().any(|item| matches!(item, Item::Error));
    if !known || write!(text, "{}", moment.format_with_items(items.iter())).is_err() {
        out.push_str(directive);
        return;
    }
    out.push_str(&if upper { text.to_uppercase() } else { text });
}
