//! Filters on texts.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use super::lists::slice_range;
use super::{Bench, Fault, Filter};
use crate::templating::liquid::dates;
use crate::templating::liquid::marked::{Kind, Marked};
use crate::templating::liquid::number::Number;
use crate::templating::liquid::spaces::{is_space, trim_end, trim_start};
use crate::templating::liquid::value::Val;

/// Puts `input` through a filter on texts.
pub fn apply<'a>(
    filter: Filter,
    input: &Val<'a>,
    args: &[Val<'a>],
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    let text = filtered(input);
    bench.budget.work(text.as_str().len())?;
    bench.budget.steps(text.parts())?;
    let arg = args.first().map(filtered).unwrap_or_default();
    let (written, whole) = (text.as_str(), 0..text.as_str().len());
    let result = match filter {
        Filter::Append => join(&[&text, &arg], bench)?,
        Filter::Prepend => join(&[&arg, &text], bench)?,
        Filter::Capitalize => capitalize(&text),
        Filter::Downcase => text.map(downcase),
        Filter::Upcase => text.map(str::to_uppercase),
        // What is printed is encoded for its place; done here as well, it would be done twice.
        Filter::Escape if bench.encodes => text.without_markup(),
        Filter::Escape => return bench.text(escape_html(written)),
        Filter::Json => return bench.text(input.to_json().to_string()),
        Filter::Lstrip => text.part(whole.end - trim_start(written).len()..whole.end),
        Filter::Rstrip => text.part(0..trim_end(written).len()),
        Filter::Strip => {
            let start = whole.end - trim_start(written).len();
            text.part(start..start + trim_end(trim_start(written)).len())
        }
        Filter::NewlineToBr => break_lines(&text),
        Filter::Remove => replace(&text, arg.as_str(), &Replacement::nothing(), bench)?,
        Filter::RemoveFirst => replace_first(&text, arg.as_str(), &Replacement::nothing()),
        Filter::Replace => replace(&text, arg.as_str(), &Replacement::of(args, bench), bench)?,
        Filter::ReplaceFirst => replace_first(&text, arg.as_str(), &Replacement::of(args, bench)),
        Filter::Slice => slice(&text, args, bench)?,
        Filter::Split => return split(&text, arg.as_str(), bench),
        Filter::StripHtml => strip_html(&text),
        Filter::Truncate => truncate(&text, args, bench)?,
        Filter::Truncatewords => truncate_words(&text, args, bench)?,
        Filter::UrlDecode => return url_decode(written, bench),
        Filter::UrlEncode => Marked::new(url_encode(written), Kind::Url),
        _ => text.into_owned(),
    };
    bench.marked(result)
}

/// The text that a filter works on, in parts.
fn filtered<'v>(value: &'v Val<'_>) -> Cow<'v, Marked> {
    match value {
        Val::Marked(text) => Cow::Borrowed(text),
        other => Cow::Owned(Marked::new(other.to_filtered_text(), Kind::Plain)),
    }
}

/// The filter `date`. A value that is not a date stays unchanged, or is an error in strict mode.
pub fn date<'a>(input: Val<'a>, args: &[Val<'a>], bench: &mut Bench<'_>) -> Result<Val<'a>, Fault> {
    let moment = match &input {
        Val::Number(number @ Number::Int(_)) => dates::from_epoch(number.as_i64()),
        Val::Nil(_) => return Ok(input),
        other => other.as_str().and_then(dates::parse),
    };
    let pattern = args.first().map(Val::to_filtered_text).unwrap_or_default();
    match moment {
        Some(moment) if bench.strict && !dates::is_usual(&moment) => {
            Err(Fault::Unusable("the year is after 9999: use seconds since 1970, not milliseconds"))
        }
        Some(_) if dates::is_cut_off(&pattern) && bench.strict => {
            Err(Fault::Unusable("its pattern ends in the middle of a directive"))
        }
        Some(_) if dates::is_cut_off(&pattern) => {
            Err(Fault::Reported(format!("invalid format: {pattern}").into()))
        }
        Some(moment) if !pattern.is_empty() => {
            bench.budget.work(pattern.len().saturating_mul(16))?;
            bench.text(dates::format(&moment, &pattern))
        }
        None if bench.strict => Err(Fault::Unusable("the value is not a date")),
        Some(_) | None => Ok(input),
    }
}

fn join(texts: &[&Marked], bench: &Bench<'_>) -> Result<Marked, Fault> {
    bench.budget.length(texts.iter().map(|text| text.as_str().len()).sum())?;
    let mut all = Marked::default();
    for text in texts {
        all.push_all(text);
    }
    Ok(all)
}

/// Lower case character by character, as the reference engine does it: it knows no final sigma.
fn downcase(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

fn capitalize(text: &Marked) -> Marked {
    let mut is_first = true;
    text.map(|part| {
        let mut chars = part.chars();
        let first = if std::mem::take(&mut is_first) { chars.next() } else { None };
        let first: String = first.map(|first| first.to_uppercase().collect()).unwrap_or_default();
        first + &downcase(chars.as_str())
    })
}

/// Makes a text safe in HTML, in quoted attributes too.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// What takes the place of something in a text.
struct Replacement {
    text: Marked,
    /// Whether it is part of the template, so that it has the kind of what it replaces.
    is_literal: bool,
}

impl Replacement {
    fn nothing() -> Self {
        Self { text: Marked::default(), is_literal: true }
    }

    fn of(args: &[Val<'_>], bench: &Bench<'_>) -> Self {
        let text = args.get(1).map(filtered).unwrap_or_default();
        Self { text: text.into_owned(), is_literal: bench.literal[1] }
    }

    /// Puts it where `range` of `text` was.
    fn put(&self, out: &mut Marked, text: &Marked, range: Range<usize>) {
        let found = text.as_str().get(range.clone()).unwrap_or_default();
        let kind = text.kind_in(&range).filter(|_| self.is_literal).unwrap_or(Kind::Plain);
        if self.text.is_plain() {
            out.push(&referring(self.text.as_str(), found), kind);
        } else {
            out.push_all(&self.text);
        }
    }
}

/// A replacement with what it refers to: `\0` and `\&` are what was found, `\1` to `\9` are nothing.
fn referring<'t>(with: &'t str, found: &str) -> Cow<'t, str> {
    if !with.contains('\\') {
        return Cow::Borrowed(with);
    }
    let mut out = String::with_capacity(with.len());
    let mut chars = with.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some('0' | '&')) => out.push_str(found),
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some('1'..='9')) => {}
            _ => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
    out.into()
}

fn replace(text: &Marked, what: &str, with: &Replacement, bench: &Bench<'_>) -> Result<Marked, Fault> {
    let written = text.as_str();
    // The length is known in advance, so that a text that multiplies is rejected before it is built.
    let count = written.matches(what).count();
    let removed = count.saturating_mul(what.len());
    let longest = with.text.as_str().len().max(with.text.as_str().len() / 2 * what.len());
    let length = written.len().saturating_sub(removed).saturating_add(count.saturating_mul(longest));
    bench.budget.length(length)?;
    bench.budget.steps(count)?;
    let (mut out, mut at) = (Marked::default(), 0);
    for (start, found) in written.match_indices(what) {
        out.push_part(text, at..start);
        at = start + found.len();
        with.put(&mut out, text, start..at);
    }
    out.push_part(text, at..written.len());
    Ok(out)
}

fn replace_first(text: &Marked, what: &str, with: &Replacement) -> Marked {
    let written = text.as_str();
    let Some(start) = written.find(what) else { return text.clone() };
    let mut out = text.part(0..start);
    with.put(&mut out, text, start..start + what.len());
    out.push_part(text, start + what.len()..written.len());
    out
}

/// A line break of HTML before each line break.
fn break_lines(text: &Marked) -> Marked {
    let written = text.as_str();
    let (mut out, mut at) = (Marked::default(), 0);
    for (end, _) in written.match_indices('\n') {
        let line = written.get(at..end).unwrap_or_default();
        out.push_part(text, at..at + line.strip_suffix('\r').unwrap_or(line).len());
        out.push("<br />\n", Kind::Markup);
        at = end + 1;
    }
    out.push_part(text, at..written.len());
    out
}

fn slice(text: &Marked, args: &[Val<'_>], bench: &Bench<'_>) -> Result<Marked, Fault> {
    let written = text.as_str();
    let range = slice_range(written.chars().count(), args, bench)?;
    let byte = |index: usize| written.char_indices().nth(index).map_or(written.len(), |(at, _)| at);
    Ok(text.part(byte(range.start)..byte(range.end)))
}

fn split<'a>(text: &Marked, separator: &str, bench: &mut Bench<'_>) -> Result<Val<'a>, Fault> {
    let written = text.as_str();
    let parts: Vec<&str> = match separator {
        "" => written.split("").filter(|part| !part.is_empty()).collect(),
        " " => written.split(is_space).filter(|part| !part.is_empty()).collect(),
        other => written.split(other).collect(),
    };
    let filled = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
    let parts = parts.get(..filled).unwrap_or_default();
    bench.budget.steps(parts.len())?;
    bench.budget.work(written.len())?;
    if text.is_plain() {
        return Ok(Val::List(parts.iter().map(|part| Val::made(*part)).collect()));
    }
    let start = |part: &str| part.as_ptr().addr() - written.as_ptr().addr();
    let cut = |part: &&str| Val::of_marked(text.part(start(part)..start(part) + part.len()));
    Ok(Val::List(parts.iter().map(cut).collect()))
}

/// Removes what scripts, comments and styles hold, and then tags.
fn strip_html(text: &Marked) -> Marked {
    const BLOCKS: [(&str, &str); 3] = [("<script", "</script>"), ("<!--", "-->"), ("<style", "</style>")];
    let stripped = without(text, |rest| {
        let end_of = |(open, close): &(&str, &str)| {
            let inside = rest.strip_prefix(open)?;
            inside.find(close).map(|at| open.len() + at + close.len())
        };
        BLOCKS.iter().find_map(end_of)
    });
    without(&stripped, |rest| rest.find('>').map(|at| at + 1))
}

/// The text without what begins with `<` and is as long as `length` says.
fn without(text: &Marked, length: impl Fn(&str) -> Option<usize>) -> Marked {
    let written = text.as_str();
    let (mut out, mut kept, mut at) = (Marked::default(), 0, 0);
    while let Some(found) = written[at..].find('<').map(|found| at + found) {
        at = found + 1;
        if let Some(length) = length(&written[found..]) {
            out.push_part(text, kept..found);
            (kept, at) = (found + length, found + length);
        }
    }
    out.push_part(text, kept..written.len());
    out
}

/// What is put behind a text that was cut.
fn ellipsis<'v>(args: &'v [Val<'_>]) -> Cow<'v, Marked> {
    args.get(1).map_or_else(|| Cow::Owned(Marked::new("...", Kind::Plain)), filtered)
}

fn truncate(text: &Marked, args: &[Val<'_>], bench: &Bench<'_>) -> Result<Marked, Fault> {
    let max = args.first().map_or(Ok(50), |arg| bench.count(arg))?;
    let max = usize::try_from(max).unwrap_or(0);
    let (written, ellipsis) = (text.as_str(), ellipsis(args));
    if written.chars().count() <= max {
        return Ok(text.clone());
    }
    let kept = max.saturating_sub(ellipsis.as_str().chars().count());
    let end = written.char_indices().nth(kept).map_or(written.len(), |(at, _)| at);
    join(&[&text.part(0..end), &ellipsis], bench)
}

fn truncate_words(text: &Marked, args: &[Val<'_>], bench: &Bench<'_>) -> Result<Marked, Fault> {
    let max = args.first().map_or(Ok(15), |arg| bench.count(arg))?;
    let max = usize::try_from(max).unwrap_or(0).max(1);
    let written = text.as_str();
    let (mut kept, mut at) = (Marked::default(), 0);
    for index in 0..max {
        let rest = &written[at..];
        let start = at + rest.len() - rest.trim_start_matches(is_space).len();
        let end = written[start..].find(is_space).map(|length| start + length);
        if index > 0 {
            kept.push(" ", Kind::Plain);
        }
        // Without a space after the word there is no further one.
        let Some(end) = end else { return Ok(text.clone()) };
        kept.push_part(text, start..end);
        at = end;
    }
    join(&[&kept, &ellipsis(args)], bench)
}

fn url_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') => {
                out.push(char::from(byte));
            }
            byte => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
    out
}

fn url_decode<'a>(text: &str, bench: &mut Bench<'_>) -> Result<Val<'a>, Fault> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail.get(..2).and_then(hex)) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                rest = &tail[2..];
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
    }
    match String::from_utf8(out) {
        Ok(text) => bench.text(text),
        Err(_) if bench.strict => Err(Fault::Unusable("the decoded text is not valid UTF-8")),
        Err(_) => Err(Fault::Reported("invalid byte sequence in UTF-8".into())),
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}
