//! The values of expressions.

use super::env::{Known, LONGEST_PLACE, LONGEST_TOKEN, Place};
use super::{Flow, Reading};
use crate::templating::check::Severity;
use crate::templating::check::shape::{Listing, Shape};
use crate::templating::check::text::Text;
use crate::templating::liquid::ast::{Call, Expr, Filtered, Literal, Path, Span, Step};
use crate::templating::liquid::filters::Filter;

/// A path that was looked up, with what its beginnings are.
pub(super) struct Trail<'s> {
    /// What it leads to.
    pub known: Known<'s>,
    /// The tokens of its beginnings, itself last.
    pub tokens: Vec<String>,
}

impl<'s> Flow<'_, 's> {
    /// What a path leads to.
    pub(super) fn path(&mut self, path: &Path) -> Known<'s> {
        self.trail(path).known
    }

    /// What a path leads to, and what its beginnings do.
    pub(super) fn trail(&mut self, path: &Path) -> Trail<'s> {
        if path.root == "forloop" {
            return Trail { tokens: Vec::new(), known: self.loop_member(path) };
        }
        let mut known = self.root(path);
        known.shape = self.env.narrow(&known.token, known.shape);
        let mut trail = Trail { tokens: vec![known.token.clone()], known };
        for step in &path.steps {
            if self.budget.steps(1 + self.env.guards.len() / 16).is_err() {
                break;
            }
            let (shape, token, segment) = self.step(&trail.known, step);
            let shape = self.env.narrow(&token, shape);
            let places = std::mem::take(&mut trail.known.places);
            let places = places.into_iter().filter_map(|place| below(place, segment.as_deref())).collect();
            let shape = self.check_listing(path, step, &trail.known.shape, shape);
            trail.known = Known { shape, token, places, ..trail.known };
            trail.known.sensitive |= self.is_sensitive(&trail.known.places);
            trail.tokens.push(trail.known.token.clone());
        }
        self.readings.push(Reading {
            span: path.span,
            steps: path.steps.len(),
            places: trail.known.places.clone(),
        });
        trail
    }

    fn root(&mut self, path: &Path) -> Known<'s> {
        let name = path.root.as_str();
        if let Some(known) = self.env.find(name) {
            return known.clone();
        }
        match name {
            "data" => {
                let places = vec![Place::new()];
                Known { places, given: true, ..Known::own(self.data.clone(), "data") }
            }
            // Set further down, or in no branch that was taken.
            _ if self.origins.is_local(name) => Known::own(Shape::nil(), "unset"),
            _ => Known::foreign(),
        }
    }

    /// What `forloop` says.
    fn loop_member(&mut self, path: &Path) -> Known<'s> {
        let key = match path.steps.as_slice() {
            [Step::Key(key)] if !self.env.elements.is_empty() => key.as_str(),
            _ => "",
        };
        let shape = match key {
            "index" | "index0" | "rindex" | "rindex0" | "length" => Shape::count(),
            "first" | "last" => Shape::boolean(),
            // The compiler reports it.
            _ => Shape::foreign(),
        };
        Known::own(shape, self.fresh())
    }

    fn step(&mut self, known: &Known<'s>, step: &Step) -> (Shape<'s>, String, Option<String>) {
        // Otherwise a chain of variables would carry all of its steps along.
        let called_anew = (known.token.len() > LONGEST_TOKEN).then(|| self.fresh());
        let token = called_anew.as_ref().unwrap_or(&known.token);
        match step {
            Step::Key(key) => (known.shape.member(key), format!("{token}.{key:?}"), Some(key.clone())),
            Step::Index(index) => (known.shape.at(*index), format!("{token}[{index}]"), None),
            Step::Dynamic(inner) => {
                let key = self.path(inner);
                let key = if known.shape.foreign { self.need(key, inner) } else { key };
                (known.shape.lookup(&key.shape), format!("{token}[{}]", key.token), None)
            }
        }
    }

    /// Reports a step that the schema does not describe; nothing below it is reported.
    fn check_listing(&mut self, path: &Path, step: &Step, from: &Shape<'s>, to: Shape<'s>) -> Shape<'s> {
        if from.foreign || to.foreign || to.listing > Listing::Open {
            return to;
        }
        let written = path.span.of(self.source);
        let event = self.event.name;
        let name = match step {
            Step::Key(key) => key.as_str(),
            Step::Index(_) | Step::Dynamic(_) => "",
        };
        if to.listing == Listing::Open {
            let message = format!("the schema of `{event}` does not describe `{written}`");
            let hint = "add it to the event type's schema, so that it can be checked";
            self.report.add_once("unlisted_path", (&format!("{event} {written}"), path.span), message, hint);
            return Shape::foreign();
        }
        let message = format!("the schema of `{event}` has no `{written}`");
        let keys = from.keys();
        let hint = match near(name, &keys) {
            Some(key) => format!("did you mean `{key}`?"),
            None if keys.is_empty() => format!("the value before it is {}", from.kinds()),
            None => {
                format!("known members: {}", keys.iter().take(12).copied().collect::<Vec<_>>().join(", "))
            }
        };
        self.report.add(Severity::Error, "unknown_path", path.span, message, hint);
        Shape::foreign()
    }

    /// Reports a value that may be missing where it is required.
    pub(super) fn need(&mut self, known: Known<'s>, path: &Path) -> Known<'s> {
        let shape = &known.shape;
        if shape.foreign || !shape.may_be_nil() {
            return known;
        }
        let written = path.span.of(self.source);
        let event = self.event.name;
        if shape.listing == Listing::Dictionary {
            let message = format!("the schema of `{event}` does not require `{written}`");
            let hint = "give it a `default`, test it with `if`, or require it in the schema";
            self.report.add_once("unlisted_path", (&format!("{event} {written}"), path.span), message, hint);
        } else {
            let why = if shape.absent { "may be missing" } else { "may be null" };
            let why = if shape.is_nothing() { "is always missing" } else { why };
            let message =
                format!("`{written}` {why} in an event of type `{event}`, but the message requires it");
            let hint = "write `| default: \"…\"`, put it in an `if`, or make it required in the schema";
            self.report.add(Severity::Error, "optional_path", path.span, message, hint);
        }
        Known { shape: Shape::foreign(), ..known }
    }

    /// Reports a value that may be blank where a text is required.
    pub(super) fn check_filled(&mut self, text: Option<&Text>, path: &Path) {
        let Some(text) = text.filter(|text| text.blank) else { return };
        let (written, event) = (path.span.of(self.source), self.event.name);
        let what = if text.empty { "empty" } else { "only whitespace" };
        let message =
            format!("`{written}` may be {what} in an event of type `{event}`; such a message is held");
        let hint = "add `\"pattern\": \"\\\\S\"` to the schema, or test it with `if … != blank`";
        self.report.add_once("maybe_blank", (&format!("{event} {written}"), path.span), message, hint);
    }

    /// Reports a value of the event that OneSignal prints and that may be blank.
    pub(super) fn check_given(&mut self, known: &Known<'s>, expr: &Expr) {
        if let (Expr::Path(path), true, false) = (expr, known.given, known.shape.foreign) {
            self.check_filled(known.shape.text.as_ref(), path);
        }
    }

    /// The shape of an expression.
    pub(super) fn expr(&mut self, expr: &Expr) -> Known<'s> {
        match expr {
            Expr::Path(path) => self.path(path),
            Expr::Literal(literal) => Known::own(literal_shape(literal), self.fresh()),
        }
    }

    /// The shape of an expression that has to have a value.
    pub(super) fn needed(&mut self, expr: &Expr) -> Known<'s> {
        let known = self.expr(expr);
        match expr {
            Expr::Path(path) => self.need(known, path),
            Expr::Literal(_) => known,
        }
    }

    /// The shape of an expression after its filters.
    pub(super) fn filtered(&mut self, filtered: &Filtered) -> Known<'s> {
        // OneSignal needs each part of what it completes, even those that a later default would replace.
        let mixed = self.origins.filtered(filtered).provider;
        let computed = if mixed { self.origins.computed(filtered) } else { filtered.filters.len() };
        let mut known = self.expr(&filtered.expr);
        for (index, call) in filtered.filters.iter().enumerate() {
            let defaulted = has_default(&filtered.filters[index..]);
            if index == computed && !defaulted {
                self.check_given(&known, &filtered.expr);
            }
            if let (false, Expr::Path(path)) = (defaulted, &filtered.expr) {
                known = self.need(known, path);
            }
            let mut args = Vec::new();
            let later = has_default(&filtered.filters[index + 1..]);
            for arg in &call.args {
                let strict = call.filter != Filter::Default || (mixed && !later);
                args.push(if strict { self.needed(arg) } else { self.expr(arg) });
            }
            let filled = match call.filter {
                Filter::Default => !later,
                Filter::Pluralize => true,
                _ => later,
            };
            if filled && index >= computed {
                args.iter().zip(&call.args).for_each(|(arg, expr)| self.check_given(arg, expr));
            }
            known = self.call(call, known, &args, filtered.span);
        }
        known
    }

    /// Reports an expression of the wrong kind.
    pub(super) fn wrong_type(&mut self, surely: bool, span: Span, message: String, hint: &str) {
        let severity = if surely { Severity::Error } else { Severity::Warning };
        self.report.add(severity, "wrong_type", span, message, hint);
    }
}

/// Whether a `default` is among the filters.
pub(super) fn has_default(calls: &[Call]) -> bool {
    calls.iter().any(|call| call.filter == Filter::Default)
}

/// One step down; nothing if no event has anything so deep.
fn below(mut place: Place, segment: Option<&str>) -> Option<Place> {
    if place.len() >= LONGEST_PLACE {
        return None;
    }
    match segment {
        Some("first" | "last") => place.push(None),
        segment => place.push(segment.map(str::to_owned)),
    }
    Some(place)
}

/// What a literal is.
pub(super) fn literal_shape<'s>(literal: &Literal) -> Shape<'s> {
    use crate::templating::check::shape::Numbers;
    match literal {
        Literal::Nil => Shape::nil(),
        Literal::Bool(_) => Shape::boolean(),
        Literal::Int(int) => Shape::number(Numbers { whole: true, zero: *int == 0 }),
        Literal::Float(float) => Shape::number(Numbers { whole: false, zero: *float == 0.0 }),
        Literal::Text(text) => Shape::text(Text::of_values([text.clone()].into())),
        Literal::Blank | Literal::Empty => Shape::text(Text::of_values([String::new()].into())),
    }
}

/// The key that was probably meant.
fn near<'k>(name: &str, keys: &[&'k str]) -> Option<&'k str> {
    let within = |key: &&&str| strsim::damerau_levenshtein(name, key) <= 1 + key.len() / 4;
    let distance = |key: &&&str| strsim::damerau_levenshtein(name, key);
    keys.iter().filter(within).min_by_key(distance).copied()
}
