//! The size of a schema: how many schemas its references expand to, and how deeply they are nested.

use super::SchemaError;
use super::walk::{Part, Plan};
use crate::domain::budget::Budget;

/// The maximum number of schemas that a schema may expand to.
pub const MAX_EXPANSION: usize = 10_000;
/// The maximum number of nested schemas for one value.
pub const MAX_CHAIN: usize = 32;

/// What is known of a part while parts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State<T> {
    Unknown,
    /// Being counted: what leads back to it is a recursion.
    Open,
    Known(T),
}

/// The size of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How many schemas lie within each other for one value.
    pub chain: usize,
    /// How often one value is validated against one of its schemas, at most.
    pub weight: usize,
}

/// Counts a schema.
///
/// # Errors
/// [`SchemaError::TooLarge`], [`SchemaError::TooDeep`], [`SchemaError::Circular`], [`SchemaError::Spent`].
pub(super) fn check(plan: &Plan, budget: &Budget) -> Result<Bounds, SchemaError> {
    let chain = chains(plan, budget)?;
    let Figures { expansion, weight, .. } = figures(plan, budget)?;
    if expansion > MAX_EXPANSION { Err(SchemaError::TooLarge) } else { Ok(Bounds { chain, weight }) }
}

/// The longest chain of parts for one value.
fn chains(plan: &Plan, budget: &Budget) -> Result<usize, SchemaError> {
    let mut known = vec![State::Unknown; plan.parts.len()];
    let mut longest = 0;
    for part in 0..plan.parts.len() {
        longest = longest.max(chain(plan, part, 1, &mut known, budget)?);
    }
    Ok(longest)
}

fn chain(
    plan: &Plan,
    number: usize,
    depth: usize,
    known: &mut [State<usize>],
    budget: &Budget,
) -> Result<usize, SchemaError> {
    budget.steps(1)?;
    match known[number] {
        State::Known(length) if depth + length - 1 > MAX_CHAIN => return Err(SchemaError::TooDeep),
        State::Known(length) => return Ok(length),
        State::Open => return Err(SchemaError::Circular(format!("#{}", plan.parts[number].place))),
        State::Unknown => {}
    }
    known[number] = State::Open;
    let mut length = 1;
    for next in &plan.parts[number].same {
        // Depth is refused a little later, so that a circle is reported as one.
        if depth > 2 * MAX_CHAIN {
            return Err(SchemaError::TooDeep);
        }
        length = length.max(1 + chain(plan, *next, depth + 1, known, budget)?);
    }
    known[number] = State::Known(length);
    if length > MAX_CHAIN { Err(SchemaError::TooDeep) } else { Ok(length) }
}

/// What is counted of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Figures {
    /// Schemas that it expands to in all.
    expansion: usize,
    /// Schemas that it expands to for the value itself.
    own: usize,
    /// How often something in the value is validated because of this part.
    spread: usize,
    /// How often the value, or something in it, is validated because of this part.
    weight: usize,
}

/// A part that leads back to itself counts once there: the validator remembers what it has found for a value, so that how
/// often it is followed depends on the data.
const RECURSION: Figures = Figures { expansion: 1, own: 1, spread: 1, weight: 1 };

/// Counts the whole. There is no recursion here, because a chain of members may be as long as the schema.
fn figures(plan: &Plan, budget: &Budget) -> Result<Figures, SchemaError> {
    let mut known = vec![State::Unknown; plan.parts.len()];
    known[0] = State::Open;
    // Parts that are being counted, with how many of their references were counted.
    let mut open = vec![(0, 0)];
    while let Some((number, done)) = open.pop() {
        budget.steps(1)?;
        let part = &plan.parts[number];
        let next = part.same.iter().chain(&part.named).chain(&part.below).nth(done).copied();
        let Some(next) = next else {
            budget.steps(part.same.len() + part.named.len() + part.below.len())?;
            known[number] = State::Known(of_part(part, &known));
            continue;
        };
        open.push((number, done + 1));
        if known[next] == State::Unknown {
            known[next] = State::Open;
            open.push((next, 0));
        }
    }
    Ok(figure(&known[0]))
}

fn figure(state: &State<Figures>) -> Figures {
    match state {
        State::Known(figures) => *figures,
        State::Unknown | State::Open => RECURSION,
    }
}

fn of_part(part: &Part, known: &[State<Figures>]) -> Figures {
    let of = |numbers: &[usize]| numbers.iter().map(|number| figure(&known[*number])).collect::<Vec<_>>();
    let (same, named, below) = (of(&part.same), of(&part.named), of(&part.below));
    let sum =
        |of: &[Figures], count: fn(&Figures) -> usize| of.iter().map(count).fold(0, usize::saturating_add);
    let expansion = |of: &[Figures]| sum(of, |one| one.expansion);
    let max = named.iter().map(|one| one.weight).max().unwrap_or(0);
    let spread =
        max.saturating_add(sum(&below, |one| one.weight)).saturating_add(sum(&same, |one| one.spread));
    let own = sum(&same, |one| one.own).saturating_add(1);
    Figures {
        expansion: [&same, &named, &below].into_iter().map(|of| expansion(of)).fold(1, usize::saturating_add),
        own,
        spread,
        weight: own.max(spread),
    }
}
