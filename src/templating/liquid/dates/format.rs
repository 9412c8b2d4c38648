//! strftime as in Ruby: flags, widths, and unknown directives printed unchanged.

use std::fmt::Write;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};

use super::Moment;

/// The widest field, in characters.
const WIDEST: usize = 100;

/// One directive of a pattern.
struct Directive<'p> {
    /// As it is written.
    text: &'p str,
    flags: Flags,
    width: Option<usize>,
    colons: usize,
    letter: char,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    /// `-`: no padding; `_` and `0`: what to pad with.
    padding: Option<char>,
    /// `^`
    upper: bool,
    /// `#`
    swap: bool,
}

/// Formats `moment` with a `pattern`; everything that is not a directive is copied.
pub fn format(moment: &Moment, pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(directive) = read(rest) else { break };
        match write(moment, &directive) {
            Some(text) => out.push_str(&text),
            None => out.push_str(directive.text),
        }
        rest = &rest[directive.text.len()..];
    }
    out.push_str(rest);
    out
}

/// Whether a pattern ends within a directive, which is an error to the reference engine.
pub fn is_cut_off(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        let Some(directive) = read(&rest[at..]) else { return true };
        rest = &rest[at + directive.text.len()..];
    }
    false
}

/// The number of known directives in a pattern, and the first unknown one.
pub fn directives(pattern: &str) -> (usize, Option<&str>) {
    let Some(moment) = super::from_epoch(1_700_000_000) else { return (0, None) };
    let (mut known, mut unknown, mut rest) = (0, None, pattern);
    while let Some(at) = rest.find('%') {
        rest = &rest[at..];
        let Some(directive) = read(rest) else { return (known, unknown.or(Some(rest))) };
        match write(&moment, &directive) {
            Some(_) if "%nt".contains(directive.letter) => {}
            Some(_) => known += 1,
            None => unknown = unknown.or(Some(directive.text)),
        }
        rest = &rest[directive.text.len()..];
    }
    (known, unknown)
}

/// The directive at the start of `text`; nothing if it isn't finished.
fn read(text: &str) -> Option<Directive<'_>> {
    let (mut flags, mut width, mut colons) = (Flags::default(), None::<usize>, 0);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '-' | '_' if width.is_none() => flags.padding = Some(c),
            '0' if width.is_none() => flags.padding = Some('0'),
            '^' => flags.upper = true,
            '#' => flags.swap = true,
            ':' => colons += 1,
            // Other calendars and digits, which Ruby does not write.
            'E' if text[at + 1..].starts_with(['c', 'C', 'x', 'X', 'y', 'Y']) => {}
            'O' if text[at + 1..].starts_with(|next| "deHkIlmMSuUVwWy".contains(next)) => {}
            '0'..='9' => {
                let digit = usize::try_from(u32::from(c) - u32::from('0')).unwrap_or(0);
                width = Some((width.unwrap_or(0) * 10 + digit).min(WIDEST));
            }
            letter => {
                let text = &text[..at + letter.len_utf8()];
                return Some(Directive { text, flags, width, colons, letter });
            }
        }
    }
    None
}

/// The value of a directive; `None` if it is unknown.
fn write(moment: &Moment, directive: &Directive<'_>) -> Option<String> {
    let at = &moment.at;
    if directive.colons > 0 && directive.letter != 'z' {
        return None;
    }
    let number = |value: i64, width, pad| Some(padded_number(value, width, pad, directive));
    let text = |text: &str, swapped: bool| Some(cased(text, swapped, directive));
    let composed = |pattern: &str| Some(cased(&format(moment, pattern), false, directive));
    match directive.letter {
        'Y' => number(at.year().into(), 4, '0'),
        'C' => number(at.year().div_euclid(100).into(), 2, '0'),
        'y' => number(at.year().rem_euclid(100).into(), 2, '0'),
        'm' => number(at.month().into(), 2, '0'),
        'd' => number(at.day().into(), 2, '0'),
        'e' => number(at.day().into(), 2, ' '),
        'j' => number(at.ordinal().into(), 3, '0'),
        'H' => number(at.hour().into(), 2, '0'),
        'k' => number(at.hour().into(), 2, ' '),
        'I' => number(at.hour12().1.into(), 2, '0'),
        'l' => number(at.hour12().1.into(), 2, ' '),
        'M' => number(at.minute().into(), 2, '0'),
        'S' => number(at.second().into(), 2, '0'),
        's' => number(at.timestamp(), 1, '0'),
        'G' => number(at.iso_week().year().into(), 4, '0'),
        'g' => number(at.iso_week().year().rem_euclid(100).into(), 2, '0'),
        'V' => number(at.iso_week().week().into(), 2, '0'),
        'u' => number(at.weekday().number_from_monday().into(), 1, '0'),
        'w' => number(at.weekday().num_days_from_sunday().into(), 1, '0'),
        'U' => number(week_of(at, at.weekday().num_days_from_sunday()), 2, '0'),
        'W' => number(week_of(at, at.weekday().num_days_from_monday()), 2, '0'),
        'L' => Some(fraction(at, directive.width.unwrap_or(3))),
        'N' => Some(fraction(at, directive.width.unwrap_or(9))),
        'A' => text(&at.format("%A").to_string(), true),
        'a' => text(&at.format("%a").to_string(), true),
        'B' => text(&at.format("%B").to_string(), true),
        'b' | 'h' => text(&at.format("%b").to_string(), true),
        'p' if directive.flags.swap => text(&half(at).to_lowercase(), false),
        'p' => text(half(at), false),
        'P' => text(&half(at).to_lowercase(), true),
        'Z' if !moment.is_utc => Some(String::new()),
        'Z' if directive.flags.swap => text("utc", false),
        'Z' => text("UTC", false),
        'z' => offset(at.offset().local_minus_utc(), directive),
        'c' => composed("%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => composed("%m/%d/%y"),
        'F' => composed("%Y-%m-%d"),
        'T' | 'X' => composed("%H:%M:%S"),
        'R' => composed("%H:%M"),
        'r' => composed("%I:%M:%S %p"),
        'v' => composed("%e-%^b-%4Y"),
        'n' => text("\n", false),
        't' => text("\t", false),
        '%' => text("%", false),
        _ => None,
    }
}

fn half(at: &DateTime<FixedOffset>) -> &'static str {
    if at.hour() < 12 { "AM" } else { "PM" }
}

/// The week of the year; what is before the first day `weekday` counts from is week 0.
fn week_of(at: &DateTime<FixedOffset>, weekday: u32) -> i64 {
    (i64::from(at.ordinal0()) + 7 - i64::from(weekday)) / 7
}

fn fraction(at: &DateTime<FixedOffset>, digits: usize) -> String {
    let nanos = format!("{:09}", at.nanosecond() % 1_000_000_000);
    nanos.chars().chain(std::iter::repeat('0')).take(digits).collect()
}

fn padded_number(value: i64, width: usize, pad: char, directive: &Directive<'_>) -> String {
    let pad = match directive.flags.padding {
        Some('-') => return value.to_string(),
        Some('_') => ' ',
        Some(_) => '0',
        None => pad,
    };
    let width = directive.width.unwrap_or(width);
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let missing = width.saturating_sub(digits.len() + sign.len());
    let padding = pad.to_string().repeat(missing);
    if pad == '0' { format!("{sign}{padding}{digits}") } else { format!("{padding}{sign}{digits}") }
}

fn cased(text: &str, swaps: bool, directive: &Directive<'_>) -> String {
    let upper = directive.flags.upper || (directive.flags.swap && swaps);
    let text = if upper { text.to_uppercase() } else { text.to_owned() };
    let pad = if directive.flags.padding == Some('0') { '0' } else { ' ' };
    let width = directive.width.filter(|_| directive.flags.padding != Some('-')).unwrap_or(0);
    pad.to_string().repeat(width.saturating_sub(text.chars().count())) + &text
}

/// `%z` with its colons: `+0100`, `+01:00`, `+01:00:00`, `+01`.
fn offset(seconds: i32, directive: &Directive<'_>) -> Option<String> {
    let sign = if seconds < 0 { '-' } else { '+' };
    let (hours, minutes) = (seconds.abs() / 3600, seconds.abs() / 60 % 60);
    let mut rest = String::new();
    match directive.colons {
        0 => write!(rest, "{minutes:02}").ok()?,
        2 => write!(rest, ":{minutes:02}:{:02}", seconds.abs() % 60).ok()?,
        3 if minutes == 0 => {}
        1 | 3 => write!(rest, ":{minutes:02}").ok()?,
        _ => return None,
    }
    let width = directive.width.unwrap_or(0).saturating_sub(rest.len() + 1).max(2);
    if directive.flags.padding == Some('_') {
        let signed = format!("{sign}{hours}");
        return Some(format!("{signed:>width$}{rest}", width = width + 1));
    }
    Some(format!("{sign}{hours:0width$}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn each_directive_writes_what_ruby_writes() {
        let (morning, evening) = (parse("2026-11-05T09:05:03.5Z"), parse("2026-11-05T21:05:03+01:00"));
        let (morning, evening) = (morning.expect("a moment"), evening.expect("a moment"));
        #[rustfmt::skip]
        let cases = [
            ("%3d", "005", "005"), ("%10A", "  Thursday", "  Thursday"), ("%v", " 5-NOV-2026", " 5-NOV-2026"), ("%#b", "NOV", "NOV"),
            ("%+", "%+", "%+"), ("%f", "%f", "%f"), ("%q", "%q", "%q"), ("%Z", "UTC", ""), ("%^b", "NOV", "NOV"), ("%#p", "am", "pm"),
            ("%-d", "5", "5"), ("%_d", " 5", " 5"), ("%e", " 5", " 5"), ("%6Y", "002026", "002026"), ("%C", "20", "20"), ("%y", "26", "26"),
            ("%V", "45", "45"), ("%u", "4", "4"), ("%U", "44", "44"), ("%W", "44", "44"), ("%j", "309", "309"), ("%k", " 9", "21"),
            ("%l", " 9", " 9"), ("%-I", "9", "9"), ("%s", "1793869503", "1793909103"), ("%L", "500", "000"), ("%6L", "500000", "000000"),
            ("%N", "500000000", "000000000"), ("%12N", "500000000000", "000000000000"), ("%z", "+0000", "+0100"), ("%:z", "+00:00", "+01:00"),
            ("%::z", "+00:00:00", "+01:00:00"), ("%:::z", "+00", "+01"), ("%10z", "+000000000", "+000000100"), ("%D", "11/05/26", "11/05/26"),
            ("%r", "09:05:03 AM", "09:05:03 PM"), ("%c", "Thu Nov  5 09:05:03 2026", "Thu Nov  5 21:05:03 2026"), ("%P", "am", "pm"),
            ("%#P", "AM", "PM"), ("%Ey", "26", "26"), ("%Od", "05", "05"), ("%E5", "%E5", "%E5"), ("%Ed", "%Ed", "%Ed"), ("%010d", "0000000005", "0000000005"),
            ("%-10d", "5", "5"), ("%^10a", "       THU", "       THU"), ("%10%", "         %", "         %"), ("%:Z", "%:Z", "%:Z"),
            ("%^c", "THU NOV  5 09:05:03 2026", "THU NOV  5 21:05:03 2026"), ("%+5d", "%+5d", "%+5d"), ("%5p", "   AM", "   PM"),
            ("%0e", "05", "05"), ("%2N", "50", "00"), ("%10Z", "       UTC", ""), ("%_5m", "   11", "   11"), ("%F %T", "2026-11-05 09:05:03", "2026-11-05 21:05:03"),
        ];
        for (pattern, first, second) in cases {
            assert_eq!(
                (format(&morning, pattern).as_str(), format(&evening, pattern).as_str()),
                (first, second),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_pattern_without_a_directive_is_noticed_and_so_is_an_unknown_one() {
        assert_eq!(directives("DD.MM.YYYY"), (0, None));
        assert_eq!(directives("%d.%m.%Y %q %f"), (3, Some("%q")));
        assert_eq!(directives("100 %% of %-"), (0, Some("%-")));
    }
}
