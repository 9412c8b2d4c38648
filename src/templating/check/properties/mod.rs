//! The property of the checks: copy without findings about its paths renders for every event that the schema allows.

mod schemas;
mod tape;
mod templates;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};

use super::{Copy, EventShape, Finding, Severity, check};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::Fields;
use crate::templating::compile::{ValueError, compile};
use schemas::plan_of_data;
use tape::Tape;
use templates::{Scope, parts};

/// How many cases are tried.
const CASES: u32 = 4_000;
/// How many events are tried on copy that is called safe.
const EVENTS: usize = 12;

fn found(channel: Channel, field: &str, source: &str, schema: &Value) -> Vec<Finding> {
    let mut fields = Fields::from([(field.to_owned(), source.to_owned())]);
    if channel == Channel::Email {
        fields.insert("subject".to_owned(), "x".to_owned());
    }
    let contents = [("en".to_owned(), fields)].into();
    let (options, samples) = (Map::new(), Map::new());
    let copy =
        Copy { channel, is_inline: false, default_locale: "en", contents: &contents, options: &options };
    let event = EventShape { name: "e", schema, sensitive: &[], samples: &samples, observed: None };
    check(&copy, &[event], &Budget::default())
}

fn is_safe(found: &[Finding]) -> bool {
    let about_paths =
        ["optional_path", "maybe_blank", "unlisted_path", "unknown_path", "wrong_type", "too_entangled"];
    found.iter().all(|finding| finding.severity == Severity::Warning && !about_paths.contains(&finding.code))
}

#[derive(Default)]
struct Tally {
    safe: Cell<usize>,
    with_values: Cell<usize>,
    branching: Cell<usize>,
    mixed: Cell<usize>,
}

fn up(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

fn law(
    choices: (Vec<u32>, Vec<u32>, Vec<u32>),
    (email, user): (bool, bool),
    tally: &Tally,
) -> Result<(), TestCaseError> {
    let (mut first, mut second, mut third) =
        (Tape::new(choices.0), Tape::new(choices.1), Tape::new(choices.2));
    let plan = plan_of_data(&mut first);
    let mut defs = Map::new();
    let mut schema = plan.schema(&mut defs);
    schema["$defs"] = Value::Object(defs);
    let source = parts(&mut second, &mut Scope::of(&plan), 2, user);
    let (channel, field) = if email { (Channel::Email, "body") } else { (Channel::Push, "contents") };
    if !is_safe(&found(channel, field, &source, &schema)) {
        return Ok(());
    }
    up(&tally.safe);
    let content = compile(channel, &[(field.to_owned(), source.clone())].into(), &Budget::default())
        .map_err(|problems| TestCaseError::fail(format!("{source}\n{problems:?}")))?;
    if content.paths().iter().any(|path| path.read.path.starts_with("data")) {
        up(&tally.with_values);
        if source.contains("{% if") || source.contains("{% for") {
            up(&tally.branching);
        }
        if content.reads_provider() {
            up(&tally.mixed);
        }
    }
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
    for _ in 0..EVENTS {
        let event = plan.value(&mut third);
        // An event may break an alternative's neighbour, so each is held against the schema.
        if !validator.is_valid(&event) {
            continue;
        }
        let values = content.values(&event, &Budget::default());
        // Whether conditions leave anything to read is no matter of paths.
        if matches!(values, Err(ValueError::Blank { .. })) {
            continue;
        }
        prop_assert!(values.is_ok(), "{source}\n{schema}\n{event}\n{values:?}");
        if !content.reads_provider() {
            let text = content.render_inline(&event, &Budget::default());
            prop_assert!(text.is_ok(), "{source}\n{schema}\n{event}\n{text:?}");
        }
    }
    Ok(())
}

#[test]
fn copy_that_is_called_safe_has_a_text_for_every_event() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let tapes = || proptest::collection::vec(any::<u32>(), 0..60);
    let strategy =
        ((tapes(), tapes(), proptest::collection::vec(any::<u32>(), 0..200)), any::<(bool, bool)>());
    let tally = Tally::default();
    let result = TestRunner::new(config).run(&strategy, |(choices, kind)| law(choices, kind, &tally));
    if let Err(error) = result {
        panic!("{error}");
    }
    let counts = [&tally.safe, &tally.with_values, &tally.branching, &tally.mixed].map(Cell::get);
    println!("safe, with values, branching, mixed: {counts:?} of {CASES}");
    for (count, min) in counts.into_iter().zip([400, 200, 80, 20]) {
        assert!(count >= min, "too few cases say anything: {counts:?}");
    }
}
