//! Whatever copy is, checking it takes no more than its budget and no deep stack.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Copy, EventShape, Finding, check};
use crate::domain::budget::{Budget, Limits};
use crate::domain::channel::Channel;
use crate::domain::template::Fields;

fn checked(channel: Channel, field: &str, text: &str, budget: &Budget) -> Vec<Finding> {
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"$ref": "#"}, "l": {"type": "array", "items": {"$ref": "#"}}, "t": {"type": "string"},
    }});
    let (options, samples): (Map<String, Value>, _) = (Map::new(), Map::new());
    let (name, sensitive) = ("made.up", vec!["/a/a/t".to_owned()]);
    let event =
        EventShape { name, schema: &schema, sensitive: &sensitive, samples: &samples, observed: None };
    let contents = BTreeMap::from([("en".to_owned(), Fields::from([(field.to_owned(), text.to_owned())]))]);
    let copy =
        Copy { channel, is_inline: false, default_locale: "en", contents: &contents, options: &options };
    check(&copy, &[event], budget)
}

/// A small stack is enough, and the budget is not overdrawn.
fn assert_bounded(channel: Channel, field: &'static str, text: String) {
    let work = move || {
        let budget = Budget::new(Limits { steps: 200_000, ..Limits::JOB });
        checked(channel, field, &text, &budget);
        assert!(budget.paid().0 <= 200_000);
    };
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work);
    thread.expect("a thread starts").join().expect("it ends without a panic");
}

#[test]
fn a_loop_that_ends_elsewhere_than_it_begins_is_not_read_twice_for_each_loop_around_it() {
    let text = "{% for i in data.l %}<a href='".repeat(40) + &"{% endfor %}".repeat(40);
    let budget = Budget::default();
    let found = checked(Channel::Email, "body", &text, &budget);
    assert!(found.iter().any(|finding| finding.code == "too_complex"), "{found:?}");
    assert!(budget.paid().0 <= 3 * Limits::COPY.steps, "{budget:?}");
}

#[test]
fn a_path_costs_what_it_is_long() {
    let paid = |steps: usize| {
        let budget = Budget::default();
        checked(Channel::Push, "contents", &format!("{{{{ data{} }}}}", ".a".repeat(steps)), &budget);
        budget.paid()
    };
    let ((short, ..), (long, _, memory)) = (paid(8), paid(32));
    assert!(long <= short * 5, "{short} steps for 8, {long} for 32");
    assert!(memory < 64 * 1024, "{memory} bytes");
    assert!(paid(20_000).0 <= 200_000, "it is refused once its tokens are read");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_nesting_of_blocks_takes_more_than_the_budget(
        blocks in proptest::collection::vec(0_usize..6, 1..50), inner in "[<>'\"=a-z {}|.]{0,20}",
    ) {
        let open = [
            "{% for i in data.l %}<b", "{% if data.t %}", "{% capture c %}x", "{% for j in i.l %}{{ j.a.t }}",
            "{% assign v = v.a %}{% unless v.t == 'x' %}", "{% case data.t %}{% when 'a' %}{% assign v = data.a %}",
        ];
        let close = ["{% endfor %}>", "{% endif %}", "{% endcapture %}{{ c }}", "{% endfor %}", "{% endunless %}", "{% endcase %}"];
        let text: String = blocks.iter().map(|block| open[*block]).chain([inner.as_str()]).collect::<String>()
            + &blocks.iter().rev().map(|block| close[*block]).collect::<String>();
        assert_bounded(Channel::Email, "body", text.clone());
        assert_bounded(Channel::Push, "contents", text);
    }

    #[test]
    fn no_repetition_of_a_piece_takes_more_than_the_budget(
        piece in proptest::sample::select(vec![
            "{{ data.a.t }}", "{% assign a = a.a %}", "{% assign a = data.t | append: a %}", "{{ a | default: data.t }}",
            "{% if data.t == 'x' %}{% assign b = data.a %}{% endif %}", "{% capture a %}{{ a }}{% endcapture %}",
            "{% for i in data.l %}{% break %}{% endfor %}", "<a href='{{ data.t }}'>", "{% raw %}{% endraw %}", "{%", "{{", "<!--",
        ]),
        times in 1_usize..4_000,
    ) {
        assert_bounded(Channel::Email, "body", piece.repeat(times));
        assert_bounded(Channel::Push, "contents", piece.repeat(times));
    }
}
