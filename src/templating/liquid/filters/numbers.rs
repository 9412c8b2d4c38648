//! Filters on numbers.

use super::{Bench, Fault, Filter};
use crate::templating::liquid::number::Number;
use crate::templating::liquid::value::Val;

/// Puts `input` through a filter on numbers.
pub fn apply<'a>(
    filter: Filter,
    input: &Val<'a>,
    args: &[Val<'a>],
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    let number = bench.number(input)?;
    if filter == Filter::Pluralize {
        return Ok(args.get(plural(number)).cloned().unwrap_or(Val::Nil(None)));
    }
    let Some(arg) = args.first() else { return Ok(Val::Number(alone(filter, number))) };
    let arg = bench.number(arg)?;
    match with(filter, number, arg) {
        Some(result) => Ok(Val::Number(result)),
        None if bench.strict => Err(Fault::Unusable("division by zero")),
        None => by_zero(filter, number, arg),
    }
}

/// What the reference engine makes of a division by zero.
fn by_zero<'a>(filter: Filter, number: Number, arg: Number) -> Result<Val<'a>, Fault> {
    let is_whole = matches!((number, arg), (Number::Int(_), Number::Int(_)));
    if is_whole || filter == Filter::Modulo {
        return Err(Fault::Reported("divided by 0".into()));
    }
    Ok(Val::Number(Number::Float(number.as_f64() / 0.0)))
}

/// Which argument `pluralize` takes for a number.
pub fn plural(number: Number) -> usize {
    let one = number.compare(Number::Int(1)).is_some_and(std::cmp::Ordering::is_eq);
    usize::from(!one)
}

fn alone(filter: Filter, number: Number) -> Number {
    match filter {
        Filter::Abs => match number {
            Number::Int(int) => Number::Int(int.saturating_abs()),
            Number::Float(float) => Number::Float(float.abs()),
        },
        Filter::Ceil => number.whole(f64::ceil),
        Filter::Floor => number.whole(f64::floor),
        Filter::Round => number.whole(f64::round),
        _ => number,
    }
}

fn with(filter: Filter, number: Number, arg: Number) -> Option<Number> {
    let less = number.compare(arg).is_some_and(std::cmp::Ordering::is_lt);
    match filter {
        Filter::Plus => Some(number.plus(arg)),
        Filter::Minus => Some(number.minus(arg)),
        Filter::Times => Some(number.times(arg)),
        Filter::DividedBy => number.divided_by(arg),
        Filter::Modulo => number.modulo(arg),
        Filter::AtLeast => Some(if less { arg } else { number }),
        Filter::AtMost => Some(if less { number } else { arg }),
        Filter::Round if arg.as_i64() == 0 => Some(number.whole(f64::round)),
        Filter::Round => Some(number.round_to(arg.as_i64())),
        _ => Some(number),
    }
}
