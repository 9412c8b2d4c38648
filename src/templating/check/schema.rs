//! Reads JSON Schema: which schemas hold together for a value, and for what is in it.
//!
//! Whatever isn't understood is taken as no constraint, so that more is thought possible than is, never less.

use serde_json::{Map, Value};

use super::shape::{Items, List, Listing, Numbers, Shape};
use super::text::{Text, count};

/// The maximum number of alternatives that are distinguished; above that, nothing is known.
const MAX_ALTERNATIVES: usize = 64;
/// How many schemas are read for one value; beyond, nothing is taken as known.
const MAX_SCHEMAS: usize = 500;
/// How far references and combinations are followed without a step into the value.
const MAX_LEVELS: usize = 32;

/// Schemas that all hold for one value. Their references and combinations are resolved already.
#[derive(Debug, Clone, PartialEq)]
pub struct Conj<'s> {
    root: &'s Value,
    parts: Vec<&'s Map<String, Value>>,
}

/// The schema of `data`: an object, since Herald accepts nothing else.
pub fn data_of(schema: &Value) -> Shape<'_> {
    let mut shape = describe_all(&expand(schema, schema));
    shape.listing = Listing::Listed;
    Shape { null: false, boolean: false, number: None, text: None, lists: Vec::new(), ..shape }
}

/// The alternatives that a schema allows, each as schemas that hold together.
fn expand<'s>(root: &'s Value, schema: &'s Value) -> Vec<Conj<'s>> {
    expand_within(root, schema, MAX_LEVELS, &mut MAX_SCHEMAS.clone())
}

fn expand_within<'s>(root: &'s Value, schema: &'s Value, levels: usize, left: &mut usize) -> Vec<Conj<'s>> {
    let unknown = || vec![Conj { root, parts: Vec::new() }];
    let object = match schema {
        Value::Bool(false) => return Vec::new(),
        Value::Object(object) => object,
        _ => return unknown(),
    };
    *left = left.saturating_sub(1);
    if levels == 0 || *left == 0 {
        return unknown();
    }
    let mut expand = |schema: &'s Value| expand_within(root, schema, levels - 1, left);
    let mut found = vec![Conj { root, parts: vec![object] }];
    let mut and = |more: Vec<Conj<'s>>| found = product(&found, &more);
    for key in ["$ref", "$dynamicRef"] {
        if let Some(target) = object.get(key).and_then(Value::as_str) {
            and(find(root, target).map_or_else(unknown, &mut expand));
        }
    }
    for schema in list(object, "allOf") {
        and(expand(schema));
    }
    for key in ["anyOf", "oneOf"] {
        let schemas = list(object, key);
        if !schemas.is_empty() {
            and(schemas.iter().flat_map(&mut expand).collect());
        }
    }
    if let Some(condition) = object.get("if") {
        let condition = expand(condition);
        let mut branch = |key| object.get(key).map_or_else(unknown, &mut expand);
        let mut either = product(&condition, &branch("then"));
        either.extend(branch("else"));
        and(either);
    }
    if found.len() > MAX_ALTERNATIVES { unknown() } else { found }
}

fn list<'s>(object: &'s Map<String, Value>, key: &str) -> &'s [Value] {
    object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The schema that a reference within the document points to.
fn find<'s>(root: &'s Value, target: &str) -> Option<&'s Value> {
    match target.strip_prefix('#')? {
        "" => Some(root),
        pointer if pointer.starts_with('/') => {
            root.pointer(&pointer.replace("%25", "%").replace("%22", "\""))
        }
        anchor => {
            let members = root.get("$defs")?.as_object()?.values();
            members.into_iter().find(|schema| schema.get("$anchor").and_then(Value::as_str) == Some(anchor))
        }
    }
}

fn product<'s>(a: &[Conj<'s>], b: &[Conj<'s>]) -> Vec<Conj<'s>> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let both = |(a, b): (&Conj<'s>, &Conj<'s>)| {
        let mut parts = a.parts.clone();
        parts.extend(
            b.parts.iter().copied().filter(|part| !a.parts.iter().any(|known| std::ptr::eq(*known, *part))),
        );
        Conj { root: a.root, parts }
    };
    // One more than is distinguished, so that the caller sees that it is too many.
    pairs.take(MAX_ALTERNATIVES + 1).map(both).collect()
}

fn describe_all<'s>(alternatives: &[Conj<'s>]) -> Shape<'s> {
    alternatives.iter().map(Conj::describe).fold(Shape::none(), Shape::or)
}

/// The types that JSON Schema distinguishes.
const KINDS: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn may_be(part: &Map<String, Value>, kind: &str) -> bool {
    let fits = |word: &Value| {
        let word = word.as_str().unwrap_or_default();
        word == kind || (word == "integer" && kind == "number")
    };
    match part.get("type") {
        None => true,
        Some(Value::Array(words)) => words.iter().any(fits),
        Some(word) => fits(word),
    }
}

impl<'s> Conj<'s> {
    /// Schemas that say nothing.
    pub fn unknown(&self) -> Self {
        Self { root: self.root, parts: Vec::new() }
    }

    fn describe(&self) -> Shape<'s> {
        let values = self.values();
        let is_possible = |kind: &str| {
            self.parts.iter().all(|part| may_be(part, kind))
                && values.as_ref().is_none_or(|values| values.iter().any(|value| kind_of(value) == kind))
        };
        let [null, boolean, number, text, list, object] = KINDS.map(is_possible);
        Shape {
            null,
            boolean,
            number: number.then(|| self.numbers(values.as_deref())),
            text: text.then(|| match &values {
                Some(values) => Text::of_values(
                    values.iter().filter_map(|value| value.as_str()).map(str::to_owned).collect(),
                ),
                None => Text::of_schemas(&self.parts, self.asserts_formats()),
            }),
            lists: if list { vec![self.list()] } else { Vec::new() },
            objects: if object { vec![self.clone()] } else { Vec::new() },
            ..Shape::none()
        }
    }

    /// The few values that are allowed, if they are few.
    fn values(&self) -> Option<Vec<&'s Value>> {
        let own = |part: &&'s Map<String, Value>| match (part.get("const"), part.get("enum")) {
            (Some(value), _) => Some(vec![value]),
            (None, Some(Value::Array(values))) => Some(values.iter().collect()),
            (None, _) => None,
        };
        let lists: Vec<Vec<&Value>> = self.parts.iter().filter_map(own).collect();
        let (first, rest) = lists.split_first()?;
        let common = first.iter().copied().filter(|value| rest.iter().all(|list| list.contains(value)));
        Some(common.collect())
    }

    /// Old drafts know few formats, and pass over the others.
    fn asserts_formats(&self) -> bool {
        self.root.get("$schema").and_then(Value::as_str).is_none_or(|draft| !draft.contains("draft-0"))
    }

    fn numbers(&self, values: Option<&[&Value]>) -> Numbers {
        let is_whole = |part: &&Map<String, Value>| {
            let named = |word: &Value| word.as_str() == Some("number");
            part.get("type").is_some_and(|kind| match kind {
                Value::Array(words) => !words.iter().any(named),
                word => !named(word),
            })
        };
        let bound = |key: &str, keeps_off: fn(f64) -> bool| {
            self.parts.iter().any(|part| part.get(key).and_then(Value::as_f64).is_some_and(keeps_off))
        };
        let zero = match values {
            Some(values) => values.iter().any(|value| value.as_f64() == Some(0.0)),
            None => {
                !(bound("minimum", |min| min > 0.0)
                    || bound("exclusiveMinimum", |min| min >= 0.0)
                    || bound("maximum", |max| max < 0.0)
                    || bound("exclusiveMaximum", |max| max <= 0.0))
            }
        };
        let known =
            values.is_some_and(|values| values.iter().all(|value| value.is_i64() || !value.is_number()));
        Numbers { whole: known || self.parts.iter().any(is_whole), zero }
    }

    fn list(&self) -> List<'s> {
        let min = self.parts.iter().filter_map(|part| count(part.get("minItems")?)).max().unwrap_or(0);
        List { min, items: Items::Listed(self.clone()) }
    }

    /// The keys that these schemas name.
    pub fn keys(&self) -> impl Iterator<Item = &'s str> + '_ {
        let named = |part: &&'s Map<String, Value>| part.get("properties")?.as_object();
        self.parts.iter().filter_map(named).flat_map(|members| members.keys().map(String::as_str))
    }

    fn requires(&self, key: &str) -> bool {
        self.parts.iter().any(|part| list(part, "required").iter().any(|name| name.as_str() == Some(key)))
    }

    /// The possible values under `key` of an object.
    pub fn member(&self, key: &str) -> Shape<'s> {
        let required = self.requires(key);
        let mut listing = if required { Listing::Listed } else { Listing::Open };
        let mut found = vec![self.unknown()];
        for part in &self.parts {
            let named = part.get("properties").and_then(Value::as_object);
            if let Some(schema) = named.and_then(|members| members.get(key)) {
                listing = Listing::Listed;
                found = product(&found, &expand(self.root, schema));
            } else if let Some(schemas) = self.unnamed(part) {
                listing = listing.max(Listing::Dictionary);
                found = product(&found, &schemas);
            }
        }
        if listing < Listing::Listed && self.is_closed() {
            return Shape { absent: true, listing: Listing::Unknown, ..Shape::none() };
        }
        if found.len() > MAX_ALTERNATIVES {
            found = vec![self.unknown()];
        }
        let shape = describe_all(&found);
        let absent = !required || found.is_empty();
        Shape { absent, listing, ..shape }
    }

    /// The alternatives for a member that `part` doesn't name, if it says something of such members.
    fn unnamed(&self, part: &'s Map<String, Value>) -> Option<Vec<Conj<'s>>> {
        let patterns = part.get("patternProperties").and_then(Value::as_object).filter(|map| !map.is_empty());
        let rest = part.get("additionalProperties");
        // Which pattern matches isn't evaluated, so a member may be what any of them, or the rest, allows.
        let patterned = patterns.into_iter().flat_map(Map::values);
        let all: Vec<&Value> = match (rest, patterns) {
            (Some(Value::Bool(_)) | None, None) => return None,
            (None, Some(_)) => return Some(vec![self.unknown()]),
            (Some(rest), _) => patterned.chain([rest]).collect(),
        };
        Some(all.into_iter().flat_map(|schema| expand(self.root, schema)).collect())
    }

    /// Whether a member that none of the schemas speaks of is a mistake.
    fn is_closed(&self) -> bool {
        let is_false = |part: &&'s Map<String, Value>| {
            let patterns = part.get("patternProperties").and_then(Value::as_object);
            part.get("additionalProperties") == Some(&Value::Bool(false))
                && patterns.is_none_or(Map::is_empty)
        };
        let is_open = |part: &&'s Map<String, Value>| {
            let rest = part.get("additionalProperties").or_else(|| part.get("unevaluatedProperties"));
            let patterns = part.get("patternProperties").and_then(Value::as_object);
            rest.is_some_and(|rest| *rest != Value::Bool(false))
                || patterns.is_some_and(|map| !map.is_empty())
        };
        self.parts.iter().any(is_false) || (self.keys().next().is_some() && !self.parts.iter().any(is_open))
    }

    /// What the members may be that no key is known for.
    pub fn members(&self) -> Shape<'s> {
        let named = self.keys().map(|key| self.member(key)).fold(Shape::none(), Shape::or);
        let closed = self.is_closed() && self.parts.iter().all(|part| self.unnamed(part).is_none());
        let rest = if closed { Shape::none() } else { describe_all(&[self.unknown()]) };
        Shape { absent: false, listing: Listing::Dictionary, ..named.or(rest) }
    }

    /// The possible elements at `index` of a list, or at any index.
    pub fn element(&self, index: Option<usize>) -> Shape<'s> {
        let mut found = vec![self.unknown()];
        let mut listing = Listing::Open;
        for part in &self.parts {
            let schemas = elements(part, index);
            if schemas.is_empty() {
                continue;
            }
            listing = Listing::Listed;
            found = product(
                &found,
                &schemas.into_iter().flat_map(|schema| expand(self.root, schema)).collect::<Vec<_>>(),
            );
        }
        if found.len() > MAX_ALTERNATIVES {
            found = vec![self.unknown()];
        }
        Shape { listing, ..describe_all(&found) }
    }
}

/// The schemas of which one holds for the element at `index`, or for each; none if nothing is said.
fn elements(part: &Map<String, Value>, index: Option<usize>) -> Vec<&Value> {
    const ANYTHING: &Value = &Value::Bool(true);
    let old = part.get("items").and_then(Value::as_array);
    let first = old.map_or_else(|| list(part, "prefixItems"), Vec::as_slice);
    let rest = if old.is_some() { part.get("additionalItems") } else { part.get("items") };
    match index {
        Some(index) if index < first.len() => vec![&first[index]],
        Some(_) => rest.into_iter().collect(),
        None if first.is_empty() => rest.into_iter().collect(),
        None => first.iter().chain([rest.unwrap_or(ANYTHING)]).collect(),
    }
}
