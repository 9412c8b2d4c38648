//! What filters return for their input, and whether they accept it.

use super::Flow;
use super::env::Known;
use crate::templating::check::shape::{Numbers, Shape};
use crate::templating::check::text::{Chance, Text};
use crate::templating::liquid::ast::{Call, Span};
use crate::templating::liquid::dates;
use crate::templating::liquid::filters::Filter;

impl<'s> Flow<'_, 's> {
    /// The result of a filter for `input`; reports input that it does not accept.
    pub(super) fn call(
        &mut self,
        call: &Call,
        input: Known<'s>,
        args: &[Known<'s>],
        span: Span,
    ) -> Known<'s> {
        let token = self.fresh();
        let sensitive = input.sensitive || args.iter().any(|arg| arg.sensitive);
        if call.filter == Filter::Default {
            let shape = kept(input.shape, input.given);
            let kept = Known { shape, given: false, ..input };
            let arg = args.first().cloned().unwrap_or_else(|| Known::own(Shape::nil(), ""));
            return kept.or(arg, token);
        }
        if call.filter == Filter::TrackLink {
            return input;
        }
        let structured = keeps_structure(call.filter);
        if !structured {
            self.check_whole(&input.places, span);
        }
        let shape =
            if input.shape.foreign { Shape::foreign() } else { self.result(call, &input.shape, args) };
        let places = match call.filter {
            Filter::First | Filter::Last => input
                .places
                .into_iter()
                .map(|mut place| {
                    place.push(None);
                    place
                })
                .collect(),
            Filter::Map | Filter::Size => Vec::new(),
            _ if structured => input.places,
            _ => Vec::new(),
        };
        let chosen = call.filter == Filter::Pluralize;
        let given = if chosen { args.iter().any(|arg| arg.given) } else { input.given };
        Known { shape, token, places, given, sensitive }
    }

    fn result(&mut self, call: &Call, input: &Shape<'s>, args: &[Known<'s>]) -> Shape<'s> {
        match call.filter {
            Filter::Abs
            | Filter::AtLeast
            | Filter::AtMost
            | Filter::Ceil
            | Filter::DividedBy
            | Filter::Floor
            | Filter::Minus
            | Filter::Modulo
            | Filter::Plus
            | Filter::Round
            | Filter::Times => self.calculated(call, input, args),
            Filter::Pluralize => {
                self.check_number(call, input);
                args.iter().map(|arg| arg.shape.clone()).fold(Shape::none(), Shape::or)
            }
            Filter::Date => self.dated(call, input, args),
            Filter::Compact
            | Filter::First
            | Filter::Join
            | Filter::Last
            | Filter::Map
            | Filter::Sort
            | Filter::Uniq
            | Filter::Where => self.listed(call, input, args),
            Filter::Size => {
                if input.is_nothing() || (!input.may_be_compound() && input.text.is_none()) {
                    self.cannot(call, input, true, "it counts characters, elements or members");
                }
                Shape::count()
            }
            Filter::Reverse | Filter::Slice if input.may_be_compound() => {
                let text = input.text.is_some().then(Text::any);
                let shape = self.listed(call, input, args);
                Shape { text, ..shape }
            }
            _ => self.texted(call, input, args),
        }
    }

    fn cannot(&mut self, call: &Call, input: &Shape<'s>, surely: bool, hint: &str) {
        let name = call.filter.name();
        let message = format!("`{name}` does not accept {}", input.kinds());
        self.wrong_type(surely, call.span, message, hint);
    }

    /// Reports what is not a number; a `default` after the filter comes too late for a missing value.
    fn check_number(&mut self, call: &Call, input: &Shape<'s>) {
        let hint = "it needs a number: change the type in the schema";
        match input.numeric() {
            _ if input.foreign => {}
            _ if input.may_be_nil() => {
                let name = call.filter.name();
                let message = format!("the argument of `{name}` may be missing");
                self.wrong_type(input.is_nothing(), call.span, message, "put the `default` before it");
            }
            Chance::Always => {}
            chance => self.cannot(call, input, chance == Chance::Never, hint),
        }
    }

    fn calculated(&mut self, call: &Call, input: &Shape<'s>, args: &[Known<'s>]) -> Shape<'s> {
        self.check_number(call, input);
        for arg in args {
            self.check_number(call, &arg.shape);
        }
        if let (Filter::DividedBy | Filter::Modulo, Some(arg)) = (call.filter, args.first())
            && !arg.shape.foreign
            && arg.shape.number.is_none_or(|numbers| numbers.zero)
        {
            let message = format!("`{}` may divide by zero here", call.filter.name());
            self.wrong_type(false, call.span, message, "add `\"exclusiveMinimum\": 0` to the schema");
        }
        let whole = matches!(call.filter, Filter::Ceil | Filter::Floor)
            || (call.filter == Filter::Round && args.is_empty());
        let each = input.number.is_some_and(|numbers| numbers.whole)
            && args.iter().all(|arg| arg.shape.number.is_some_and(|numbers| numbers.whole));
        Shape::number(Numbers { whole: whole || (each && input.text.is_none()), zero: true })
    }

    fn dated(&mut self, call: &Call, input: &Shape<'s>, args: &[Known<'s>]) -> Shape<'s> {
        let mut chances = Vec::new();
        if let Some(numbers) = input.number {
            chances.push(if numbers.whole { Chance::Always } else { Chance::Maybe });
        }
        chances.extend(input.text.as_ref().map(|text| text.date));
        if input.boolean || input.may_be_compound() {
            chances.push(Chance::Never);
        }
        if chances.iter().any(|chance| *chance != Chance::Always) {
            let surely = chances.iter().all(|chance| *chance == Chance::Never);
            let hint = "a date is a string with `\"format\": \"date\"` or `\"date-time\"` in the schema, or an integer of seconds since 1970";
            self.cannot(call, input, surely, hint);
        }
        let pattern =
            args.first().and_then(|arg| arg.shape.text.as_ref()).and_then(|text| text.values.as_ref());
        let written = |pattern: &String| {
            let moment = dates::from_epoch(1_700_000_000);
            moment.is_some_and(|moment| !dates::format(&moment, pattern).trim().is_empty())
        };
        let filled = pattern.is_some_and(|patterns| patterns.iter().all(written));
        Shape { null: input.may_be_nil(), ..Shape::text(Text::made(!filled)) }
    }

    fn listed(&mut self, call: &Call, input: &Shape<'s>, args: &[Known<'s>]) -> Shape<'s> {
        if input.lists.is_empty() && !input.is_nothing() {
            self.cannot(call, input, true, "it works on lists");
            return Shape::foreign();
        }
        let element = input.elements();
        let min = if input.may_be_nil() || input.may_be_plain() { 0 } else { input.min() };
        let text = |known: Option<&Known<'s>>| {
            known
                .and_then(|known| known.shape.text.as_ref()?.values.clone())
                .and_then(|mut values| values.pop_first())
        };
        match call.filter {
            Filter::First | Filter::Last => {
                let found = if call.filter == Filter::First { input.at(0) } else { input.at(-1) };
                Shape { null: found.may_be_nil(), absent: false, ..found }
            }
            Filter::Join => Shape::text(Text::made(min == 0 || element.may_be_blank())),
            Filter::Map => {
                let member = text(args.first()).map_or_else(Shape::foreign, |key| element.member(&key));
                let member = Shape { null: member.may_be_nil(), absent: false, ..member };
                Shape::list(min, Vec::new(), member)
            }
            Filter::Compact => {
                let min = if element.may_be_nil() { 0 } else { min };
                Shape::list(min, Vec::new(), element.given())
            }
            Filter::Uniq => Shape::list(min.min(1), Vec::new(), element),
            Filter::Where | Filter::Slice => Shape::list(0, Vec::new(), element),
            _ => Shape::list(min, Vec::new(), element),
        }
    }

    fn texted(&mut self, call: &Call, input: &Shape<'s>, args: &[Known<'s>]) -> Shape<'s> {
        if input.may_be_compound() && call.filter != Filter::Json {
            self.cannot(call, input, !input.may_be_plain(), "it works on text");
        }
        let blank = input.may_be_blank();
        let arg_blank =
            |index: usize| args.get(index).is_none_or(|arg| arg.shape.foreign || arg.shape.may_be_blank());
        if matches!(call.filter, Filter::Slice | Filter::Truncate | Filter::Truncatewords) {
            let counts = if call.filter == Filter::Slice { args } else { args.get(..1).unwrap_or_default() };
            for count in counts {
                self.check_number(call, &count.shape);
            }
        }
        let blank = match call.filter {
            Filter::Split => {
                return Shape::list(0, Vec::new(), Shape::text(Text::any()));
            }
            Filter::Append | Filter::Prepend => blank && arg_blank(0),
            Filter::Replace | Filter::ReplaceFirst => blank || arg_blank(1),
            Filter::Truncate => blank || (args.len() > 1 && arg_blank(1)),
            Filter::Json => false,
            Filter::Remove | Filter::RemoveFirst | Filter::Slice | Filter::StripHtml | Filter::UrlDecode => {
                true
            }
            _ => blank,
        };
        // Trimming makes an empty text of a blank one.
        Shape::text(Text::made(blank))
    }
}

/// What `default` leaves of its input; of what the event brought, nothing blank.
fn kept(shape: Shape<'_>, given: bool) -> Shape<'_> {
    let shape = shape.given();
    let text = shape
        .text
        .map(if given { Text::filled } else { Text::not_empty })
        .filter(|text| text.values.as_ref().is_none_or(|values| !values.is_empty()));
    // An empty list gives way, too; one with elements stays.
    Shape { text, ..shape }.not_empty()
}

fn keeps_structure(filter: Filter) -> bool {
    matches!(
        filter,
        Filter::Where
            | Filter::Sort
            | Filter::Compact
            | Filter::Reverse
            | Filter::Slice
            | Filter::Uniq
            | Filter::First
            | Filter::Last
            | Filter::Map
            | Filter::Size
    )
}
