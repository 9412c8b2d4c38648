//! What an evaluation is charged for. An expression is rewritten before it is evaluated: calls are put around the
//! ranges of comprehensions, around what an operator or function reads, and around its results.
//!
//! Where the language's own function could produce something huge before it can be checked, ours replaces it.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators as names};
use cel::common::types::{CelInt, CelMap, CelString};
use cel::common::value::{CowVal, Val};
use cel::{Context, ExecutionError, FunctionContext};

use super::arithmetic;
use crate::domain::budget::{Budget, Spent};

/// A comprehension over its argument: a step per entry. Authors can't write these names.
const WALKED: &str = "@walked";
/// What is read: the bytes of its argument.
const READ: &str = "@read";
/// What is made: the bytes of its argument.
const MADE: &str = "@made";
/// Our replacements of the language's functions with these names.
const REPLACE: &str = "@replace";
const JOIN: &str = "@join";

/// The bytes that a value takes besides its text.
const VALUE_BYTES: usize = 32;

/// Operators that read their operands only to return a boolean.
const READERS: [&str; 7] = [
    names::EQUALS,
    names::NOT_EQUALS,
    names::LESS,
    names::LESS_EQUALS,
    names::GREATER,
    names::GREATER_EQUALS,
    names::IN,
];
/// Operators that neither read much nor produce anything.
const FREE: [&str; 13] = [
    names::LOGICAL_AND,
    names::LOGICAL_OR,
    names::LOGICAL_NOT,
    names::NOT_STRICTLY_FALSE,
    names::CONDITIONAL,
    names::NEGATE,
    names::SUBSTRACT,
    names::MULTIPLY,
    names::DIVIDE,
    names::MODULO,
    names::INDEX,
    names::OPT_INDEX,
    names::OPT_SELECT,
];

/// Rewrites a tree so that its evaluation is charged.
pub(super) fn charge(tree: &mut IdedExpr) {
    match &mut tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Select(select) => charge(&mut select.operand),
        Expr::Call(_) => charge_call(tree),
        Expr::Comprehension(walk) => {
            for part in [&mut walk.iter_range, &mut walk.loop_cond, &mut walk.loop_step, &mut walk.result] {
                charge(part);
            }
            wrap(&mut walk.iter_range, WALKED);
        }
        // A list or an object contains copies of its elements.
        Expr::List(list) => list.elements.iter_mut().for_each(charge_kept),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| charge_entry(&mut entry.expr)),
        Expr::Struct(made) => made.entries.iter_mut().for_each(|entry| charge_entry(&mut entry.expr)),
    }
}

fn charge_kept(tree: &mut IdedExpr) {
    charge(tree);
    if !matches!(tree.expr, Expr::Literal(_)) {
        wrap(tree, MADE);
    }
}

fn charge_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => charge_kept(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            charge_kept(&mut entry.key);
            charge_kept(&mut entry.value);
        }
    }
}

fn charge_call(tree: &mut IdedExpr) {
    let Expr::Call(call) = &mut tree.expr else { return };
    let name = call.func_name.clone();
    if call.target.is_none() && FREE.contains(&name.as_str()) {
        call.args.iter_mut().for_each(charge);
        return rename_arithmetic(call);
    }
    // A comprehension that collects entries appends to its result; written otherwise, it would copy all of it each
    // time.
    if let (names::ADD, [before, entries]) = (name.as_str(), call.args.as_mut_slice())
        && matches!(&before.expr, Expr::Ident(name) if name.starts_with('@'))
    {
        return charge(entries);
    }
    // Part of a function's name, such as `optional` in `optional.of(x)`, has to stay one.
    let mut values: Vec<&mut IdedExpr> = call.args.iter_mut().collect();
    if let Some(target) = call.target.as_deref_mut() {
        charge(target);
        if !is_namespace(target) {
            wrap(target, READ);
        }
    }
    for value in &mut values {
        charge(value);
        if !matches!(value.expr, Expr::Literal(_)) {
            wrap(value, READ);
        }
    }
    let is_ours = call.target.as_deref().is_some_and(|target| !is_namespace(target));
    match (name.as_str(), call.args.len()) {
        ("replace", 2 | 3) if is_ours => ours(call, REPLACE),
        ("join", 0 | 1) if is_ours => ours(call, JOIN),
        (names::ADD, 2) if call.target.is_none() => {
            rename_arithmetic(call);
            wrap(tree, MADE);
        }
        _ if call.target.is_none() && READERS.contains(&name.as_str()) => {}
        _ => wrap(tree, MADE),
    }
}

/// Names that functions are grouped under.
fn is_namespace(tree: &IdedExpr) -> bool {
    matches!(&tree.expr, Expr::Ident(name) if ["optional", "strings"].contains(&name.as_str()))
}

/// Calls our function, with what was before the dot as the first argument.
fn ours(call: &mut CallExpr, name: &str) {
    if let Some(target) = call.target.take() {
        call.args.insert(0, *target);
        name.clone_into(&mut call.func_name);
    }
}

/// Replaces an operator on numbers by our function.
fn rename_arithmetic(call: &mut CallExpr) {
    if let Some(name) = arithmetic::in_place_of(&call.func_name) {
        name.clone_into(&mut call.func_name);
    }
}

fn wrap(tree: &mut IdedExpr, name: &str) {
    let inner = std::mem::take(tree);
    let id = inner.id;
    let call = CallExpr { func_name: name.to_owned(), target: None, args: vec![inner] };
    *tree = IdedExpr { id, expr: Expr::Call(call) };
}

/// Adds the functions that charge `budget`.
pub(super) fn add_to(context: &mut Context<'_, '_>, budget: &Budget) {
    // The names are not overloads of the language, so they can't conflict.
    let pays = budget.clone();
    let _ = context.add_function(WALKED, passing(move |value| walk(value, &pays)));
    let pays = budget.clone();
    let _ = context.add_function(READ, passing(move |value| weigh(value, &mut |bytes| pays.work(bytes))));
    let pays = budget.clone();
    let _ = context.add_function(MADE, passing(move |value| weigh(value, &mut |bytes| pays.memory(bytes))));
    let pays = budget.clone();
    let _ = context.add_function(REPLACE, boxed(move |call| replace(call, &pays)));
    let pays = budget.clone();
    let _ = context.add_function(JOIN, boxed(move |call| join(call, &pays)));
    for (_, name, operator) in arithmetic::OPERATORS {
        let _ = context.add_function(name, boxed(move |call| arithmetic::apply(call, operator)));
    }
}

type Function = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

fn boxed(
    function: impl for<'context, 'call> Fn(
        &mut FunctionContext<'context, 'call>,
    ) -> Result<CowVal<'context, 'call>, ExecutionError>
    + Send
    + Sync
    + 'static,
) -> Function {
    Box::new(function)
}

/// Returns its argument once it is paid for.
fn passing(pay: impl Fn(&dyn Val) -> Result<(), Spent> + Send + Sync + 'static) -> Function {
    boxed(move |call| {
        let value = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        pay(value.as_ref()).map_err(|spent| stopped(&spent))?;
        Ok(value)
    })
}

fn stopped(spent: &Spent) -> ExecutionError {
    ExecutionError::function_error("budget", spent)
}

fn walk(value: &dyn Val, budget: &Budget) -> Result<(), Spent> {
    let size = value.as_sizer().map_or(0, |sizer| *sizer.size().inner());
    budget.steps(usize::try_from(size).unwrap_or(usize::MAX))
}

/// Pays for the bytes of a value and all that is in it.
fn weigh(value: &dyn Val, pay: &mut dyn FnMut(usize) -> Result<(), Spent>) -> Result<(), Spent> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return pay(text.inner().len());
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        for member in map.inner().values() {
            pay(VALUE_BYTES)?;
            weigh(member.as_ref(), pay)?;
        }
        return Ok(());
    }
    let Some(iterable) = value.as_iterable() else { return pay(8) };
    let mut items = iterable.iter();
    while let Some(item) = items.next() {
        pay(VALUE_BYTES)?;
        weigh(item, pay)?;
    }
    Ok(())
}

fn text<'v>(value: &'v CowVal<'_, '_>) -> Result<&'v str, ExecutionError> {
    let text = value.downcast_ref::<CelString<'_>>().map(CelString::inner);
    text.ok_or_else(|| unfit(value))
}

fn unfit(value: &CowVal<'_, '_>) -> ExecutionError {
    ExecutionError::UnexpectedType { got: value.get_type().name().to_owned(), want: "string".to_owned() }
}

/// `text.replace(from, to)` and `text.replace(from, to, times)`.
fn replace<'context, 'call>(
    call: &mut FunctionContext<'context, 'call>,
    budget: &Budget,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    let [whole, from, to, rest @ ..] = call.args.as_slice() else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    let (whole, from, to) = (text(whole)?, text(from)?, text(to)?);
    let times = match rest.first() {
        None => None,
        Some(times) => match times.downcast_ref::<CelInt>() {
            Some(times) => usize::try_from(*times.inner()).ok(),
            None => return Err(unfit(times)),
        },
    };
    let found = whole.matches(from).count().min(times.unwrap_or(usize::MAX));
    budget
        .memory(found.saturating_mul(to.len()).saturating_add(whole.len()))
        .map_err(|spent| stopped(&spent))?;
    let made = match times {
        Some(times) => whole.replacen(from, to, times),
        None => whole.replace(from, to),
    };
    Ok(CowVal::owned(CelString::from(made)))
}

/// `list.join()` and `list.join(between)`.
fn join<'context, 'call>(
    call: &mut FunctionContext<'context, 'call>,
    budget: &Budget,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    let [list, rest @ ..] = call.args.as_slice() else {
        return Err(ExecutionError::MissingArgumentOrTarget);
    };
    let between = rest.first().map_or(Ok(""), text)?;
    let mut items = list.as_iterable().ok_or_else(|| unfit(list))?.iter();
    let mut made = String::new();
    let mut is_first = true;
    while let Some(item) = items.next() {
        let item = item.downcast_ref::<CelString<'_>>().map(CelString::inner);
        let item = item.ok_or_else(|| unfit(list))?;
        let separator = if std::mem::take(&mut is_first) { "" } else { between };
        budget.memory(separator.len() + item.len()).map_err(|spent| stopped(&spent))?;
        made.push_str(separator);
        made.push_str(item);
    }
    Ok(CowVal::owned(CelString::from(made)))
}
