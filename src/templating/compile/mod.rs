//! The compiler: from what an author writes to what OneSignal runs and what Herald computes for each event.

mod blanks;
mod checks;
mod contexts;
pub(in crate::templating) mod dataflow;
mod escape;
mod languages;
mod plan;
mod problems;
mod rewrite;
mod slots;
mod usage;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod readings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::domain::budget::{Budget, Limits, Spent};
use crate::domain::channel::Channel;
use crate::domain::template::{FieldKind, FieldSpec, Fields, fields_of};
use crate::domain::visible::is_blank;
use crate::templating::liquid::ast::Span;
use crate::templating::liquid::render::{Escape, Evaluator, Manner};
use crate::templating::liquid::{PathUse, RenderError, Template, excess};
use crate::templating::mjml;

pub use checks::unknown_name;
use dataflow::{Origins, PROVIDER_NAMES};
use escape::{Places, literal};
pub use languages::compile_content;
use plan::Op;
pub use problems::Problem;
use problems::Problems;
use rewrite::Rewriter;
use slots::Slots;

/// How each compiled field that needs event values begins; it fits both shapes of `custom_data`.
pub const LOOKUP: &str = "{% assign herald = message.custom_data.users[subscription.external_id] | default: message.custom_data.all %}";

/// One reading of a path, with the field that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    /// The field, by Herald's name.
    pub field: String,
    /// What is read, where and how.
    pub read: PathUse,
}

/// Why there are no values, or no text, for an event. No variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The event lacks something that the template needs, or has it empty. A later event may have it.
    #[error("`{path}`, which the field `{field}` needs, is missing or empty")]
    Missing {
        /// The path from the event down, such as `data.items[].name`.
        path: String,
        /// The field, by Herald's name.
        field: String,
    },
    /// Each value is there, and the field still comes out blank, which no message can do without.
    #[error("the field `{field}` is blank with this event")]
    Blank {
        /// The field, by Herald's name.
        field: String,
    },
    /// A value is not allowed where it is used, or has the wrong type.
    #[error("a value can't be used in the field `{field}`: {detail}")]
    Unsafe {
        /// The field, by Herald's name.
        field: String,
        /// Plain words.
        detail: String,
    },
    /// The template exceeds a limit with this event.
    #[error("the field `{field}` {detail}")]
    Limit {
        /// The field, by Herald's name.
        field: String,
        /// Plain words.
        detail: String,
    },
}

/// One locale of one version, compiled.
#[derive(Debug, Clone)]
pub struct CompiledContent {
    fields: Vec<CompiledField>,
    template_fields: BTreeMap<String, String>,
    call_fields: BTreeMap<String, String>,
    paths: Vec<FieldPath>,
    reads_provider: bool,
    /// The languages that OneSignal chooses from, if it does.
    languages: BTreeMap<String, CompiledContent>,
}

#[derive(Debug, Clone)]
struct CompiledField {
    name: String,
    template: Template,
    places: Places,
    ops: Vec<Op>,
    /// Whether the field goes out as its author wrote it.
    kept: bool,
    reads_provider: bool,
    /// Whether it is needed and may come out blank with some event.
    may_be_blank: bool,
}

/// A value that OneSignal is sent as it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::templating) struct Whole<'c> {
    /// The field, by Herald's name.
    pub field: &'c str,
    /// The path that it is the beginning of.
    pub span: Span,
    /// How many steps of the path lead to it.
    pub steps: usize,
    /// The members of elements that are kept; all if that isn't known.
    pub members: Option<&'c BTreeSet<String>>,
}

/// Compiles one locale of one version. Fields that are empty are left out.
///
/// # Errors
/// Every [`Problem`] of every field, in the channel's order of fields; the author has to repair them. `too_complex` says
/// that the budget was spent before all was read.
pub fn compile(channel: Channel, fields: &Fields, budget: &Budget) -> Result<CompiledContent, Vec<Problem>> {
    let budget = &budget.part(Limits::COPY);
    let mut content = CompiledContent {
        fields: Vec::new(),
        template_fields: BTreeMap::new(),
        call_fields: BTreeMap::new(),
        paths: Vec::new(),
        reads_provider: false,
        languages: BTreeMap::new(),
    };
    let mut found = unknown_fields(channel, fields);
    let mut slots = Slots::default();
    for spec in fields_of(channel) {
        let Some(source) = fields.get(spec.name).filter(|source| !source.is_empty()) else { continue };
        match Template::parse(source, budget) {
            Ok(template) if spec.kind == FieldKind::Html && mjml::is_mjml(&template) => {
                found.extend(content.add_mjml(channel, spec, &template, (&mut slots, budget)));
            }
            Ok(template) => found.extend(content.add(channel, spec, &template, (&mut slots, budget))),
            Err(error) => found.push(Problem::from_syntax(spec.name, error)),
        }
    }
    found.extend(budget.spent().map(too_complex));
    if found.is_empty() { Ok(content) } else { Err(found) }
}

/// The problem of copy that takes more to compile than copy may.
fn too_complex(spent: Spent) -> Problem {
    Problem {
        code: "too_complex",
        field: String::new(),
        line: 1,
        column: 1,
        message: format!("this copy is too complex to compile: {spent}"),
        hint: Some("use fewer variables, branches and loops, or shorter texts".to_owned()),
    }
}

fn unknown_fields(channel: Channel, fields: &Fields) -> Vec<Problem> {
    let known = fields_of(channel);
    let unknown = fields.keys().filter(|name| known.iter().all(|spec| spec.name != name.as_str()));
    let names: Vec<&str> = known.iter().map(|spec| spec.name).collect();
    unknown
        .map(|name| Problem {
            code: "unknown_field",
            field: name.clone(),
            line: 1,
            column: 1,
            message: format!("{channel} messages have no field `{name}`"),
            hint: Some(format!("known fields: {}", names.join(", "))),
        })
        .collect()
}

impl CompiledContent {
    /// Compiles a field that is MJML; its problems have positions in the MJML.
    fn add_mjml(
        &mut self,
        channel: Channel,
        spec: &FieldSpec,
        template: &Template,
        (slots, budget): (&mut Slots, &Budget),
    ) -> Vec<Problem> {
        let converted = match mjml::convert(template, budget) {
            Ok(converted) => converted,
            Err(problem) => return vec![problem],
        };
        let mut found = match Template::parse(&converted.html, budget) {
            Ok(html) => self.add(channel, spec, &html, (slots, budget)),
            Err(error) => vec![Problem::from_syntax(spec.name, error)],
        };
        for problem in &mut found {
            let place = (problem.line, problem.column);
            (problem.line, problem.column) = converted.origin(template.source(), place);
        }
        found
    }

    /// Compiles one more field; returns what is wrong with it.
    fn add(
        &mut self,
        channel: Channel,
        spec: &FieldSpec,
        template: &Template,
        (slots, budget): (&mut Slots, &Budget),
    ) -> Vec<Problem> {
        let (source, nodes) = (template.source(), template.nodes());
        let mut problems = Problems::new(spec.name, source);
        let Some(mut origins) = Origins::of(nodes, budget) else {
            let (start, message) = (Span { start: 0, end: 0 }, "too many variables depend on each other");
            problems.add("too_entangled", start, message, None);
            return problems.found;
        };
        checks::check_names(nodes, &mut origins, &mut problems);
        let uses = template.paths(budget);
        let reads = usage::Reads::of_field(nodes, uses.clone());
        let reads_event = reads.begins_with("data");
        let reads_provider = PROVIDER_NAMES.iter().any(|name| reads.begins_with(name));
        self.reads_provider |= reads_provider;
        if reads_event && spec.kind == FieldKind::Fixed {
            let first =
                uses.iter().find(|found| is_under(&found.path, "data")).map_or(0, |found| found.offset);
            let message = format!("`{}` is the same for every event", spec.name);
            problems.add("fixed_field", Span { start: first, end: first }, message, Some("write plain text"));
        }
        let places = contexts::places(source, nodes, spec.kind, budget);
        self.paths.extend(uses.into_iter().map(|read| FieldPath { field: spec.name.to_owned(), read }));
        let (mut text, mut ops) = (source.to_owned(), Vec::new());
        let is_rewritten = reads_event || checks::has_computed_constant(nodes, &origins);
        if is_rewritten {
            let taken = std::mem::take(slots);
            let mut rewriter = Rewriter::new(
                source,
                (spec.kind, channel),
                origins,
                &places,
                problems,
                reads,
                (taken, budget),
            );
            let mut body = String::new();
            rewriter.block(nodes, &mut body, &mut ops);
            text = if rewriter.uses_entry { format!("{LOOKUP}{body}") } else { body };
            (*slots, problems) = rewriter.finish();
        } else {
            checks::check_runnable(nodes, channel, &mut problems);
        }
        let found = problems.found;
        let target = if spec.in_template { &mut self.template_fields } else { &mut self.call_fields };
        target.insert(spec.name.to_owned(), text);
        let kept = !is_rewritten;
        let may_be_blank =
            spec.required && !reads_provider && !blanks::always_show(source, nodes, blanks::is_plain_path);
        self.fields.push(CompiledField {
            reads_provider,
            may_be_blank,
            name: spec.name.to_owned(),
            template: template.clone(),
            places,
            ops,
            kept,
        });
        found
    }

    /// What is uploaded as a template, as OneSignal's Liquid, by Herald's names.
    pub fn template_fields(&self) -> &BTreeMap<String, String> {
        &self.template_fields
    }

    /// Whether OneSignal is given a field as its author wrote it.
    pub(in crate::templating) fn is_kept(&self, field: &str) -> bool {
        self.fields.iter().any(|known| known.name == field && known.kept)
    }

    /// The maximum size of the texts with values of `bytes` bytes: each output may print all of them.
    pub fn max_bytes(&self, bytes: usize) -> usize {
        let texts = self.template_fields.values().chain(self.call_fields.values());
        texts.map(|text| text.len() + text.matches("{{ herald.").count() * bytes).sum()
    }

    /// What travels with each call, as OneSignal's Liquid, by Herald's names.
    pub fn call_fields(&self) -> &BTreeMap<String, String> {
        &self.call_fields
    }

    /// Whether events carry values; if not, there is no `custom_data` at all.
    pub fn needs_values(&self) -> bool {
        if !self.languages.is_empty() {
            return self.languages.values().any(Self::needs_values);
        }
        self.template_fields.values().chain(self.call_fields.values()).any(|text| text.starts_with(LOOKUP))
    }

    /// Whether a field reads what only OneSignal knows, so that Herald can't render it.
    pub fn reads_provider(&self) -> bool {
        self.reads_provider
    }

    /// Every reading of a path in every field.
    pub fn paths(&self) -> &[FieldPath] {
        &self.paths
    }

    /// Whether a field that no message can do without consists of nothing but parts that depend on conditions.
    pub(in crate::templating) fn is_conditional(&self, field: &str) -> bool {
        let is_it = |known: &&CompiledField| known.name == field && known.may_be_blank;
        self.fields.iter().find(is_it).is_some_and(|field| {
            !blanks::always_show(field.template.source(), field.template.nodes(), |_| true)
        })
    }

    /// A field as it was compiled: of MJML, the HTML.
    pub(in crate::templating) fn template(&self, field: &str) -> Option<&Template> {
        self.fields.iter().find(|known| known.name == field).map(|known| &known.template)
    }

    /// The values that travel as they are, so that a list or an object travels with what is in it.
    pub(in crate::templating) fn wholes(&self) -> Vec<Whole<'_>> {
        self.fields
            .iter()
            .flat_map(|field| {
                let made = |(span, steps, members)| Whole { field: &field.name, span, steps, members };
                plan::wholes(&field.ops).into_iter().map(made)
            })
            .collect()
    }

    /// The entry of one event in `custom_data`: what the compiled fields look at, and nothing else.
    ///
    /// # Errors
    /// [`ValueError`]; with the same event and template it stays the same, but for a deadline in `budget`.
    pub fn values(&self, data: &Value, budget: &Budget) -> Result<Map<String, Value>, ValueError> {
        if !self.languages.is_empty() {
            return self.values_by_language(data, budget);
        }
        let mut entry = Map::new();
        let globals = [("data", data)];
        for field in self.fields.iter().filter(|field| !field.ops.is_empty() || field.may_be_blank) {
            let mut evaluator = field.evaluator(&globals, budget);
            plan::run(&mut evaluator, &field.ops, &mut entry)
                .map_err(|error| self.value_error(field, error))?;
            if field.may_be_blank {
                let text = field.evaluator(&globals, budget).render(field.template.nodes());
                field.check_blank(&text.map_err(|error| self.value_error(field, error))?)?;
            }
        }
        Ok(entry)
    }

    /// All fields, rendered for one event, by Herald's names. OneSignal runs Liquid over what it is sent, so what
    /// looks like Liquid in the result is written to be printed as it is.
    ///
    /// # Errors
    /// [`ValueError`] as [`Self::values`]; [`ValueError::Unsafe`] if a field reads what only OneSignal knows.
    pub fn render_inline(
        &self,
        data: &Value,
        budget: &Budget,
    ) -> Result<BTreeMap<String, String>, ValueError> {
        let globals = [("data", data)];
        let render = |field: &CompiledField| {
            if field.reads_provider {
                let detail = "it reads what only OneSignal knows".to_owned();
                return Err(ValueError::Unsafe { field: field.name.clone(), detail });
            }
            let mut evaluator = field.evaluator(&globals, budget);
            let text = evaluator.render(field.template.nodes());
            let text = text.map_err(|error| self.value_error(field, error))?;
            field.check_blank(&text)?;
            Ok((field.name.clone(), literal(&text)))
        };
        self.fields.iter().map(render).collect()
    }

    fn value_error(&self, field: &CompiledField, error: RenderError) -> ValueError {
        let name = field.name.clone();
        match error {
            RenderError::Missing { path, line, column } => {
                let full =
                    self.paths.iter().map(|found| (&found.field, &found.read)).find(|(field, read)| {
                        **field == name
                            && (read.line, read.column) == (line, column)
                            && is_under(&read.path, "data")
                    });
                // A path with `[]` is complete already.
                let full = full.map(|(_, read)| read.path.clone()).filter(|_| !path.contains("[]"));
                let path = full.unwrap_or(path);
                ValueError::Missing { path, field: name }
            }
            RenderError::TooMuch { what: "output", line, column } => {
                let bytes = Limits::RENDERING.length;
                let detail = format!("grows beyond {bytes} bytes (line {line}, column {column})");
                ValueError::Limit { field: name, detail }
            }
            RenderError::TooMuch { what, line, column } => {
                let detail = format!("{} (line {line}, column {column})", excess(what));
                ValueError::Limit { field: name, detail }
            }
            error @ RenderError::Unusable { .. } => {
                ValueError::Unsafe { field: name, detail: error.to_string() }
            }
        }
    }
}

impl CompiledField {
    fn evaluator<'a>(&'a self, globals: &'a [(&'a str, &'a Value)], budget: &Budget) -> Evaluator<'a> {
        let escape: Option<&dyn Escape> = if self.kept { None } else { Some(&self.places) };
        let manner = Manner { strict: true, refuse_blank: true, escape };
        Evaluator::new(self.template.source(), globals, manner, budget)
    }

    fn check_blank(&self, text: &str) -> Result<(), ValueError> {
        if self.may_be_blank && is_blank(text) {
            return Err(ValueError::Blank { field: self.name.clone() });
        }
        Ok(())
    }
}

fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
