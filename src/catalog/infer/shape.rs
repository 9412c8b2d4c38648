//! The values seen at one position.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::texts::{Formats, Texts};
use crate::domain::budget::{Budget, Spent};
use crate::domain::event::MASK;

/// With this many different members, none of which is in all objects, the object is treated as a dictionary.
const MANY_MEMBERS: usize = 40;

/// The values seen at one position.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    count: usize,
    masked: bool,
    /// The names of their types.
    types: BTreeSet<&'static str>,
    texts: Texts,
    items: Option<Box<Shape>>,
    objects: usize,
    members: BTreeMap<String, Shape>,
}

impl Shape {
    /// Adds a value.
    ///
    /// # Errors
    /// [`Spent`]: it was not added, or not completely.
    pub fn add(&mut self, value: &Value, formats: &Formats, budget: &Budget) -> Result<(), Spent> {
        budget.steps(1)?;
        self.count += 1;
        self.types.insert(type_of(value));
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) if text == MASK => self.masked = true,
            Value::String(text) => {
                // Each format is tried.
                budget.work(text.len().saturating_mul(8))?;
                self.texts.add(text, formats);
            }
            Value::Array(list) => {
                for item in list {
                    self.items.get_or_insert_default().add(item, formats, budget)?;
                }
            }
            Value::Object(members) => {
                self.objects += 1;
                for (name, member) in members {
                    self.members.entry(name.clone()).or_default().add(member, formats, budget)?;
                }
            }
        }
        Ok(())
    }

    /// Adds the values of another position.
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.masked |= other.masked;
        self.types.extend(&other.types);
        self.texts.merge(&other.texts);
        if let Some(items) = &other.items {
            self.items.get_or_insert_default().merge(items);
        }
        self.objects += other.objects;
        for (name, member) in &other.members {
            self.members.entry(name.clone()).or_default().merge(member);
        }
    }

    /// The schema of the position; `name` is its member name.
    pub fn schema(&self, name: &str) -> Value {
        let mut schema = Map::new();
        if self.masked || self.count == 0 {
            return Value::Object(schema);
        }
        let types = self.types();
        let only_words = types.iter().all(|word| matches!(*word, "string" | "null"));
        schema.insert("type".into(), if types.len() == 1 { json!(types[0]) } else { json!(types) });
        if let Some(words) = self.texts.words(name).filter(|_| only_words) {
            let nothing = self.types.contains("null").then_some(Value::Null);
            let listed = nothing.into_iter().chain(words.iter().map(|word| json!(word)));
            schema.insert("enum".into(), listed.collect());
        } else if let Some(format) = self.texts.format() {
            schema.insert("format".into(), json!(format));
        } else if self.texts.is_filled() {
            schema.insert("pattern".into(), json!("\\S"));
        }
        if let Some(items) = &self.items {
            schema.insert("items".into(), items.schema(name));
        }
        self.describe_members(&mut schema, name);
        Value::Object(schema)
    }

    /// The types; every integer is a number.
    fn types(&self) -> Vec<&'static str> {
        let has_numbers = self.types.contains("number");
        self.types.iter().copied().filter(|word| !(has_numbers && *word == "integer")).collect()
    }

    fn describe_members(&self, schema: &mut Map<String, Value>, name: &str) {
        let always: Vec<&String> = self
            .members
            .iter()
            .filter(|(_, member)| member.count == self.objects)
            .map(|(name, _)| name)
            .collect();
        if always.is_empty() && self.members.len() > MANY_MEMBERS {
            let mut any = Self::default();
            self.members.values().for_each(|member| any.merge(member));
            schema.insert("additionalProperties".into(), any.schema(name));
            return;
        }
        if self.members.is_empty() {
            return;
        }
        let described = self.members.iter().map(|(name, member)| (name.clone(), member.schema(name)));
        schema.insert("properties".into(), Value::Object(described.collect()));
        if !always.is_empty() {
            schema.insert("required".into(), json!(always));
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
