//! Reads expressions, filters and conditions from tokens.

use super::ast::{Call, Condition, Expr, Filtered, Join, Literal, Operator, Path, Span, Step, Test};
use super::filters::{self, Filter};
use super::lexer::{Token, tokens};
use super::position::SyntaxError;
use crate::domain::budget::Budget;

/// How deeply `[…[…]]` may nest.
const MAX_BRACKETS: usize = 8;
/// How many steps a path may have: an event's values are nested 32 deep at most.
pub(super) const MAX_STEPS: usize = 32;
/// How many filters may follow one value.
const MAX_FILTERS: usize = 50;
/// How many tests a condition, and how many values a `when` may have.
const MAX_TESTS: usize = 100;

/// Reads the tokens of one output or tag, first to last.
pub struct Reader<'s> {
    source: &'s str,
    inner: Span,
    tokens: Vec<(Token, Span)>,
    at: usize,
}

impl<'s> Reader<'s> {
    /// Begins at the start of `inner`.
    pub fn new(source: &'s str, inner: Span, budget: &Budget) -> Result<Self, SyntaxError> {
        let tokens = tokens(source, inner)?;
        budget.steps(tokens.len()).map_err(|spent| {
            SyntaxError::at(source, inner.start, format!("this is too complex: {spent}; shorten it"))
        })?;
        Ok(Self { source, inner, tokens, at: 0 })
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    /// The position of the next token, or of the end.
    pub fn here(&self) -> Span {
        let end = Span { start: self.inner.end, end: self.inner.end };
        self.tokens.get(self.at).map_or(end, |(_, span)| *span)
    }

    fn last_end(&self) -> usize {
        self.at
            .checked_sub(1)
            .and_then(|at| self.tokens.get(at))
            .map_or(self.inner.start, |(_, span)| span.end)
    }

    /// An error at the next token.
    pub fn error<T>(&self, message: impl Into<String>) -> Result<T, SyntaxError> {
        Err(SyntaxError::at(self.source, self.here().start, message))
    }

    /// Takes the next token if it is this sign.
    pub fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(found);
        found
    }

    /// Takes the next token if it is this word.
    pub fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(next)) if next == word);
        self.at += usize::from(found);
        found
    }

    /// Takes a word.
    pub fn word(&mut self, wanted: &str) -> Result<String, SyntaxError> {
        let Some(Token::Word(word)) = self.peek() else {
            return self.error(format!("expected {wanted}"));
        };
        let word = word.clone();
        self.at += 1;
        Ok(word)
    }

    /// Takes a word or a quoted text, as `capture` names its variable.
    pub fn name(&mut self) -> Result<String, SyntaxError> {
        if let Some(Token::Text(name)) = self.peek() {
            let name = name.clone();
            self.at += 1;
            return Ok(name);
        }
        self.word("a name")
    }

    /// Refuses anything that is left.
    pub fn end(&self) -> Result<(), SyntaxError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.error(format!("`{}` is not expected here", self.here().of(self.source))),
        }
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.peek().is_none()
    }

    /// Reads one value.
    pub fn expr(&mut self) -> Result<Expr, SyntaxError> {
        let literal = match self.peek() {
            Some(Token::Text(text)) => Literal::Text(text.clone()),
            Some(Token::Int(int)) => Literal::Int(*int),
            Some(Token::Float(float)) => Literal::Float(*float),
            Some(Token::Word(word)) => match word.as_str() {
                "nil" | "null" => Literal::Nil,
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "blank" => Literal::Blank,
                "empty" => Literal::Empty,
                _ => return Ok(Expr::Path(self.path(0)?)),
            },
            Some(Token::Sign(_)) | None => return self.error("expected a value"),
        };
        self.at += 1;
        Ok(Expr::Literal(literal))
    }

    fn path(&mut self, depth: usize) -> Result<Path, SyntaxError> {
        if depth > MAX_BRACKETS {
            return self.error("brackets are nested too deeply");
        }
        let start = self.here().start;
        let root = self.word("a name")?;
        let mut steps = Vec::new();
        loop {
            if steps.len() > MAX_STEPS {
                let message = format!(
                    "a path has at most {MAX_STEPS} steps; event data is not nested deeper, so shorten it"
                );
                return Err(SyntaxError::at(self.source, start, message));
            }
            if self.take_sign(".") {
                steps.push(Step::Key(self.word("a name after the dot")?));
            } else if self.take_sign("[") {
                steps.push(self.bracketed(depth)?);
            } else {
                return Ok(Path { root, steps, span: Span { start, end: self.last_end() } });
            }
        }
    }

    fn bracketed(&mut self, depth: usize) -> Result<Step, SyntaxError> {
        let step = match self.peek() {
            Some(Token::Text(key)) => Step::Key(key.clone()),
            Some(Token::Int(index)) => match i64::try_from(*index) {
                Ok(index) => Step::Index(index),
                Err(_) => return self.error("this index is too large"),
            },
            Some(Token::Word(_)) => Step::Dynamic(self.path(depth + 1)?),
            Some(Token::Float(_) | Token::Sign(_)) | None => {
                return self.error("expected an index, a quoted key or a path in brackets");
            }
        };
        if !matches!(step, Step::Dynamic(_)) {
            self.at += 1;
        }
        if self.take_sign("]") { Ok(step) } else { self.error("expected `]`") }
    }

    /// Reads a value and its filters, to the end.
    pub fn filtered(&mut self, span: Span) -> Result<Filtered, SyntaxError> {
        let expr = self.expr()?;
        let mut filters = Vec::new();
        while self.take_sign("|") {
            if filters.len() == MAX_FILTERS {
                return self.error(format!(
                    "a value has at most {MAX_FILTERS} filters; compute it in the event instead"
                ));
            }
            filters.push(self.call()?);
        }
        self.end()?;
        self.refuse_the_present_moment(&expr, &filters)?;
        Ok(Filtered { expr, filters, span })
    }

    /// `"now" | date` would make the text depend on when it is rendered, which can't be checked in advance.
    fn refuse_the_present_moment(&self, expr: &Expr, filters: &[Call]) -> Result<(), SyntaxError> {
        let Expr::Literal(Literal::Text(text)) = expr else { return Ok(()) };
        let Some(call) = filters.first() else { return Ok(()) };
        if call.filter == Filter::Date && matches!(text.as_str(), "now" | "today") {
            let message = format!("`date` does not support `{text}`; put the time in the event");
            return Err(SyntaxError::at(self.source, call.span.start, message));
        }
        Ok(())
    }

    fn call(&mut self) -> Result<Call, SyntaxError> {
        let span = self.here();
        let name = self.word("the name of a filter")?;
        let Some(filter) = Filter::named(&name) else {
            return Err(SyntaxError::at(self.source, span.start, filters::unknown(&name)));
        };
        let mut call = Call { filter, args: Vec::new(), allow_false: false, span };
        if self.take_sign(":") {
            self.argument(&mut call)?;
            while self.take_sign(",") {
                self.argument(&mut call)?;
            }
        }
        let (min, max) = filter.arity();
        if !(min..=max).contains(&call.args.len()) {
            return Err(SyntaxError::at(
                self.source,
                span.start,
                filters::wrong_arity(filter, call.args.len()),
            ));
        }
        Ok(call)
    }

    fn argument(&mut self, call: &mut Call) -> Result<(), SyntaxError> {
        let named = matches!(self.tokens.get(self.at + 1), Some((Token::Sign(":"), _)));
        if !named {
            let arg = self.expr()?;
            call.args.push(arg);
            return Ok(());
        }
        if call.filter != Filter::Default || !self.take_word("allow_false") || !self.take_sign(":") {
            return self.error(format!("`{}` has no such option", call.filter.name()));
        }
        match self.expr()? {
            Expr::Literal(Literal::Bool(allow)) => call.allow_false = allow,
            Expr::Literal(_) | Expr::Path(_) => return self.error("`allow_false` is `true` or `false`"),
        }
        Ok(())
    }

    /// Reads a condition, to the end.
    pub fn condition(&mut self) -> Result<Condition, SyntaxError> {
        let mut condition = Condition { tests: vec![self.test()?], joins: Vec::new() };
        loop {
            let join = if self.take_word("and") {
                Join::And
            } else if self.take_word("or") {
                Join::Or
            } else {
                self.end()?;
                return Ok(condition);
            };
            if condition.tests.len() == MAX_TESTS {
                return self.error(format!(
                    "a condition has at most {MAX_TESTS} tests; use `contains` with a list in the event"
                ));
            }
            condition.joins.push(join);
            condition.tests.push(self.test()?);
        }
    }

    fn test(&mut self) -> Result<Test, SyntaxError> {
        let start = self.here().start;
        let left = self.expr()?;
        if self.take_sign("=") {
            self.at -= 1;
            return self.error("`=` is not a comparison; write `==`");
        }
        let right = match self.operator() {
            Some(operator) => Some((operator, self.expr()?)),
            None => None,
        };
        Ok(Test { left, right, span: Span { start, end: self.last_end() } })
    }

    fn operator(&mut self) -> Option<Operator> {
        let operator = match self.peek()? {
            Token::Sign("==") => Operator::Equal,
            Token::Sign("!=" | "<>") => Operator::Unequal,
            Token::Sign("<") => Operator::Less,
            Token::Sign("<=") => Operator::AtMost,
            Token::Sign(">") => Operator::More,
            Token::Sign(">=") => Operator::AtLeast,
            Token::Word(word) if word == "contains" => Operator::Contains,
            Token::Sign(_) | Token::Word(_) | Token::Text(_) | Token::Int(_) | Token::Float(_) => {
                return None;
            }
        };
        self.at += 1;
        Some(operator)
    }
}
