//! The filter `date`: moments in, text out.
//!
//! A text is read as a moment if all of it is one, with a year of four digits: then it means the same whenever it is read.

mod format;

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveTime, TimeDelta, TimeZone};
use regex::{Captures, Regex};

pub use format::{directives, format, is_cut_off};

/// A moment, and how its offset was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    at: DateTime<FixedOffset>,
    /// Whether it is UTC by name, or has no offset at all; of other offsets the name is not known.
    is_utc: bool,
}

/// The longest text that is parsed, in bytes.
const LONGEST: usize = 64;

const MONTH: &str = "(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)";
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Zones by name, with their minutes east of UTC.
const ZONES: [(&str, i32); 8] = [
    ("est", -300),
    ("edt", -240),
    ("cst", -360),
    ("cdt", -300),
    ("mst", -420),
    ("mdt", -360),
    ("pst", -480),
    ("pdt", -420),
];

/// The patterns, compiled once; none if one could not be.
static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| Patterns::new().ok());

struct Patterns {
    time: Regex,
    hour: Regex,
    compact: Regex,
    weekday: Regex,
    /// Year, month, day.
    year_first: Regex,
    /// Day, month, year.
    day_first: Regex,
    day_month_year: Regex,
    month_day_year: Regex,
    month_year: Regex,
    year_month_day: Regex,
}

impl Patterns {
    fn new() -> Result<Self, regex::Error> {
        const ZONE: &str = r"(?:\s*(z|(?:utc|gmt)?[+-]\d{1,2}(?::?\d{2})?|utc|gmt|[ecmp][sd]t)\b)?";
        Ok(Self {
            time: Regex::new(&format!(
                r"(?:t|\b)(\d{{1,2}}):(\d{{2}})(?::(\d{{2}})(?:[.,](\d+))?)?(?:\s*([ap])\.?m\b\.?)?{ZONE}"
            ))?,
            hour: Regex::new(&format!(r"\b(\d{{1,2}})\s*([ap])\.?m\b\.?{ZONE}"))?,
            compact: Regex::new(&format!(
                r"^(\d{{4}})(\d{{2}})(\d{{2}})t(\d{{2}})(\d{{2}})(\d{{2}})?{ZONE}$"
            ))?,
            weekday: Regex::new(r"\b(?:sun|mon|tue|wed|thu|fri|sat)(?:day|sday|nesday|rsday|urday)?\b[,.]?")?,
            year_first: Regex::new(r"^(\d{4})([-/.])(\d{1,2})([-/.])(\d{1,2})$")?,
            day_first: Regex::new(r"^(\d{1,2})([-/.])(\d{1,2})([-/.])(\d{4})$")?,
            day_month_year: Regex::new(&format!(
                r"^(\d{{1,2}})(?:st|nd|rd|th)?\.?[\s-]*(?:of\s+)?{MONTH}[.,]?[\s-]+(\d{{4}})$"
            ))?,
            month_day_year: Regex::new(&format!(
                r"^{MONTH}\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:\s*,\s*|\s+)(\d{{4}})$"
            ))?,
            month_year: Regex::new(&format!(r"^{MONTH}[.,]?\s+(\d{{4}})$"))?,
            year_month_day: Regex::new(&format!(r"^(\d{{4}})\s+{MONTH}\.?\s+(\d{{1,2}})$"))?,
        })
    }
}

/// Reads a moment: a day, perhaps with a time and an offset, or seconds since 1970 in digits. Without an offset it is UTC.
pub fn parse(text: &str) -> Option<Moment> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return from_epoch(text.parse().ok()?);
    }
    let text = text.to_lowercase();
    let patterns = PATTERNS.as_ref()?;
    if let Some(found) = patterns.compact.captures(&text) {
        let day = NaiveDate::from_ymd_opt(year(&found, 1)?, number(&found, 2)?, number(&found, 3)?)?;
        let clock = (number(&found, 4)?, number(&found, 5)?, number(&found, 6).unwrap_or(0), 0);
        return moment(day, clock, found.get(7).map(|zone| zone.as_str()));
    }
    let timed = patterns.time.captures(&text).or_else(|| patterns.hour.captures(&text));
    let Some(found) = timed else {
        return moment(day(patterns, &text)?, (0, 0, 0, 0), None);
    };
    let whole = found.get(0)?;
    let rest = format!("{} {}", &text[..whole.start()], &text[whole.end()..]);
    let has_minutes = found.len() > 5;
    let (half, zone) = if has_minutes { (found.get(5), found.get(6)) } else { (found.get(2), found.get(3)) };
    let hour = hour_of(number(&found, 1)?, half.map(|half| half.as_str()))?;
    let (minute, second) =
        if has_minutes { (number(&found, 2)?, number(&found, 3).unwrap_or(0)) } else { (0, 0) };
    let nanos = found.get(4).filter(|_| has_minutes).map_or(0, |part| nanos_of(part.as_str()));
    moment(day(patterns, &rest)?, (hour, minute, second, nanos), zone.map(|zone| zone.as_str()))
}

fn number(found: &Captures<'_>, group: usize) -> Option<u32> {
    found.get(group)?.as_str().parse().ok()
}

fn year(found: &Captures<'_>, group: usize) -> Option<i32> {
    found.get(group)?.as_str().parse().ok()
}

fn month(found: &Captures<'_>, group: usize) -> Option<u32> {
    let name = found.get(group)?.as_str();
    let at = MONTHS.iter().position(|month| name.starts_with(month))?;
    u32::try_from(at + 1).ok()
}

/// The hour of a clock of 24, or of one with halves.
fn hour_of(hour: u32, half: Option<&str>) -> Option<u32> {
    match half {
        None => Some(hour),
        Some(_) if !(1..=12).contains(&hour) => None,
        Some(half) => Some(hour % 12 + if half == "p" { 12 } else { 0 }),
    }
}

fn nanos_of(digits: &str) -> u32 {
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    nine.parse().unwrap_or(0)
}

/// The day that a text names, apart from its weekday.
fn day(patterns: &Patterns, text: &str) -> Option<NaiveDate> {
    let without = patterns.weekday.replace(text, " ");
    let text = without.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.trim_matches([' ', ',']);
    let same = |found: &Captures<'_>| found.get(2)?.as_str().eq(found.get(4)?.as_str()).then_some(());
    if let Some(found) = patterns.year_first.captures(text) {
        same(&found)?;
        return NaiveDate::from_ymd_opt(year(&found, 1)?, number(&found, 3)?, number(&found, 5)?);
    }
    if let Some(found) = patterns.day_first.captures(text) {
        same(&found)?;
        return NaiveDate::from_ymd_opt(year(&found, 5)?, number(&found, 3)?, number(&found, 1)?);
    }
    if let Some(found) = patterns.day_month_year.captures(text) {
        return NaiveDate::from_ymd_opt(year(&found, 3)?, month(&found, 2)?, number(&found, 1)?);
    }
    if let Some(found) = patterns.month_day_year.captures(text) {
        return NaiveDate::from_ymd_opt(year(&found, 3)?, month(&found, 1)?, number(&found, 2)?);
    }
    if let Some(found) = patterns.month_year.captures(text) {
        return NaiveDate::from_ymd_opt(year(&found, 2)?, month(&found, 1)?, 1);
    }
    let found = patterns.year_month_day.captures(text)?;
    NaiveDate::from_ymd_opt(year(&found, 1)?, month(&found, 2)?, number(&found, 3)?)
}

fn moment(
    day: NaiveDate,
    (hour, minute, second, nanos): (u32, u32, u32, u32),
    zone: Option<&str>,
) -> Option<Moment> {
    // Midnight may be written as the end of a day, and a leap second as the 60th.
    let midnight = (hour, minute, second) == (24, 0, 0);
    let day = if midnight { day.checked_add_days(Days::new(1))? } else { day };
    let time = NaiveTime::from_hms_nano_opt(if midnight { 0 } else { hour }, minute, second.min(59), nanos)?;
    let late = TimeDelta::seconds(i64::from(second.checked_sub(59).filter(|late| *late <= 1).unwrap_or(0)));
    if second > 60 {
        return None;
    }
    let (offset, is_utc) = match zone {
        None => (0, true),
        Some(zone) => offset_of(zone)?,
    };
    let offset = FixedOffset::east_opt(offset * 60)?;
    let at = offset.from_local_datetime(&day.and_time(time)).single()?.checked_add_signed(late)?;
    Some(Moment { at, is_utc })
}

/// Minutes east of UTC, and whether the zone is UTC by name.
fn offset_of(zone: &str) -> Option<(i32, bool)> {
    if matches!(zone, "z" | "utc" | "gmt" | "-00:00" | "-0000" | "-00") {
        return Some((0, true));
    }
    if let Some((_, minutes)) = ZONES.iter().find(|(name, _)| *name == zone) {
        return Some((*minutes, false));
    }
    let zone = zone.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let (sign, digits) =
        zone.strip_prefix('-').map_or((1, zone.trim_start_matches('+')), |digits| (-1, digits));
    let digits = digits.replace(':', "");
    let (hours, minutes) =
        if digits.len() > 2 { digits.split_at(digits.len() - 2) } else { (digits.as_str(), "0") };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some((sign * (hours * 60 + minutes), zone.is_empty()))
}

/// The moment `seconds` after 1970 began.
pub fn from_epoch(seconds: i64) -> Option<Moment> {
    let at = DateTime::from_timestamp(seconds, 0)?.fixed_offset();
    Some(Moment { at, is_utc: true })
}

/// Whether the year has four digits at most: milliseconds taken for seconds lead far beyond.
pub fn is_usual(moment: &Moment) -> bool {
    (0..=9999).contains(&moment.at.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        parse(text).map(|moment| format(&moment, "%Y-%m-%d %H:%M:%S.%L %z [%Z]"))
    }

    #[test]
    fn dates_as_people_and_programs_write_them_are_read() {
        for text in [
            "25.11.2026",
            "Nov 25 2026",
            "25 Nov 2026",
            "November 25, 2026",
            "2026-11-25",
            "25/11/2026",
            "2026/11/25",
            "25-11-2026",
            "25-nov-2026",
            "Wed, 25 Nov 2026",
            "25th November 2026",
            "2026 nov 25",
            "Nov 25,2026",
            " 2026-11-25\n",
            "1795564800",
        ] {
            assert_eq!(written(text).as_deref(), Some("2026-11-25 00:00:00.000 +0000 [UTC]"), "{text}");
        }
        for (text, wanted) in [
            ("2026-11-25T10:00:00+01:00", "10:00:00.000 +0100 []"),
            ("2026-11-25T10:00:00Z", "10:00:00.000 +0000 [UTC]"),
            ("2026-11-25 10:00 UTC", "10:00:00.000 +0000 [UTC]"),
            ("2026-11-25 10:00 EST", "10:00:00.000 -0500 []"),
            ("2026-11-25 10:00 pm", "22:00:00.000 +0000 [UTC]"),
            ("2026-11-25 3pm", "15:00:00.000 +0000 [UTC]"),
            ("2026-11-25T10:00:00.123456+0530", "10:00:00.123 +0530 []"),
            ("20261125T100000Z", "10:00:00.000 +0000 [UTC]"),
            ("Wed Nov 25 10:00:00 UTC 2026", "10:00:00.000 +0000 [UTC]"),
            ("12:30 25.11.2026", "12:30:00.000 +0000 [UTC]"),
            ("2026-11-24T24:00:00", "00:00:00.000 +0000 [UTC]"),
            ("2026-11-25 10:00:00 -08:00", "10:00:00.000 -0800 []"),
        ] {
            assert_eq!(written(text), Some(format!("2026-11-25 {wanted}")), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_or_depends_on_today_is_not_read() {
        for text in [
            "",
            "abc",
            "order 1001",
            "10:00",
            "nov 25",
            "may",
            "2026-02-30",
            "2026-13-01",
            "25.11.26",
            "2026-11",
            "1.5",
            "-5",
            "now",
            "2026-11-25T25:00",
            "Marching 5 2026",
            "2026-11/25",
            "hello 2026-11-25 world",
            "2026-11-25 10:00:61",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
