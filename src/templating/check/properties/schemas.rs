//! Random schemas, and random values that they allow.

use serde_json::{Map, Value, json};

use super::tape::Tape;

/// A schema that knows how to make values.
#[derive(Debug, Clone)]
pub enum Plan {
    /// A text: the constraint, and texts that it allows.
    Text(Value, &'static [&'static str]),
    Whole(Value, i64),
    Decimal,
    Flag,
    Few(Vec<Value>),
    Null,
    Anything,
    /// Members with their plans and whether they are required; whether others are forbidden.
    Object(Vec<(String, Plan, bool)>, bool),
    /// What is in it, and how many at least.
    List(Box<Plan>, usize),
    Either(Box<Plan>, Box<Plan>),
    /// A dictionary.
    Dictionary(Box<Plan>),
    /// The same by way of a reference.
    Referred(Box<Plan>),
    /// The members in two schemas that both hold.
    Split(Vec<(String, Plan, bool)>),
    /// One member is required where a flag is true.
    Conditional(String, Box<Plan>),
}

const KEYS: [&str; 7] = ["a", "b", "c", "size", "first", "k d", "e"];

/// The schema of `data`: an object, nested at most `depth` deep.
pub fn plan_of_data(tape: &mut Tape) -> Plan {
    let members = members(tape, 3);
    match tape.below(8) {
        7 => Plan::Split(members),
        6 => Plan::Object(members, false),
        _ => Plan::Object(members, true),
    }
}

fn members(tape: &mut Tape, depth: usize) -> Vec<(String, Plan, bool)> {
    let count = 1 + tape.below(4);
    (0..count).map(|n| (KEYS[n].to_owned(), plan(tape, depth - 1), !tape.once_in(4))).collect()
}

fn plan(tape: &mut Tape, depth: usize) -> Plan {
    let leaf = |tape: &mut Tape| match tape.below(13) {
        0..=2 => Plan::Text(json!({"pattern": "\\S"}), &["x", " y ", "{{ z }}", "12", "a-b"]),
        3 => Plan::Text(json!({}), &["", " ", "x"]),
        4 => Plan::Text(json!({"minLength": 1}), &[" ", "x", "\n"]),
        5 => Plan::Text(json!({"format": "date"}), &["2026-11-25", "0001-01-01", "9999-12-31"]),
        6 => Plan::Text(json!({"pattern": "^[0-9]+$"}), &["7", "0", "0012"]),
        7 => Plan::Whole(json!({"type": "integer"}), 0),
        8 => Plan::Whole(json!({"type": "integer", "minimum": 1}), 1),
        9 => Plan::Flag,
        10 => Plan::Decimal,
        11 => Plan::Few(tape.pick(&[
            vec![json!("p"), json!("q")],
            vec![json!("p"), json!("")],
            vec![json!("3"), json!("4")],
            vec![json!(0), json!("x")],
            vec![json!(null), json!(true)],
        ])),
        _ => Plan::Anything,
    };
    if depth == 0 {
        return leaf(tape);
    }
    match tape.below(18) {
        0..=8 => leaf(tape),
        9 | 10 => Plan::Object(members(tape, depth), !tape.once_in(3)),
        11 | 12 => Plan::List(Box::new(plan(tape, depth - 1)), tape.below(3)),
        13 => Plan::Either(Box::new(plan(tape, depth - 1)), Box::new(plan(tape, depth - 1))),
        14 => Plan::Either(Box::new(plan(tape, depth - 1)), Box::new(Plan::Null)),
        15 => Plan::Referred(Box::new(plan(tape, depth - 1))),
        16 => Plan::Dictionary(Box::new(plan(tape, depth - 1))),
        _ => Plan::Conditional("c".to_owned(), Box::new(leaf(tape))),
    }
}

impl Plan {
    /// The schema; what it refers to goes to `defs`.
    pub fn schema(&self, defs: &mut Map<String, Value>) -> Value {
        match self {
            Self::Text(constraint, _) => with(json!({"type": "string"}), constraint),
            Self::Whole(schema, _) => schema.clone(),
            Self::Decimal => json!({"type": "number"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Few(values) => json!({"enum": values}),
            Self::Null => json!({"type": "null"}),
            Self::Anything => json!({}),
            Self::Object(members, closed) => {
                let mut schema = object(members, defs);
                if *closed {
                    schema["additionalProperties"] = json!(false);
                }
                schema
            }
            Self::List(item, min) => {
                json!({"type": "array", "items": item.schema(defs), "minItems": min})
            }
            Self::Either(a, b) => json!({"anyOf": [a.schema(defs), b.schema(defs)]}),
            Self::Dictionary(member) => {
                json!({"type": "object", "additionalProperties": member.schema(defs)})
            }
            Self::Referred(plan) => {
                let schema = plan.schema(defs);
                let name = format!("d{}", defs.len());
                defs.insert(name.clone(), schema);
                json!({"$ref": format!("#/$defs/{name}")})
            }
            Self::Split(members) => {
                let (a, b) = members.split_at(members.len() / 2);
                json!({"allOf": [object(a, defs), object(b, defs)]})
            }
            Self::Conditional(key, plan) => json!({
                "type": "object",
                "properties": {"on": {"type": "boolean"}, key: plan.schema(defs)},
                "required": ["on"],
                "if": {"properties": {"on": {"const": true}}},
                "then": {"required": [key]},
            }),
        }
    }

    /// A value that the schema allows.
    pub fn value(&self, tape: &mut Tape) -> Value {
        match self {
            Self::Text(_, texts) => tape.pick(texts).into(),
            Self::Whole(_, min) => (min + i64::try_from(tape.below(3)).unwrap_or(0)).into(),
            Self::Decimal => tape.pick(&[json!(0), json!(1.5), json!(-2), json!(0.0)]),
            Self::Flag => tape.once_in(2).into(),
            Self::Few(values) => tape.pick(values),
            Self::Null => Value::Null,
            Self::Anything => {
                tape.pick(&[json!("x"), json!(null), json!(3), json!({"a": "b"}), json!([]), json!("")])
            }
            Self::Object(members, closed) => {
                let mut value = values(members, tape);
                if !closed && tape.once_in(3) {
                    value.insert("e".to_owned(), json!(null));
                }
                Value::Object(value)
            }
            Self::List(item, min) => {
                let count = min + tape.below(2);
                (0..count).map(|_| item.value(tape)).collect()
            }
            Self::Either(a, b) => {
                if tape.once_in(2) {
                    b.value(tape)
                } else {
                    a.value(tape)
                }
            }
            Self::Dictionary(member) => {
                let count = tape.below(3);
                Value::Object((0..count).map(|n| (KEYS[n].to_owned(), member.value(tape))).collect())
            }
            Self::Referred(plan) => plan.value(tape),
            Self::Split(members) => Value::Object(values(members, tape)),
            Self::Conditional(key, plan) => {
                let on = tape.once_in(2);
                let mut value = json!({"on": on});
                if on || tape.once_in(2) {
                    value[key] = plan.value(tape);
                }
                value
            }
        }
    }

    /// Paths that may lead somewhere below `path`, with what is there.
    pub fn paths(&self, path: &str, found: &mut Vec<(String, Plan)>) {
        let members = |members: &[(String, Plan, bool)], found: &mut Vec<(String, Plan)>| {
            for (key, plan, _) in members {
                let below =
                    if key.contains(' ') { format!("{path}['{key}']") } else { format!("{path}.{key}") };
                found.push((below.clone(), plan.clone()));
                plan.paths(&below, found);
            }
        };
        match self {
            Self::Object(own, _) | Self::Split(own) => members(own, found),
            Self::List(item, _) => {
                for step in ["[0]", ".first", "[1]", "[-1]"] {
                    let below = format!("{path}{step}");
                    found.push((below.clone(), (**item).clone()));
                    item.paths(&below, found);
                }
                found.push((format!("{path}.size"), Self::Flag));
            }
            Self::Either(a, b) => {
                a.paths(path, found);
                b.paths(path, found);
            }
            Self::Referred(plan) => plan.paths(path, found),
            Self::Dictionary(plan) => plan.paths(&format!("{path}.a"), found),
            Self::Conditional(key, plan) => {
                found.push((format!("{path}.on"), Self::Flag));
                found.push((format!("{path}.{key}"), (**plan).clone()));
            }
            Self::Text(..)
            | Self::Whole(..)
            | Self::Decimal
            | Self::Flag
            | Self::Few(_)
            | Self::Null
            | Self::Anything => {}
        }
    }
}

fn with(mut schema: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        schema[key] = value.clone();
    }
    schema
}

fn object(members: &[(String, Plan, bool)], defs: &mut Map<String, Value>) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|(key, plan, _)| (key.clone(), plan.schema(defs))).collect();
    let required: Vec<&String> =
        members.iter().filter(|(.., required)| *required).map(|(key, ..)| key).collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn values(members: &[(String, Plan, bool)], tape: &mut Tape) -> Map<String, Value> {
    let mut found = Map::new();
    for (key, plan, required) in members {
        if *required || tape.once_in(2) {
            found.insert(key.clone(), plan.value(tape));
        }
    }
    found
}
