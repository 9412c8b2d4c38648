//! Filters on texts.

use std::fmt::Write;

use super::lists::slice_range;
use super::{Bench, Fault, Filter};
use crate::templating::liquid::dates;
use crate::templating::liquid::number::Number;
use crate::templating::liquid::value::Val;

/// Puts `input` through a filter on texts.
pub fn apply<'a>(
    filter: Filter,
    input: &Val<'a>,
    args: &[Val<'a>],
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    let text = input.to_text();
    bench.budget.work(text.len())?;
    let arg = args.first().map(Val::to_text).unwrap_or_default();
    let text = text.as_ref();
    let result = match filter {
        Filter::Append => concat(text, &arg, bench)?,
        Filter::Prepend => concat(&arg, text, bench)?,
        Filter::Capitalize => capitalize(text),
        Filter::Downcase => text.to_lowercase(),
        Filter::Upcase => text.to_uppercase(),
        Filter::Escape => escape_html(text),
        Filter::Json => input.to_json().to_string(),
        Filter::Lstrip => text.trim_start().to_owned(),
        Filter::Rstrip => text.trim_end().to_owned(),
        Filter::Strip => text.trim().to_owned(),
        Filter::NewlineToBr => text.replace("\r\n", "\n").replace('\n', "<br />\n"),
        Filter::Remove => text.replace(arg.as_ref(), ""),
        Filter::RemoveFirst => text.replacen(arg.as_ref(), "", 1),
        Filter::Replace => replace(text, &arg, args.get(1), bench)?,
        Filter::ReplaceFirst => {
            let with = args.get(1).map(Val::to_text).unwrap_or_default();
            text.replacen(arg.as_ref(), &with, 1)
        }
        Filter::Slice => slice(text, args, bench)?,
        Filter::Split => return split(text, &arg, bench),
        Filter::StripHtml => strip_html(text),
        Filter::Truncate => truncate(text, args, bench)?,
        Filter::Truncatewords => truncate_words(text, args, bench)?,
        Filter::UrlDecode => url_decode(text),
        Filter::UrlEncode => url_encode(text),
        _ => text.to_owned(),
    };
    bench.text(result)
}

/// The filter `date`. What is no moment stays as it is, or is an error on a strict bench.
pub fn date<'a>(input: Val<'a>, args: &[Val<'a>], bench: &mut Bench<'_>) -> Result<Val<'a>, Fault> {
    let moment = match &input {
        Val::Number(number @ Number::Int(_)) => dates::from_epoch(number.as_i64()),
        Val::Nil(_) => return Ok(input),
        other => other.as_str().and_then(dates::parse),
    };
    let pattern = args.first().map(Val::to_text).unwrap_or_default();
    match moment {
        Some(moment) if !pattern.is_empty() => {
            bench.budget.work(pattern.len().saturating_mul(16))?;
            bench.text(dates::format(&moment, &pattern))
        }
        None if bench.strict => Err(Fault::Unusable("the value is no date")),
        Some(_) | None => Ok(input),
    }
}

fn concat(first: &str, second: &str, bench: &Bench<'_>) -> Result<String, Fault> {
    bench.budget.length(first.len().saturating_add(second.len()))?;
    Ok(format!("{first}{second}"))
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect()
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

fn replace(text: &str, what: &str, with: Option<&Val<'_>>, bench: &Bench<'_>) -> Result<String, Fault> {
    let with = with.map(Val::to_text).unwrap_or_default();
    // The length is known beforehand, so that a text that multiplies is refused before it is made.
    let count = text.matches(what).count();
    let removed = count.saturating_mul(what.len());
    let length = text.len().saturating_sub(removed).saturating_add(count.saturating_mul(with.len()));
    bench.budget.length(length)?;
    Ok(text.replace(what, &with))
}

fn slice(text: &str, args: &[Val<'_>], bench: &Bench<'_>) -> Result<String, Fault> {
    let range = slice_range(text.chars().count(), args, bench)?;
    Ok(text.chars().skip(range.start).take(range.len()).collect())
}

fn split<'a>(text: &str, separator: &str, bench: &mut Bench<'_>) -> Result<Val<'a>, Fault> {
    let mut parts: Vec<&str> = match separator {
        "" => text.split("").filter(|part| !part.is_empty()).collect(),
        " " => text.split_whitespace().collect(),
        other => text.split(other).collect(),
    };
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    bench.budget.steps(parts.len())?;
    bench.budget.work(text.len())?;
    Ok(Val::List(parts.into_iter().map(Val::made).collect()))
}

/// Removes tags, comments, and what scripts and styles hold.
fn strip_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = ["script", "style"].into_iter().find(|name| opens(rest, name)).map_or_else(
            || {
                if rest.starts_with("<!--") {
                    rest.find("-->").map(|at| at + 3)
                } else {
                    rest.find('>').map(|at| at + 1)
                }
            },
            |name| after_closing(rest, name),
        );
        let Some(end) = end else { break };
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

fn opens(text: &str, name: &str) -> bool {
    text.get(1..=name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name))
}

fn after_closing(text: &str, name: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let wanted = format!("</{name}");
    let at = bytes.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))?;
    text[at..].find('>').map(|end| at + end + 1)
}

fn truncate(text: &str, args: &[Val<'_>], bench: &Bench<'_>) -> Result<String, Fault> {
    let most = args.first().map_or(Ok(50), |arg| bench.number(arg).map(Number::as_i64))?;
    let most = usize::try_from(most).unwrap_or(0);
    let ellipsis = args.get(1).map_or(std::borrow::Cow::Borrowed("..."), Val::to_text);
    if text.chars().count() <= most {
        return Ok(text.to_owned());
    }
    let kept: String = text.chars().take(most.saturating_sub(ellipsis.chars().count())).collect();
    concat(&kept, &ellipsis, bench)
}

fn truncate_words(text: &str, args: &[Val<'_>], bench: &Bench<'_>) -> Result<String, Fault> {
    let most = args.first().map_or(Ok(15), |arg| bench.number(arg).map(Number::as_i64))?;
    let most = usize::try_from(most).unwrap_or(0).max(1);
    let ellipsis = args.get(1).map_or(std::borrow::Cow::Borrowed("..."), Val::to_text);
    let mut words = text.split_whitespace();
    let kept: Vec<&str> = words.by_ref().take(most).collect();
    if words.next().is_none() {
        return Ok(text.to_owned());
    }
    concat(&kept.join(" "), &ellipsis, bench)
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

fn url_decode(text: &str) -> String {
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
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}
