//! What Herald computes for one event, and how.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::escape::{Place, encode, make_value_safe};
use crate::domain::visible::is_blank;
use crate::templating::liquid::RenderError;
use crate::templating::liquid::ast::{Condition, Expr, Filtered, For, Node, Span};
use crate::templating::liquid::render::Evaluator;
use crate::templating::liquid::value::Val;

/// One thing to compute. The nodes are the author's, so that errors point into the source.
#[derive(Debug, Clone)]
pub enum Op {
    /// Run nodes for the variables that they set.
    Run(Vec<Node>),
    /// The text of nodes.
    Text {
        /// The slot.
        key: String,
        /// What is rendered.
        nodes: Vec<Node>,
    },
    /// A value for an expression that OneSignal completes.
    Value {
        /// The slot.
        key: String,
        /// The part of the expression that Herald computes.
        value: Filtered,
        /// What the expression becomes part of.
        place: Place,
        /// What becomes of it if it is missing or blank.
        need: Need,
        /// The parts of it that OneSignal reads.
        used: Used,
    },
    /// Whether a condition holds.
    Test {
        /// The slot.
        key: String,
        /// The condition.
        condition: Condition,
    },
    /// Which branch is taken; what the others need is not computed.
    Choose {
        /// The slot: true or false for one branch, else the number of the branch, 0 for none.
        key: String,
        /// The branches.
        branches: Vec<Choice>,
        /// What is needed when none is taken.
        otherwise: Vec<Op>,
    },
    /// One entry per element of a list.
    Each {
        /// The slot.
        key: String,
        /// The loop, without its bodies.
        list: For,
        /// What each entry holds.
        body: Vec<Op>,
        /// What is needed if there is no element.
        otherwise: Vec<Op>,
    },
}

/// What it means that a value for OneSignal is missing or blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is compared.
    None,
    /// Another value replaces it.
    Replaceable,
    /// It must exist; it may be blank, because it is combined with another text.
    There,
    /// It must be more than whitespace, for it is what is printed.
    Filled,
}

/// One branch that Herald decides on.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Whether it is taken when the condition does not hold.
    pub negated: bool,
    /// When it is taken.
    pub condition: Condition,
    /// What it needs.
    pub ops: Vec<Op>,
}

/// The parts of a value that OneSignal reads, if it is sent as a list or an object.
#[derive(Debug, Clone, Default)]
pub struct Used {
    /// The members of elements that are read; `None` if that isn't known.
    pub members: Option<Arc<BTreeSet<String>>>,
    /// The paths below the value that must not be missing, as steps: a key, or `None` for every element.
    pub needed: Vec<Vec<Option<String>>>,
}

/// The values that travel as they are: the path that each begins, how many of its steps lead there, and the members of
/// elements that are kept.
pub fn wholes(ops: &[Op]) -> Vec<(Span, usize, Option<&BTreeSet<String>>)> {
    let mut found = Vec::new();
    for op in ops {
        match op {
            Op::Run(_) | Op::Text { .. } | Op::Test { .. } => {}
            Op::Value { value, used, .. } => {
                if let Expr::Path(path) = &value.expr {
                    found.push((path.span, path.steps.len(), used.members.as_deref()));
                }
            }
            Op::Choose { branches, otherwise, .. } => {
                found.extend(branches.iter().flat_map(|branch| wholes(&branch.ops)));
                found.extend(wholes(otherwise));
            }
            Op::Each { body, otherwise, .. } => {
                found.extend(wholes(body));
                found.extend(wholes(otherwise));
            }
        }
    }
    found
}

/// Computes `ops` into `entry`.
///
/// # Errors
/// [`RenderError`], as the evaluator meets it.
pub fn run<'a>(
    evaluator: &mut Evaluator<'a>,
    ops: &'a [Op],
    entry: &mut Map<String, Value>,
) -> Result<(), RenderError> {
    for op in ops {
        match op {
            Op::Run(nodes) => drop(evaluator.render(nodes)?),
            Op::Text { key, nodes } => {
                let text = evaluator.render(nodes)?;
                evaluator.made_text(text.len())?;
                entry.insert(key.clone(), Value::String(text));
            }
            Op::Value { key, value, place, need, used } => {
                if let Some(value) = compute(evaluator, value, *place, *need, used)? {
                    entry.insert(key.clone(), value);
                }
            }
            Op::Test { key, condition } => {
                let holds = evaluator.decide(condition)?;
                entry.insert(key.clone(), Value::Bool(holds));
            }
            Op::Choose { key, branches, otherwise } => {
                let (choice, ops) = choose(evaluator, branches, otherwise)?;
                let single = branches.len() == 1;
                entry.insert(key.clone(), if single { Value::Bool(choice > 0) } else { choice.into() });
                run(evaluator, ops, entry)?;
            }
            Op::Each { key, list, body, otherwise } => {
                let mut entries = Vec::new();
                let any = evaluator.each(list, &mut |evaluator| {
                    let mut entry = Map::new();
                    run(evaluator, body, &mut entry)?;
                    entries.push(Value::Object(entry));
                    Ok(())
                })?;
                entry.insert(key.clone(), Value::Array(entries));
                if !any {
                    run(evaluator, otherwise, entry)?;
                }
            }
        }
    }
    Ok(())
}

fn choose<'a>(
    evaluator: &mut Evaluator<'a>,
    branches: &'a [Choice],
    otherwise: &'a [Op],
) -> Result<(usize, &'a [Op]), RenderError> {
    for (index, branch) in branches.iter().enumerate() {
        if evaluator.decide(&branch.condition)? != branch.negated {
            return Ok((index + 1, &branch.ops));
        }
    }
    Ok((0, otherwise))
}

/// The value, cut to what is used and made safe; `None` if it is missing and may be.
fn compute<'a>(
    evaluator: &mut Evaluator<'a>,
    value: &'a Filtered,
    place: Place,
    need: Need,
    used: &Used,
) -> Result<Option<Value>, RenderError> {
    let optional = matches!(need, Need::None | Need::Replaceable);
    let (found, given) = match evaluator.value(value) {
        Err(RenderError::Missing { .. }) if optional => return Ok(None),
        other => other?,
    };
    if let (Some(path), true) = (given, found.is_blank_text()) {
        match need {
            Need::None | Need::There => {}
            Need::Replaceable => return Ok(None),
            Need::Filled => return Err(evaluator.missing(value, Some(path))),
        }
    }
    if let Val::Nil(origin) = found {
        return if optional { Ok(None) } else { Err(evaluator.missing(value, origin)) };
    }
    let json = found.to_json();
    evaluator.made_value(&json, value)?;
    if let Some(steps) = used.needed.iter().find(|steps| !is_there(&json, steps)) {
        return Err(evaluator.missing_below(value, &written(steps)));
    }
    let safe = if holds_parts(&found) {
        encoded(place, &found)
    } else {
        make_value_safe(place, cut(json, used.members.as_deref(), false))
    };
    safe.map(Some).map_err(|why| evaluator.unusable(value, why))
}

/// Whether the value is a text in parts, or a list with one in it.
fn holds_parts(value: &Val<'_>) -> bool {
    match value {
        Val::Marked(_) => true,
        Val::List(list) => list.iter().any(holds_parts),
        _ => false,
    }
}

/// The value with its texts encoded part by part.
fn encoded(place: Place, value: &Val<'_>) -> Result<Value, &'static str> {
    match value {
        Val::Marked(text) => encode(place, text).map(Value::String),
        Val::List(list) => list.iter().map(|item| encoded(place, item)).collect(),
        other => make_value_safe(place, other.to_json()),
    }
}

fn is_there(value: &Value, steps: &[Option<String>]) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return !value.is_null() && value.as_str().is_none_or(|text| !is_blank(text));
    };
    match (step, value) {
        (None, Value::Array(list)) => list.iter().all(|item| is_there(item, rest)),
        (Some(key), Value::Object(members)) => members.get(key).is_some_and(|member| is_there(member, rest)),
        _ => false,
    }
}

fn written(steps: &[Option<String>]) -> String {
    let step = |step: &Option<String>| step.as_ref().map_or_else(|| "[]".to_owned(), |key| format!(".{key}"));
    steps.iter().map(step).collect::<Vec<_>>().concat()
}

/// Removes the members of a list's elements that are never read.
fn cut(value: Value, members: Option<&BTreeSet<String>>, in_list: bool) -> Value {
    let Some(kept) = members else { return value };
    match value {
        Value::Array(list) => list.into_iter().map(|item| cut(item, members, true)).collect(),
        Value::Object(object) if in_list => {
            let object = object.into_iter().filter(|(key, _)| kept.contains(key));
            Value::Object(object.map(|(key, member)| (key, cut(member, members, true))).collect())
        }
        Value::Object(object) => Value::Object(
            object.into_iter().map(|(key, member)| (key, cut(member, members, false))).collect(),
        ),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}
