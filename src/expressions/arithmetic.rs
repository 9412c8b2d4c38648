//! Arithmetic on numbers of any kind. JSON has one kind of number, and a producer may write 150 today and 150.5 tomorrow,
//! so an expression must not work for one and fail for the other: CEL's own operators take two numbers of one kind only.
//!
//! Two integers make an integer, as in CEL (`7 / 2` is 3); a number with a fraction makes one with a fraction. Anything
//! that is not a number is left to CEL's operators.

use cel::common::ast::operators as names;
use cel::common::types::{CelDouble, CelInt, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::{ExecutionError, FunctionContext, Value};

/// CEL's operators, and the functions that replace them. Authors can't write these names.
pub(super) const OPERATORS: [(&str, &str, Operator); 6] = [
    (names::ADD, "@add", Operator::Add),
    (names::SUBSTRACT, "@subtract", Operator::Subtract),
    (names::MULTIPLY, "@multiply", Operator::Multiply),
    (names::DIVIDE, "@divide", Operator::Divide),
    (names::MODULO, "@modulo", Operator::Modulo),
    (names::NEGATE, "@negate", Operator::Negate),
];

/// An operator on numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Negate,
}

/// The name of the function that replaces an operator.
pub(super) fn in_place_of(operator: &str) -> Option<&'static str> {
    OPERATORS.into_iter().find(|(name, _, _)| *name == operator).map(|(_, ours, _)| ours)
}

/// The result of an operator.
pub(super) fn apply<'context, 'call>(
    call: &mut FunctionContext<'context, 'call>,
    operator: Operator,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    match call.args.as_slice() {
        [value] if operator == Operator::Negate => match Number::of(value.as_ref()) {
            Some(number @ Number::Unsigned(_)) => Number::Signed(0).combine(Operator::Subtract, number),
            _ => negated(value),
        },
        [left, right] => match (Number::of(left.as_ref()), Number::of(right.as_ref())) {
            (Some(one), Some(other)) => one.combine(operator, other),
            _ => combined_by_cel(operator, left, right),
        },
        _ => Err(ExecutionError::MissingArgumentOrTarget),
    }
}

fn negated<'context, 'call>(
    value: &CowVal<'context, 'call>,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    let negator = value.as_negator().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    Ok(CowVal::Owned(negator.negate()?))
}

/// Strings, lists, times and durations, and operands that do not match.
fn combined_by_cel<'context, 'call>(
    operator: Operator,
    left: &CowVal<'context, 'call>,
    right: &CowVal<'context, 'call>,
) -> Result<CowVal<'context, 'call>, ExecutionError> {
    let unfit = || ExecutionError::UnsupportedBinaryOperator("arithmetic", Value::Null, Value::Null);
    let made = match operator {
        Operator::Add => left.as_adder().ok_or_else(unfit)?.add(right.as_ref())?,
        Operator::Subtract => left.as_subtractor().ok_or_else(unfit)?.sub(right.as_ref())?,
        Operator::Multiply => left.as_multiplier().ok_or_else(unfit)?.mul(right.as_ref())?,
        Operator::Divide => left.as_divider().ok_or_else(unfit)?.div(right.as_ref())?,
        Operator::Modulo => left.as_modder().ok_or_else(unfit)?.modulo(right.as_ref())?,
        Operator::Negate => return Err(unfit()),
    };
    Ok(CowVal::Owned(made.into_owned()))
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Signed(i64),
    Unsigned(u64),
    Double(f64),
}

impl Number {
    fn of(value: &dyn Val) -> Option<Self> {
        if let Some(whole) = value.downcast_ref::<CelInt>() {
            return Some(Self::Signed(*whole.inner()));
        }
        if let Some(whole) = value.downcast_ref::<CelUInt>() {
            return Some(Self::Unsigned(*whole.inner()));
        }
        value.downcast_ref::<CelDouble>().map(|number| Self::Double(*number.inner()))
    }

    fn combine<'b, 'v>(self, operator: Operator, other: Self) -> Result<CowVal<'b, 'v>, ExecutionError> {
        if let (Some(one), Some(two)) = (self.whole(), other.whole()) {
            let is_unsigned = matches!((self, other), (Self::Unsigned(_), Self::Unsigned(_)));
            return whole_value(combine_whole(operator, one, two)?, is_unsigned);
        }
        let (one, two) = (self.double(), other.double());
        match operator {
            Operator::Add => Ok(double_value(one + two)),
            Operator::Subtract => Ok(double_value(one - two)),
            Operator::Multiply => Ok(double_value(one * two)),
            Operator::Divide => Ok(double_value(one / two)),
            Operator::Modulo if two == 0.0 => Err(ExecutionError::RemainderByZero(Value::Null)),
            Operator::Modulo => Ok(double_value(one % two)),
            Operator::Negate => Err(ExecutionError::MissingArgumentOrTarget),
        }
    }

    fn whole(self) -> Option<i128> {
        match self {
            Self::Signed(whole) => Some(whole.into()),
            Self::Unsigned(whole) => Some(whole.into()),
            Self::Double(_) => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a double is what a number with a fraction is")]
    fn double(self) -> f64 {
        match self {
            Self::Signed(whole) => whole as f64,
            Self::Unsigned(whole) => whole as f64,
            Self::Double(number) => number,
        }
    }
}

fn overflow() -> ExecutionError {
    ExecutionError::Overflow("arithmetic", Value::Null, Value::Null)
}

fn combine_whole(operator: Operator, one: i128, two: i128) -> Result<i128, ExecutionError> {
    match operator {
        Operator::Divide if two == 0 => return Err(ExecutionError::DivisionByZero(Value::Null)),
        Operator::Modulo if two == 0 => return Err(ExecutionError::RemainderByZero(Value::Null)),
        Operator::Add => one.checked_add(two),
        Operator::Subtract => one.checked_sub(two),
        Operator::Multiply => one.checked_mul(two),
        Operator::Divide => one.checked_div(two),
        Operator::Modulo => one.checked_rem(two),
        Operator::Negate => return Err(ExecutionError::MissingArgumentOrTarget),
    }
    .ok_or_else(overflow)
}

/// An `int`, or a `uint` if only that can represent the number or both operands were one.
fn whole_value<'b, 'v>(number: i128, is_unsigned: bool) -> Result<CowVal<'b, 'v>, ExecutionError> {
    match (i64::try_from(number), u64::try_from(number)) {
        (_, Ok(whole)) if is_unsigned => Ok(CowVal::owned(CelUInt::from(whole))),
        (Ok(whole), _) => Ok(CowVal::owned(CelInt::from(whole))),
        (Err(_), Ok(whole)) => Ok(CowVal::owned(CelUInt::from(whole))),
        (Err(_), Err(_)) => Err(overflow()),
    }
}

fn double_value<'b, 'v>(number: f64) -> CowVal<'b, 'v> {
    CowVal::owned(CelDouble::from(number))
}
