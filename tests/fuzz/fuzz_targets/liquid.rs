//! Copy: parsed, compiled, checked against a schema and rendered, within its budget.
#![no_main]

use std::collections::BTreeMap;

use herald::domain::budget::Budget;
use herald::domain::channel::Channel;
use herald::domain::template::Fields;
use herald::templating::check::{Copy, EventShape, check};
use herald::templating::compile;
use herald::templating::liquid::{Strictness, Template};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, json};

fuzz_target!(|source: &str| {
    let budget = Budget::default();
    let data = json!({"x": [1, "é", null, {"x": 2.5}], "name": "Ann", "eta": "2026-11-25", "n": 7, "o": {"a": "b"}});
    if let Ok(template) = Template::parse(source, &budget) {
        template.paths(&budget);
        for strictness in [Strictness::Strict, Strictness::Lenient] {
            let _ = template.render(&[("data", &data)], strictness, &budget);
        }
    }
    for (channel, field) in [(Channel::Push, "contents"), (Channel::Email, "body")] {
        let fields = Fields::from([(field.to_owned(), source.to_owned()), ("subject".to_owned(), "x".to_owned())]);
        if let Ok(content) = compile(channel, &fields, &budget) {
            let _ = content.values(&data, &budget);
            let _ = content.render_inline(&data, &budget);
        }
        let schema = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "eta": {"type": "string", "format": "date"}, "n": {"type": "integer"},
            "x": {"type": "array", "items": {"type": "object", "properties": {"x": {"$ref": "#"}}}},
        }});
        let (options, samples) = (Map::new(), Map::from_iter([("one".to_owned(), data.clone())]));
        let event = EventShape {
            name: "order.shipped", schema: &schema, sensitive: &["/o/a".to_owned()], samples: &samples, observed: None,
        };
        let contents = BTreeMap::from([("en".to_owned(), fields)]);
        let copy = Copy {
            channel, is_inline: false, default_locale: "en", contents: &contents, options: &options,
        };
        check(&copy, &[event], &budget);
    }
});
