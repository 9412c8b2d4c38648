//! Filters on lists.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::Value as Json;

use super::{Bench, Fault, Filter};
use crate::templating::liquid::marked::Marked;
use crate::templating::liquid::number::Number;
use crate::templating::liquid::value::{Val, count};

/// Puts `input` through a filter on lists.
pub fn apply<'a>(
    filter: Filter,
    input: &Val<'a>,
    args: &[Val<'a>],
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    match filter {
        Filter::First => return Ok(input.first().unwrap_or(Val::Nil(None))),
        Filter::Last => return Ok(input.at(-1).unwrap_or(Val::Nil(None))),
        Filter::Size => {
            bench.budget.work(input.as_str().map_or(0, str::len))?;
            return Ok(input.counted().unwrap_or_else(|| count(0)));
        }
        Filter::Slice => {
            let elements = input.elements();
            bench.budget.steps(elements.len())?;
            let range = slice_range(elements.len(), args, bench)?;
            return Ok(Val::List(elements.get(range).unwrap_or_default().into()));
        }
        _ => {}
    }
    let mut list = input.items();
    bench.budget.steps(list.len())?;
    if filter == Filter::Join {
        return join(&list, args.first(), bench);
    }
    let key = args.first().map(Val::to_filtered_text).unwrap_or_default();
    match filter {
        Filter::Compact => list.retain(|element| !element.is_nil()),
        Filter::Map => {
            let found =
                list.iter().map(|element| Ok(member(element, &key, bench)?.unwrap_or(Val::Nil(None))));
            list = found.collect::<Result<_, Fault>>()?;
        }
        Filter::Reverse => list.reverse(),
        Filter::Sort if args.is_empty() => sort(&mut list, bench)?,
        Filter::Sort => match sorted_by(&list, &key, bench)? {
            Some(sorted) => list = sorted,
            None => return Ok(Val::Nil(None)),
        },
        Filter::Uniq => keep_first(&mut list, bench)?,
        Filter::Where => {
            let mut kept = Vec::new();
            for element in list {
                let Some(member) = member(&element, &key, bench)? else { return Ok(Val::Nil(None)) };
                if fits(&member, args.get(1)) {
                    kept.push(element);
                }
            }
            list = kept;
        }
        _ => {}
    }
    Ok(Val::List(list.into()))
}

/// A member of an object, or what a text holds of its name; none of what has no members at all.
fn member<'a>(element: &Val<'a>, key: &str, bench: &Bench<'_>) -> Result<Option<Val<'a>>, Fault> {
    match element {
        Val::Json(Json::Object(members)) => Ok(Some(members.get(key).map_or(Val::Nil(None), Val::from))),
        Val::Number(Number::Int(_)) if bench.strict => Err(Fault::Unusable("a number has no members")),
        Val::Number(Number::Int(_)) => {
            Err(Fault::Reported(format!("cannot select the property '{key}'").into()))
        }
        other => {
            Ok(other.as_str().map(|text| if text.contains(key) { Val::made(key) } else { Val::Nil(None) }))
        }
    }
}

/// Whether a member is what is wanted; without a wish, or with one that leads to nothing, whether it is true.
fn fits(member: &Val<'_>, wanted: Option<&Val<'_>>) -> bool {
    match wanted.filter(|wanted| !wanted.is_nil()) {
        Some(wanted) => member.equals(wanted),
        None => member.is_true(),
    }
}

fn sort(list: &mut [Val<'_>], bench: &Bench<'_>) -> Result<(), Fault> {
    let mut mixed = false;
    list.sort_by(|a, b| order(a, b, &mut mixed));
    unmixed(mixed, bench)
}

/// The list in the order of its elements' members; nothing if one of them can't have any.
fn sorted_by<'a>(list: &[Val<'a>], key: &str, bench: &Bench<'_>) -> Result<Option<Vec<Val<'a>>>, Fault> {
    if list.len() == 1 {
        return Ok(Some(list.to_vec()));
    }
    let has_members = |element: &Val<'_>| {
        matches!(element, Val::Json(_) | Val::Number(Number::Int(_))) || element.as_str().is_some()
    };
    if !list.iter().all(has_members) {
        return Ok(None);
    }
    let keyed =
        list.iter().map(|element| Ok((member(element, key, bench)?.unwrap_or(Val::Nil(None)), element)));
    let mut keyed: Vec<(Val<'a>, &Val<'a>)> = keyed.collect::<Result<_, Fault>>()?;
    let mut mixed = false;
    keyed.sort_by(|(a, _), (b, _)| order(a, b, &mut mixed));
    unmixed(mixed, bench)?;
    Ok(Some(keyed.into_iter().map(|(_, element)| element.clone()).collect()))
}

fn unmixed(mixed: bool, bench: &Bench<'_>) -> Result<(), Fault> {
    match (mixed, bench.strict) {
        (false, _) => Ok(()),
        (true, true) => Err(Fault::Unusable("the elements of the list can't be sorted")),
        (true, false) => Err(Fault::Reported("cannot sort values of incompatible types".into())),
    }
}

/// A total order: what can be compared by value, then by kind, nothing last. Reports values without an order.
fn order(a: &Val<'_>, b: &Val<'_>, mixed: &mut bool) -> Ordering {
    if let Ok(Some(order)) = a.compare(b) {
        return order;
    }
    *mixed |= !a.is_nil() && !b.is_nil() && !a.equals(b);
    rank(a).cmp(&rank(b))
}

fn rank(value: &Val<'_>) -> u8 {
    match value {
        Val::Number(_) => 0,
        Val::Text(_) | Val::Made(_) | Val::Marked(_) => 1,
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
    let space = Val::Text(" ");
    let separator = separator.unwrap_or(&space).to_marked();
    let mut text = Marked::default();
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            text.push_all(&separator);
        }
        text.push_all(&element.to_marked());
        bench.budget.length(text.as_str().len())?;
    }
    bench.marked(text)
}

/// Which part of `length` the arguments of `slice` mean.
pub fn slice_range(
    length: usize,
    args: &[Val<'_>],
    bench: &Bench<'_>,
) -> Result<std::ops::Range<usize>, Fault> {
    let offset = args.first().map_or(Ok(0), |arg| bench.count(arg))?;
    let wanted = args.get(1).filter(|arg| !arg.is_nil()).map_or(Ok(1), |arg| bench.count(arg))?;
    let from_end = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    let start = if offset < 0 { length.checked_sub(from_end) } else { Some(from_end.min(length)) };
    let Some(start) = start else { return Ok(0..0) };
    let end = start.saturating_add(usize::try_from(wanted).unwrap_or(0)).min(length);
    Ok(start..end)
}
