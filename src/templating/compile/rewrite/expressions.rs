//! Expressions that OneSignal completes.

use super::{Rewriter, push};
use crate::templating::compile::checks::check_filters;
use crate::templating::compile::escape::Place;
use crate::templating::compile::plan::{Need, Op};
use crate::templating::compile::usage;
use crate::templating::liquid::ast::{Call, Expr, Filtered, Path, Step};
use crate::templating::liquid::filters::Filter;

impl Rewriter<'_> {
    /// An expression with filters, for OneSignal to run; as much of it as Herald can compute is a slot.
    pub(in crate::templating::compile) fn filtered(
        &mut self,
        filtered: &Filtered,
        place: Place,
        ops: &mut Vec<Op>,
    ) -> String {
        let done = self.origins.computed(filtered);
        let (computed, rest) = filtered.filters.split_at(done);
        let need = if defaulted(rest) { Need::Replaceable } else { Need::Filled };
        let mut text = if done == 0 {
            self.expr(&filtered.expr, place, need, ops)
        } else {
            let part =
                Filtered { expr: filtered.expr.clone(), filters: computed.to_vec(), span: filtered.span };
            self.value_slot(part, place, need, ops)
        };
        check_filters(filtered, done, &mut self.problems);
        self.check_encoded(filtered, done, place);
        for (at, call) in rest.iter().enumerate() {
            push(&mut text, &[" | ", call.filter.name()]);
            // What is put beside something is printed alone where that comes to nothing; OneSignal's `default` takes only
            // what has no character for nothing.
            let need = match (call.filter, defaulted(&rest[at + 1..])) {
                (Filter::Default, true) => Need::Replaceable,
                (Filter::Default | Filter::Pluralize, _) | (_, true) => Need::Filled,
                (_, false) => Need::There,
            };
            for (index, arg) in call.args.iter().enumerate() {
                let place = match call.filter {
                    Filter::Default => place,
                    // The name of a member, not a text.
                    Filter::Where if index == 0 => Place::Raw,
                    _ => inner(place),
                };
                let arg = self.expr(arg, place, need, ops);
                push(&mut text, &[if index == 0 { ": " } else { ", " }, &arg]);
            }
            if call.allow_false {
                text.push_str(", allow_false: true");
            }
        }
        text
    }

    /// Reports filters that OneSignal would apply to an encoded value: filters that cut or search a text then see
    /// `&amp;`.
    fn check_encoded(&mut self, filtered: &Filtered, done: usize, place: Place) {
        let is_link = match place {
            Place::Markup | Place::Attribute => false,
            Place::LinkStart | Place::LinkPart | Place::AttributeLinkStart | Place::AttributeLinkPart => true,
            Place::Raw | Place::Text | Place::Line | Place::Style | Place::Refused(_) => return,
        };
        let mut is_encoded = self.origins.expr(&filtered.expr).event;
        for call in filtered.filters.iter().skip(done) {
            if is_encoded && changes_encoded(call.filter, is_link) {
                let name = call.filter.name();
                let message = format!("OneSignal would run `{name}` on a value that is already encoded");
                let hint = "apply it to values of `data` only, before values of OneSignal are added";
                self.problems.add("encoded_text", call.span, message, Some(hint));
            }
            is_encoded |= call.args.iter().any(|arg| self.origins.expr(arg).event);
        }
    }

    /// An expression without filters, for OneSignal to run.
    pub(super) fn expr(&mut self, expr: &Expr, place: Place, need: Need, ops: &mut Vec<Op>) -> String {
        match expr {
            Expr::Literal(literal) => usage::print_literal(literal),
            Expr::Path(path) => self.path(path, place, need, ops),
        }
    }

    fn path(&mut self, path: &Path, place: Place, need: Need, ops: &mut Vec<Op>) -> String {
        let mut text = path.root.clone();
        let mut steps = path.steps.as_slice();
        if !self.origins.root(&path.root).provider {
            let ours = steps.iter().take_while(|step| !self.origins.step(step).provider).count();
            let part = Path { root: path.root.clone(), steps: steps[..ours].to_vec(), span: path.span };
            let part = Filtered { expr: Expr::Path(part), filters: Vec::new(), span: path.span };
            text = self.value_slot(part, place, need, ops);
            steps = &steps[ours..];
        }
        for step in steps {
            match step {
                Step::Key(key) if usage::is_name(key) => push(&mut text, &[".", key]),
                Step::Key(key) => push(&mut text, &["[", &usage::quote(key), "]"]),
                Step::Index(index) => push(&mut text, &["[", &index.to_string(), "]"]),
                Step::Dynamic(inner) => {
                    let inner = self.path(inner, Place::Raw, Need::There, ops);
                    push(&mut text, &["[", &inner, "]"]);
                }
            }
        }
        text
    }

    fn value_slot(&mut self, value: Filtered, place: Place, need: Need, ops: &mut Vec<Op>) -> String {
        let used = self.reads.of(&value, &self.origins, self.budget);
        let key = self.slot(None);
        let path = self.slot_path(&key);
        ops.push(Op::Value { key, value, place, need, used });
        path
    }
}

/// Whether a filter makes something else of an encoded text than of the text itself.
fn changes_encoded(filter: Filter, is_link: bool) -> bool {
    match filter {
        Filter::Truncate | Filter::Replace | Filter::ReplaceFirst | Filter::StripHtml => true,
        Filter::Truncatewords | Filter::Date | Filter::Strip | Filter::Lstrip | Filter::Rstrip => is_link,
        _ => false,
    }
}

fn defaulted(calls: &[Call]) -> bool {
    calls.iter().any(|call| call.filter == Filter::Default)
}

/// The context of what is inserted into a text in the context `place`: it no longer begins a link.
fn inner(place: Place) -> Place {
    match place {
        Place::LinkStart => Place::LinkPart,
        Place::AttributeLinkStart => Place::AttributeLinkPart,
        other => other,
    }
}
