//! Filters on lists.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::{Bench, Fault, Filter};
use crate::templating::liquid::value::{Val, count};

/// Puts `input` through a filter on lists.
pub fn apply<'a>(
    filter: Filter,
    input: Val<'a>,
    args: &[Val<'a>],
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    match filter {
        Filter::First => return Ok(input.at(0).unwrap_or(Val::Nil(None))),
        Filter::Last => return Ok(input.at(-1).unwrap_or(Val::Nil(None))),
        Filter::Size => {
            bench.budget.work(input.as_str().map_or(0, str::len))?;
            return Ok(count(input.size().unwrap_or(0)));
        }
        Filter::Reverse if input.as_str().is_some() => return Ok(input),
        _ => {}
    }
    let elements = input.elements();
    bench.budget.steps(elements.len())?;
    if filter == Filter::Join {
        return join(&elements, args.first(), bench);
    }
    let key = args.first().map(Val::to_text).unwrap_or_default();
    let mut list = elements.to_vec();
    match filter {
        Filter::Compact => list.retain(|element| !element.is_nil()),
        Filter::Map => list = list.iter().map(|element| member(element, &key)).collect(),
        Filter::Reverse => list.reverse(),
        Filter::Slice => list = slice(&list, args, bench)?,
        Filter::Sort if args.is_empty() => list.sort_by(order),
        Filter::Sort => list.sort_by(|a, b| order(&member(a, &key), &member(b, &key))),
        Filter::Uniq => keep_first(&mut list, bench)?,
        Filter::Where => list.retain(|element| fits(&member(element, &key), args.get(1))),
        _ => {}
    }
    Ok(Val::List(list.into()))
}

fn member<'a>(element: &Val<'a>, key: &str) -> Val<'a> {
    element.get(key).unwrap_or(Val::Nil(None))
}

fn fits(member: &Val<'_>, wanted: Option<&Val<'_>>) -> bool {
    wanted.map_or_else(|| member.is_true(), |wanted| member.equals(wanted))
}

/// A total order: what can be compared by value, then by kind, nothing last.
fn order(a: &Val<'_>, b: &Val<'_>) -> Ordering {
    a.compare(b).unwrap_or_else(|| rank(a).cmp(&rank(b)))
}

fn rank(value: &Val<'_>) -> u8 {
    match value {
        Val::Number(_) => 0,
        Val::Text(_) | Val::Made(_) | Val::Captured(_) => 1,
        Val::Bool(_) => 2,
        Val::Json(_) | Val::List(_) | Val::Loop(_) | Val::Blank | Val::Empty => 3,
        Val::Nil(_) => 4,
    }
}

fn keep_first(list: &mut Vec<Val<'_>>, bench: &mut Bench<'_>) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    let mut kept = Vec::with_capacity(list.len());
    for element in list.drain(..) {
        let key = element.to_json().to_string();
        bench.budget.work(key.len())?;
        if seen.insert(key) {
            kept.push(element);
        }
    }
    *list = kept;
    Ok(())
}

fn join<'a>(
    elements: &[Val<'_>],
    separator: Option<&Val<'_>>,
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    let separator = separator.map_or(std::borrow::Cow::Borrowed(" "), Val::to_text);
    let mut text = String::new();
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            text.push_str(&separator);
        }
        text.push_str(&element.to_text());
        bench.budget.length(text.len())?;
    }
    bench.text(text)
}

fn slice<'a>(list: &[Val<'a>], args: &[Val<'a>], bench: &mut Bench<'_>) -> Result<Vec<Val<'a>>, Fault> {
    let range = slice_range(list.len(), args, bench)?;
    Ok(list.get(range).unwrap_or_default().to_vec())
}

/// Which part of `length` the arguments of `slice` mean.
pub fn slice_range(
    length: usize,
    args: &[Val<'_>],
    bench: &Bench<'_>,
) -> Result<std::ops::Range<usize>, Fault> {
    let offset = args.first().map_or(Ok(0), |arg| bench.number(arg).map(super::Number::as_i64))?;
    let wanted = args.get(1).map_or(Ok(1), |arg| bench.number(arg).map(super::Number::as_i64))?;
    let from_end = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    let start = if offset < 0 { length.checked_sub(from_end) } else { Some(from_end.min(length)) };
    let Some(start) = start else { return Ok(0..0) };
    let end = start.saturating_add(usize::try_from(wanted).unwrap_or(0)).min(length);
    Ok(start..end)
}
