//! What a JSON Schema (2020-12) says about a member, an entry, a value's types. Local references are followed; what is
//! not understood counts as no constraint.

use serde_json::Value as Json;

use super::kinds::Kinds;
use crate::domain::budget::Budget;

/// The maximum number of references and combinations that are followed.
const MAX_DEPTH: usize = 16;

/// The document that references point into, and the budget for reading it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root<'a> {
    pub document: &'a Json,
    pub budget: &'a Budget,
}

/// What a schema says about a member.
#[derive(Debug, Default)]
pub(super) struct Member<'a> {
    /// Schemas of which the member meets at least one.
    pub any_of: Vec<&'a Json>,
    pub is_required: bool,
    /// The schema lists its members, and this is none of them.
    pub is_absent: bool,
    /// The schema allows other members, or restricts them in a way that is not understood here.
    pub is_open: bool,
}

/// What the schema says about the member with that name.
pub(super) fn member<'a>(root: Root<'a>, schema: &'a Json, name: &str) -> Member<'a> {
    member_within(root, schema, name, 0)
}

fn member_within<'a>(root: Root<'a>, schema: &'a Json, name: &str, depth: usize) -> Member<'a> {
    if depth > MAX_DEPTH || root.budget.steps(1).is_err() {
        return Member { is_open: true, ..Member::default() };
    }
    let mut said = own_member(schema, name);
    for part in all_parts(root, schema) {
        match part {
            Some(part) => said.add(member_within(root, part, name, depth + 1)),
            None => said.is_open = true,
        }
    }
    for choice in choices(schema) {
        let branches: Vec<Member> =
            choice.iter().map(|branch| member_within(root, branch, name, depth + 1)).collect();
        let is_required = !branches.is_empty() && branches.iter().all(|branch| branch.is_required);
        for branch in branches {
            said.add(Member { is_required, ..branch });
        }
    }
    for keyword in ["then", "else"] {
        if let Some(branch) = schema.get(keyword) {
            said.add(Member { is_required: false, ..member_within(root, branch, name, depth + 1) });
        }
    }
    said
}

impl<'a> Member<'a> {
    fn add(&mut self, other: Member<'a>) {
        self.any_of.extend(other.any_of);
        self.is_required |= other.is_required;
        self.is_absent |= other.is_absent;
        self.is_open |= other.is_open;
    }
}

fn own_member<'a>(schema: &'a Json, name: &str) -> Member<'a> {
    let mut said = Member { is_required: requires(schema, name), ..Member::default() };
    let listed = schema.get("properties").and_then(Json::as_object);
    if let Some(found) = listed.and_then(|members| members.get(name)) {
        said.any_of.push(found);
        return said;
    }
    said.is_absent = listed.is_some() || schema == &Json::Bool(false);
    said.is_open = schema.get("patternProperties").is_some() || schema.get("dependentSchemas").is_some();
    for keyword in ["additionalProperties", "unevaluatedProperties"] {
        match schema.get(keyword) {
            Some(Json::Bool(true)) => said.is_open = true,
            Some(other @ Json::Object(_)) => said.any_of.push(other),
            Some(Json::Bool(false)) => said.is_absent = true,
            _ => {}
        }
    }
    said
}

fn requires(schema: &Json, name: &str) -> bool {
    let required = schema.get("required").and_then(Json::as_array);
    required.is_some_and(|names| names.iter().any(|found| found == name))
}

/// The schemas that apply besides this one's own keywords; `None` for a reference that is not understood.
fn all_parts<'a>(root: Root<'a>, schema: &'a Json) -> Vec<Option<&'a Json>> {
    let mut parts = Vec::new();
    if let Some(reference) = schema.get("$ref") {
        parts.push(reference.as_str().and_then(|reference| follow(root, reference)));
    }
    if schema.get("$dynamicRef").is_some() {
        parts.push(None);
    }
    parts.extend(schema.get("allOf").and_then(Json::as_array).into_iter().flatten().map(Some));
    parts
}

fn choices(schema: &Json) -> impl Iterator<Item = &Vec<Json>> {
    ["anyOf", "oneOf"].into_iter().filter_map(|keyword| schema.get(keyword).and_then(Json::as_array))
}

/// The part of the document that a local reference names.
fn follow<'a>(root: Root<'a>, reference: &str) -> Option<&'a Json> {
    root.document.pointer(&reference.strip_prefix('#')?.replace("%25", "%"))
}

/// The names of the members that the schema lists.
pub(super) fn names<'a>(root: Root<'a>, schema: &'a Json) -> Vec<&'a str> {
    fn gather<'a>(root: Root<'a>, schema: &'a Json, depth: usize, found: &mut Vec<&'a str>) {
        if depth > MAX_DEPTH || root.budget.steps(1).is_err() {
            return;
        }
        let listed = schema.get("properties").and_then(Json::as_object);
        found.extend(listed.into_iter().flat_map(|members| members.keys().map(String::as_str)));
        let parts = all_parts(root, schema).into_iter().flatten().chain(choices(schema).flatten());
        parts.for_each(|part| gather(root, part, depth + 1, found));
    }
    let mut found = Vec::new();
    gather(root, schema, 0, &mut found);
    found
}

/// The schemas of a list's entries; empty if nothing is said.
pub(super) fn entries<'a>(root: Root<'a>, schema: &'a Json) -> Vec<&'a Json> {
    fn gather<'a>(root: Root<'a>, schema: &'a Json, depth: usize, found: &mut Vec<&'a Json>) {
        if depth > MAX_DEPTH || root.budget.steps(1).is_err() {
            return;
        }
        found.extend(schema.get("prefixItems").and_then(Json::as_array).into_iter().flatten());
        found.extend(schema.get("items"));
        let parts = all_parts(root, schema).into_iter().flatten().chain(choices(schema).flatten());
        parts.for_each(|part| gather(root, part, depth + 1, found));
    }
    let mut found = Vec::new();
    gather(root, schema, 0, &mut found);
    found
}

/// The kinds that a value of this schema may have.
pub(super) fn kinds(root: Root<'_>, schema: &Json) -> Kinds {
    kinds_within(root, schema, 0)
}

fn kinds_within(root: Root<'_>, schema: &Json, depth: usize) -> Kinds {
    if depth > MAX_DEPTH || root.budget.steps(1).is_err() {
        return Kinds::ANY;
    }
    let mut found = own_kinds(schema);
    for part in all_parts(root, schema) {
        found = found.and(part.map_or(Kinds::ANY, |part| kinds_within(root, part, depth + 1)));
    }
    for choice in choices(schema) {
        let either = choice.iter().map(|branch| kinds_within(root, branch, depth + 1));
        found = found.and(either.fold(Kinds::NONE, Kinds::or));
    }
    found
}

fn own_kinds(schema: &Json) -> Kinds {
    let named = match schema.get("type") {
        Some(Json::String(name)) => kind_named(name),
        Some(Json::Array(names)) => {
            names.iter().filter_map(Json::as_str).map(kind_named).fold(Kinds::NONE, Kinds::or)
        }
        _ => Kinds::ANY,
    };
    let listed = match (schema.get("const"), schema.get("enum").and_then(Json::as_array)) {
        (Some(value), _) => kind_of(value),
        (None, Some(values)) => values.iter().map(kind_of).fold(Kinds::NONE, Kinds::or),
        (None, None) => Kinds::ANY,
    };
    named.and(listed)
}

fn kind_named(name: &str) -> Kinds {
    match name {
        "boolean" => Kinds::BOOL,
        "number" | "integer" => Kinds::NUMBER,
        "string" => Kinds::TEXT,
        "array" => Kinds::LIST,
        "object" => Kinds::OBJECT,
        "null" => Kinds::NULL,
        _ => Kinds::ANY,
    }
}

fn kind_of(value: &Json) -> Kinds {
    match value {
        Json::Null => Kinds::NULL,
        Json::Bool(_) => Kinds::BOOL,
        Json::Number(_) => Kinds::NUMBER,
        Json::String(_) => Kinds::TEXT,
        Json::Array(_) => Kinds::LIST,
        Json::Object(_) => Kinds::OBJECT,
    }
}
