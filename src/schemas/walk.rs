//! The parts of a schema, and which of them hold for a value together.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::SchemaError;
use crate::domain::budget::Budget;

/// The name of the keyword that counts. It sorts before all others, and no vocabulary has it.
pub(super) const COUNT: &str = "!count";

/// What refers to another part.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords with one schema for the value itself, for what is in it, and with lists and tables of both.
const SAME_ONE: [&str; 4] = ["not", "if", "then", "else"];
const SAME_LIST: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const SAME_TABLE: [&str; 2] = ["dependentSchemas", "dependencies"];
const BELOW_ONE: [&str; 8] = [
    "additionalProperties",
    "additionalItems",
    "unevaluatedProperties",
    "unevaluatedItems",
    "items",
    "contains",
    "propertyNames",
    "contentSchema",
];
const BELOW_LIST: [&str; 2] = ["prefixItems", "items"];
const BELOW_TABLE: [&str; 1] = ["patternProperties"];
const NAMED_TABLE: [&str; 1] = ["properties"];
/// Where parts are kept that hold for nothing until something refers to them.
const KEPT: [&str; 2] = ["$defs", "definitions"];

/// One part, with the parts that it leads to, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Where it is, as a JSON pointer.
    pub place: String,
    /// Those that hold for the same value.
    pub same: Vec<usize>,
    /// Those that hold for the members that they are named after: one for each member.
    pub named: Vec<usize>,
    /// Those that hold for anything else in the value: several for the same of it.
    pub below: Vec<usize>,
}

/// Every part of a schema; the first is the whole.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub parts: Vec<Part>,
}

struct Walk<'s> {
    root: &'s Value,
    anchors: BTreeMap<&'s str, Vec<String>>,
    numbers: HashMap<String, usize>,
    plan: Plan,
    waiting: Vec<usize>,
}

impl Plan {
    /// Finds the parts that the whole leads to.
    ///
    /// # Errors
    /// [`SchemaError::SecondId`], [`SchemaError::Spent`].
    pub fn of(root: &Value, budget: &Budget) -> Result<Self, SchemaError> {
        let mut anchors = BTreeMap::new();
        find_anchors(root, &mut String::new(), &mut anchors, budget)?;
        let mut walk =
            Walk { root, anchors, numbers: HashMap::new(), plan: Self::default(), waiting: Vec::new() };
        walk.number(String::new());
        while let Some(number) = walk.waiting.pop() {
            budget.steps(1)?;
            walk.study(number, budget)?;
        }
        Ok(walk.plan)
    }
}

/// Notes the additional names of parts.
fn find_anchors<'s>(
    value: &'s Value,
    place: &mut String,
    anchors: &mut BTreeMap<&'s str, Vec<String>>,
    budget: &Budget,
) -> Result<(), SchemaError> {
    budget.steps(1)?;
    let length = place.len();
    let mut visit = |name: &str, value: &'s Value, anchors: &mut BTreeMap<&'s str, Vec<String>>| {
        push(place, name);
        let found = find_anchors(value, place, anchors, budget);
        place.truncate(length);
        found
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                visit(name, member, anchors)?;
            }
            for word in ["$anchor", "$dynamicAnchor"] {
                if let Some(name) = members.get(word).and_then(Value::as_str) {
                    budget.memory(place.len())?;
                    anchors.entry(name).or_default().push(place.clone());
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(&index.to_string(), item, anchors)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

impl Walk<'_> {
    /// The number of the part at a place.
    fn number(&mut self, place: String) -> usize {
        if let Some(number) = self.numbers.get(&place) {
            return *number;
        }
        let number = self.plan.parts.len();
        self.numbers.insert(place.clone(), number);
        self.plan.parts.push(Part { place, ..Part::default() });
        self.waiting.push(number);
        number
    }

    fn study(&mut self, number: usize, budget: &Budget) -> Result<(), SchemaError> {
        let place = self.plan.parts[number].place.clone();
        budget.memory(place.len())?;
        let Some(Value::Object(schema)) = self.root.pointer(&place) else { return Ok(()) };
        if !place.is_empty()
            && ["$id", "id"].iter().any(|word| schema.get(*word).is_some_and(Value::is_string))
        {
            return Err(SchemaError::SecondId(place));
        }
        let (mut same, mut named, mut below) = (Vec::new(), Vec::new(), Vec::new());
        for target in self.targets(schema) {
            same.push(self.number(target));
        }
        self.collect(&place, schema, (&SAME_ONE, &SAME_LIST, &SAME_TABLE), &mut same);
        self.collect(&place, schema, (&[], &[], &NAMED_TABLE), &mut named);
        self.collect(&place, schema, (&BELOW_ONE, &BELOW_LIST, &BELOW_TABLE), &mut below);
        // They are compiled with the rest, and an anchor may lead into them.
        self.collect(&place, schema, (&[], &[], &KEPT), &mut Vec::new());
        budget.steps(same.len() + named.len() + below.len())?;
        let part = &mut self.plan.parts[number];
        (part.same, part.named, part.below) = (same, named, below);
        Ok(())
    }

    fn collect(
        &mut self,
        place: &str,
        schema: &Map<String, Value>,
        (one, list, table): (&[&str], &[&str], &[&str]),
        into: &mut Vec<usize>,
    ) {
        for word in one.iter().filter(|word| schema.get(**word).is_some_and(is_schema)) {
            into.push(self.number(below(place, &[word])));
        }
        for word in list {
            let items = schema.get(*word).and_then(Value::as_array).map_or(0, Vec::len);
            into.extend((0..items).map(|index| self.number(below(place, &[word, &index.to_string()]))));
        }
        for word in table {
            let members = schema.get(*word).and_then(Value::as_object).into_iter().flatten();
            for (name, _) in members.filter(|(_, member)| is_schema(member)) {
                into.push(self.number(below(place, &[word, name])));
            }
        }
    }

    /// Where the references of a part lead.
    fn targets(&self, schema: &Map<String, Value>) -> Vec<String> {
        let texts = REFERENCES.iter().filter_map(|word| schema.get(*word).and_then(Value::as_str));
        let fragments = texts.filter_map(|text| text.strip_prefix('#'));
        fragments
            .flat_map(|fragment| match fragment {
                "" => vec![String::new()],
                pointer if pointer.starts_with('/') => vec![decoded(pointer)],
                // Which of several the validator takes depends on the path there: each is counted.
                name => self.anchors.get(name).cloned().unwrap_or_default(),
            })
            .collect()
    }
}

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

fn push(place: &mut String, name: &str) {
    place.push('/');
    place.push_str(&name.replace('~', "~0").replace('/', "~1"));
}

fn below(place: &str, names: &[&str]) -> String {
    let mut place = place.to_owned();
    for name in names {
        push(&mut place, name);
    }
    place
}

/// A pointer without its percent signs.
fn decoded(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let escaped = code.filter(|_| *first == b'%').and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| pointer.to_owned())
}

/// The schema with the counting keyword in each of its parts.
pub(super) fn with_counts(schema: &Value, plan: &Plan) -> Value {
    let mut counted = schema.clone();
    for part in &plan.parts {
        if let Some(Value::Object(members)) = counted.pointer_mut(&part.place) {
            members.insert(COUNT.to_owned(), Value::Bool(true));
        }
    }
    counted
}
