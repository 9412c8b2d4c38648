//! Conditions: what they guarantee, and whether they compare comparable values.

use super::Flow;
use super::env::{Fact, Guard};
use super::expressions::Trail;
use crate::templating::check::shape::Shape;
use crate::templating::liquid::ast::{Condition, Expr, Join, Literal, Operator, Path, Span, Step, Test};

/// What is known when a condition holds, and when it doesn't.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcomes {
    /// When it holds.
    pub holds: Vec<Guard>,
    /// When it doesn't.
    pub fails: Vec<Guard>,
}

impl Outcomes {
    /// What is known when the condition came out so.
    pub(super) fn when(&self, holds: bool) -> &[Guard] {
        if holds { &self.holds } else { &self.fails }
    }
}

impl<'s> Flow<'_, 's> {
    /// What a condition guarantees either way. Right to left: each test is joined to all that follow it.
    pub(super) fn condition(&mut self, condition: &Condition) -> Outcomes {
        let tests: Vec<Outcomes> = condition.tests.iter().map(|test| self.test(test)).collect();
        let mut tests = tests.into_iter().rev();
        let mut outcome = tests.next().unwrap_or_default();
        for (mut test, join) in tests.zip(condition.joins.iter().rev()) {
            match join {
                Join::And => {
                    test.holds.append(&mut outcome.holds);
                    outcome = Outcomes { holds: test.holds, fails: Vec::new() };
                }
                Join::Or => {
                    test.fails.append(&mut outcome.fails);
                    outcome = Outcomes { holds: Vec::new(), fails: test.fails };
                }
            }
        }
        outcome
    }

    fn test(&mut self, test: &Test) -> Outcomes {
        let Some((operator, right)) = &test.right else {
            let Expr::Path(path) = &test.left else { return Outcomes::default() };
            let trail = self.trail(path);
            return Outcomes { holds: self.guards(path, &trail, Fact::Given, true), fails: Vec::new() };
        };
        let (left_shape, right_shape) = (self.expr(&test.left).shape, self.expr(right).shape);
        self.check_kinds(*operator, (&test.left, &left_shape), (right, &right_shape), test.span);
        match (&test.left, right) {
            (Expr::Path(path), Expr::Literal(literal)) => self.compared(path, *operator, literal),
            (Expr::Literal(literal), Expr::Path(path)) => self.compared(path, mirrored(*operator), literal),
            (Expr::Path(left), Expr::Path(right)) if is_ordering(*operator) => {
                let mut holds = Vec::new();
                for path in [left, right] {
                    let trail = self.trail(path);
                    holds.append(&mut self.guards(path, &trail, Fact::Given, true));
                }
                Outcomes { holds, fails: Vec::new() }
            }
            _ => Outcomes::default(),
        }
    }

    /// What comparing a path with a literal guarantees.
    fn compared(&mut self, path: &Path, operator: Operator, literal: &Literal) -> Outcomes {
        let trail = self.trail(path);
        let make = |fact: Fact, prefixes: bool| self.guards(path, &trail, fact, prefixes);
        let (equal, unequal) = match literal {
            Literal::Nil => (Vec::new(), make(Fact::Given, true)),
            Literal::Blank => (Vec::new(), make(Fact::Filled, true)),
            // Nothing is not empty either.
            Literal::Empty => (Vec::new(), make(Fact::NotEmpty, false)),
            Literal::Text(text) if text.is_empty() => (Vec::new(), make(Fact::NotEmpty, false)),
            Literal::Text(_) | Literal::Bool(_) | Literal::Int(_) | Literal::Float(_) => {
                let mut equal = make(Fact::OneOf(vec![literal.clone()]), true);
                equal.extend(self.distinguished(path, &trail, std::slice::from_ref(literal), true));
                let unequal = self.distinguished(path, &trail, std::slice::from_ref(literal), false);
                (equal, unequal.into_iter().collect())
            }
        };
        match operator {
            Operator::Equal => Outcomes { holds: equal, fails: unequal },
            Operator::Unequal => Outcomes { holds: unequal, fails: equal },
            Operator::Contains => Outcomes { holds: make(Fact::Given, true), fails: Vec::new() },
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => {
                let mut holds = make(Fact::Given, true);
                holds.extend(self.counted(path, &trail, operator, literal));
                Outcomes { holds, fails: Vec::new() }
            }
        }
    }

    /// `x.size > 2` makes sure of three elements.
    fn counted(
        &self,
        path: &Path,
        trail: &Trail<'s>,
        operator: Operator,
        literal: &Literal,
    ) -> Option<Guard> {
        let (Some(Step::Key(key)), Literal::Int(int)) = (path.steps.last(), literal) else { return None };
        let min = match operator {
            Operator::More => int.checked_add(1)?,
            Operator::AtLeast => *int,
            _ => return None,
        };
        let token = trail.tokens.iter().rev().nth(1).filter(|_| key == "size")?.clone();
        let fact = Fact::Least(usize::try_from(min).ok().filter(|min| *min > 0)?);
        Some(Guard { token, fact, by_provider: self.origins.root(&path.root).provider })
    }

    /// What a text that a member is or is not says about the object: which of its alternatives it is.
    fn distinguished(
        &self,
        path: &Path,
        trail: &Trail<'s>,
        literals: &[Literal],
        is_one: bool,
    ) -> Option<Guard> {
        let Some(Step::Key(key)) = path.steps.last() else { return None };
        let text = |literal: &Literal| match literal {
            Literal::Text(text) => Some(text.clone()),
            _ => None,
        };
        let texts = literals.iter().map(text).collect::<Option<_>>()?;
        let token = trail.tokens.iter().rev().nth(1)?.clone();
        let fact = Fact::Member { key: key.clone(), texts, is_one };
        Some(Guard { token, fact, by_provider: self.origins.root(&path.root).provider })
    }

    /// The fact about a path; where it is there, its beginnings are, too.
    fn guards(&self, path: &Path, trail: &Trail<'s>, fact: Fact, prefixes: bool) -> Vec<Guard> {
        let by_provider = self.origins.root(&path.root).provider;
        let Some((own, before)) = trail.tokens.split_last() else { return Vec::new() };
        let given = |token: &String| Guard { token: token.clone(), fact: Fact::Given, by_provider };
        let before = before.iter().filter(|_| prefixes).map(given);
        before.chain([Guard { token: own.clone(), fact, by_provider }]).collect()
    }

    /// What a `when` says about the subject.
    pub(super) fn chosen(&mut self, subject: &Expr, values: &[Expr]) -> Vec<Guard> {
        let literals = values.iter().map(|value| match value {
            Expr::Literal(
                literal @ (Literal::Text(_) | Literal::Bool(_) | Literal::Int(_) | Literal::Float(_)),
            ) => Some(literal.clone()),
            Expr::Literal(_) | Expr::Path(_) => None,
        });
        let (Expr::Path(path), Some(literals)) = (subject, literals.collect::<Option<Vec<_>>>()) else {
            return Vec::new();
        };
        let trail = self.trail(path);
        let apart = self.distinguished(path, &trail, &literals, true);
        let mut guards = self.guards(path, &trail, Fact::OneOf(literals), true);
        guards.extend(apart);
        guards
    }

    /// Reports two sides that can't be compared, or are never equal.
    pub(super) fn check_kinds(
        &mut self,
        operator: Operator,
        (left, a): (&Expr, &Shape<'s>),
        (right, b): (&Expr, &Shape<'s>),
        span: Span,
    ) {
        if a.foreign
            || b.foreign
            || [left, right].into_iter().any(is_nothing)
            || a.is_nothing()
            || b.is_nothing()
        {
            return;
        }
        let written = format!("`{}` compares {} with {}", operator.as_str(), a.kinds(), b.kinds());
        let hint = "compare two numbers or two strings; `\"1\"` is a string and `1` is a number";
        let texts = a.text.is_some() && b.text.is_some();
        let numbers = a.number.is_some() && b.number.is_some();
        if is_ordering(operator) {
            let mixed = (a.text.is_some() && b.number.is_some()) || (a.number.is_some() && b.text.is_some());
            let other = [a, b].into_iter().any(|shape| shape.boolean || shape.may_be_compound());
            if mixed || other {
                self.wrong_type(!texts && !numbers, span, written, hint);
            }
        } else if operator == Operator::Contains {
            if a.text.is_none() && !a.may_be_compound() {
                self.wrong_type(true, span, written, "`contains` searches a string or a list");
            }
        } else {
            let lists = !a.lists.is_empty() && !b.lists.is_empty();
            let objects = !a.objects.is_empty() && !b.objects.is_empty();
            let flags = a.boolean && b.boolean;
            if ![texts, numbers, lists, objects, flags].contains(&true) {
                self.wrong_type(true, span, format!("{written}, which are never equal"), hint);
            }
        }
    }
}

fn is_nothing(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(Literal::Nil | Literal::Blank | Literal::Empty))
}

fn is_ordering(operator: Operator) -> bool {
    matches!(operator, Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast)
}

/// The operator that says the same with its sides changed; `contains` has none.
fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::More,
        Operator::AtMost => Operator::AtLeast,
        Operator::More => Operator::Less,
        Operator::AtLeast => Operator::AtMost,
        // `"x" contains data.y`: what holds for the right side is only that it is there.
        Operator::Equal | Operator::Unequal | Operator::Contains => operator,
    }
}
