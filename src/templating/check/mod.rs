//! Static checks of copy: each finding has a code, a position and a suggestion.
//!
//! An error means that some event which the schema allows leads to a held message, or that OneSignal would reject or
//! corrupt it. A warning is worth a look. Copy without findings about its paths renders for every event that the schema
//! allows.

mod dialect;
mod encoding;
mod flow;
mod length_meters;
mod links;
mod locales;
mod options;
mod payload;
mod schema;
mod sensitive;
mod shape;
mod size;
mod text;

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::budget::{Budget, Limits, Spent};
use crate::domain::channel::Channel;
use crate::domain::template::{FieldSpec, Fields, fields_of};
use crate::templating::compile::{CompiledContent, Problem, compile, unknown_name};
use crate::templating::liquid::Template;

pub use dialect::is_front_matter;
pub use length_meters::{Meter, Unit, meters};

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It has to be fixed first.
    Error,
    /// Worth a look.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// A stable code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The locale, unless it concerns all of them.
    pub locale: Option<String>,
    /// The field, by Herald's name, or the option.
    pub field: Option<String>,
    /// The line in the field, from 1.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Finding {
    fn new(code: &'static str, severity: Severity, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, severity, locale: None, field: None, line: None, column: None, message, hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn in_locale(mut self, locale: &str) -> Self {
        self.locale = Some(locale.to_owned());
        self
    }

    /// At the start of a field, or wherever in it.
    fn in_field(mut self, field: &str, (line, column): (usize, usize)) -> Self {
        (self.field, self.line, self.column) = (Some(field.to_owned()), Some(line), Some(column));
        self
    }

    fn order(&self) -> impl Ord + '_ {
        (&self.locale, &self.field, self.line, self.column, self.severity, self.code, &self.message)
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        let Problem { code, field, line, column, message, hint } = problem;
        Self { hint, ..Self::new(code, Severity::Error, message).in_field(&field, (line, column)) }
    }
}

/// What is checked: a draft or a version.
#[derive(Debug, Clone)]
pub struct Copy<'a> {
    /// Where its messages appear.
    pub channel: Channel,
    /// Whether Herald renders it, so that nothing is sent in `custom_data`.
    pub is_inline: bool,
    /// The end of the fallback chain.
    pub default_locale: &'a str,
    /// The fields by locale.
    pub contents: &'a BTreeMap<String, Fields>,
    /// OneSignal's options.
    pub options: &'a Map<String, Value>,
}

/// An event type that the copy is written for.
#[derive(Debug, Clone)]
pub struct EventShape<'a> {
    /// Its name.
    pub name: &'a str,
    /// The JSON Schema of `data`.
    pub schema: &'a Value,
    /// JSON pointers into `data` to sensitive values.
    pub sensitive: &'a [String],
    /// Samples of `data` by name.
    pub samples: &'a Map<String, Value>,
    /// Statistics of real events, if there were any.
    pub observed: Option<Observed>,
}

/// Statistics of real events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// How many were evaluated.
    pub events: usize,
    /// The 99th percentile of the bytes of `custom_data`.
    pub p99_bytes: usize,
}

/// Everything that can be said of the copy, for each event type that leads to it, in the order of locales, fields and
/// places. Without event types only what holds for any of them is said. `too_complex` says that the budget was spent
/// before all was looked at.
pub fn check(copy: &Copy<'_>, events: &[EventShape<'_>], budget: &Budget) -> Vec<Finding> {
    let mut found = locales::check(copy);
    found.extend(options::check(copy.channel, copy.options));
    for (locale, fields) in copy.contents {
        found.extend(
            check_locale(copy, fields, events, budget).into_iter().map(|finding| finding.in_locale(locale)),
        );
    }
    found.sort_by(|a, b| a.order().cmp(&b.order()));
    found.dedup();
    found
}

fn too_complex(spent: Spent) -> Finding {
    let message = format!("this copy is too complex to check: {spent}");
    let hint = "use fewer variables, branches and loops, or shorter texts";
    Finding::new("too_complex", Severity::Error, message).hint(hint)
}

fn check_locale(
    copy: &Copy<'_>,
    fields: &Fields,
    events: &[EventShape<'_>],
    budget: &Budget,
) -> Vec<Finding> {
    let compiled = compile(copy.channel, fields, budget);
    let mut found = Vec::new();
    let budget = &budget.part(Limits::COPY);
    let parsed = parsed(copy.channel, fields, budget);
    found.extend(payload::check(copy.channel, &parsed, events, budget));
    for (spec, template) in parsed {
        found.extend(links::check(copy.channel, spec, &template));
        let is_kept = compiled.as_ref().is_ok_and(|content| content.is_kept(spec.name));
        found.extend(dialect::check(spec, &template, is_kept));
        if compiled.as_ref().is_ok_and(|content| content.is_conditional(spec.name)) {
            let message =
                format!("`{}` is blank where no condition in it holds; the delivery is held then", spec.name);
            let finding = Finding::new("maybe_blank", Severity::Warning, message);
            found.push(
                finding.hint("add text outside of the conditions, or an `else`").in_field(spec.name, (1, 1)),
            );
        }
        found.extend(encoding::check(spec, &template));
        found.extend(length_meters::check(copy.channel, spec.name, &template, events, budget));
        for event in events {
            let Some(followed) = flow::follow(copy.channel, spec.name, &template, event, budget) else {
                continue;
            };
            found.extend(followed.found);
            if let Ok(content) = &compiled {
                let named = (copy.channel, spec.name);
                found.extend(sensitive::check(named, content, &template, event, budget));
            }
        }
    }
    match compiled {
        Ok(content) if !copy.is_inline => found.extend(check_sizes(copy.channel, &content, events, budget)),
        Ok(_) => {}
        Err(problems) => {
            found.extend(problems.into_iter().map(|problem| with_member_hint(problem.into(), events)));
        }
    }
    found.extend(budget.spent().map(too_complex));
    found
}

/// Suggests `data.x` for an unknown `x` where an event type has such a member.
fn with_member_hint(finding: Finding, events: &[EventShape<'_>]) -> Finding {
    let members = events.iter().filter_map(|event| event.schema.get("properties")?.as_object());
    let mut names = members.flat_map(|members| members.keys());
    match names.find(|name| finding.code == "unknown_name" && finding.message == unknown_name(name)) {
        Some(name) => finding.hint(format!("write `data.{name}`")),
        None => finding,
    }
}

/// The fields that parse.
fn parsed(channel: Channel, fields: &Fields, budget: &Budget) -> Vec<(&'static FieldSpec, Template)> {
    let source =
        |spec: &'static FieldSpec| Some((spec, fields.get(spec.name).filter(|text| !text.is_empty())?));
    let read = |(spec, source): (_, &String)| Some((spec, Template::parse(source, budget).ok()?));
    fields_of(channel).iter().filter_map(source).filter_map(read).collect()
}

fn check_sizes(
    channel: Channel,
    content: &CompiledContent,
    events: &[EventShape<'_>],
    budget: &Budget,
) -> Vec<Finding> {
    if !content.needs_values() {
        return Vec::new();
    }
    events.iter().filter_map(|event| size::check(channel, content, event, budget)).collect()
}
