//! Properties of the compiler: for every template and event, OneSignal prints what the author meant.
//!
//! Templates are built from parts that know what they print, so the expected text does not depend on the compiler, the
//! evaluator or their escaping.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CompiledContent, ValueError, compile};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::Fields;
use crate::domain::visible::is_blank;
use crate::templating::liquid::{Strictness, Template};

/// One part of a template.
#[derive(Debug, Clone)]
enum Part {
    Text(&'static str),
    Raw(&'static str),
    Out(&'static str),
    Upcase(&'static str),
    Default,
    Item,
    Variable(&'static str),
    User,
    Fallback(&'static str),
    Append(&'static str),
    Reassigned(&'static str, &'static str),
    If(Condition, Vec<Part>, Vec<Part>),
    Case(Vec<Part>, Vec<Part>),
    For(Vec<Part>),
    Capture(Vec<Part>),
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    True,
    False,
    Missing,
    User,
    Both,
    Either,
    Equal,
}

impl Condition {
    fn source(self) -> &'static str {
        match self {
            Self::True => "data.yes",
            Self::False => "data.no",
            Self::Missing => "data.missing",
            Self::User => "user.vip",
            Self::Both => "data.yes and user.vip",
            Self::Either => "data.no or user.vip",
            Self::Equal => "data.a == user.a",
        }
    }

    fn holds(self, vip: bool) -> bool {
        match self {
            Self::True | Self::Equal => true,
            Self::False | Self::Missing => false,
            Self::User | Self::Both | Self::Either => vip,
        }
    }

    fn needs_user(self) -> bool {
        matches!(self, Self::User | Self::Both | Self::Either | Self::Equal)
    }
}

/// How values are made safe in the parts' context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaping {
    Text,
    Line,
    Link,
    Html,
}

impl Escaping {
    fn apply(self, value: &str) -> String {
        match self {
            Self::Text => value
                .replace("\r\n", "\n")
                .chars()
                .filter(|c| !c.is_control() || "\n\t".contains(*c))
                .collect(),
            Self::Line => {
                value.replace("\r\n", "\n").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
            }
            Self::Link => url::form_urlencoded::byte_serialize(value.as_bytes())
                .collect::<String>()
                .replace('+', "%20")
                .replace('*', "%2A")
                .replace("%7E", "~"),
            Self::Html => Self::Text
                .apply(value)
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&quot;")
                .replace('\'', "&#39;"),
        }
    }
}

fn source(parts: &[Part]) -> String {
    let one = |part: &Part| match part {
        Part::Text(text) => (*text).to_owned(),
        Part::Raw(text) => format!("{{% raw %}}{text}{{% endraw %}}"),
        Part::Out(key) => format!("{{{{ data.{key} }}}}"),
        Part::Upcase(key) => format!("{{{{ data.{key} | upcase }}}}"),
        Part::Default => "{{ data.missing | default: 'd' }}".to_owned(),
        Part::Item => "{{ i.name }}".to_owned(),
        Part::Variable(key) => format!("{{% assign v = data.{key} %}}{{{{ v }}}}"),
        Part::User => "{{ user.name }}".to_owned(),
        Part::Fallback(key) => format!("{{{{ user.missing | default: data.{key} }}}}"),
        Part::Append(key) => format!("{{{{ data.{key} | append: user.name }}}}"),
        Part::Reassigned(first, second) => format!(
            "{{% assign w = data.{first} %}}{{% if user.vip %}}{{% assign w = data.{second} %}}{{% endif %}}{{{{ w }}}}"
        ),
        Part::If(condition, yes, no) => {
            format!("{{% if {} %}}{}{{% else %}}{}{{% endif %}}", condition.source(), source(yes), source(no))
        }
        Part::Case(one, two) => format!(
            "{{% case data.state %}}{{% when 'x', 'y' %}}{}{{% when 'z' %}}{}{{% endcase %}}",
            source(one),
            source(two)
        ),
        Part::For(body) => format!("{{% for i in data.items %}}{}{{% endfor %}}", source(body)),
        Part::Capture(body) => format!("{{% capture c %}}{}{{% endcapture %}}{{{{ c }}}}", source(body)),
    };
    parts.iter().map(one).collect()
}

fn expected(parts: &[Part], world: &World, escaping: Escaping, item: &str) -> String {
    let value = |key: &str| escaping.apply(world.value(key));
    let one = |part: &Part| match part {
        Part::Text(text) | Part::Raw(text) => (*text).to_owned(),
        Part::Out(key) | Part::Variable(key) | Part::Fallback(key) => value(key),
        Part::Upcase(key) => escaping.apply(&world.value(key).to_uppercase()),
        Part::Default => "d".to_owned(),
        Part::Item => escaping.apply(item),
        Part::User => world.user.clone(),
        Part::Append(key) => value(key) + &world.user,
        Part::Reassigned(first, second) => value(if world.vip { second } else { first }),
        Part::If(condition, yes, no) => {
            expected(if condition.holds(world.vip) { yes } else { no }, world, escaping, item)
        }
        Part::Case(_, two) => expected(two, world, escaping, item),
        Part::For(body) => world.items.iter().map(|item| expected(body, world, escaping, item)).collect(),
        Part::Capture(body) => expected(body, world, escaping, item),
    };
    parts.iter().map(one).collect()
}

fn needs_user(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::User | Part::Fallback(_) | Part::Append(_) | Part::Reassigned(..) => true,
        Part::If(condition, yes, no) => condition.needs_user() || needs_user(yes) || needs_user(no),
        Part::Case(one, two) => needs_user(one) || needs_user(two),
        Part::For(body) | Part::Capture(body) => needs_user(body),
        Part::Text(_)
        | Part::Raw(_)
        | Part::Out(_)
        | Part::Upcase(_)
        | Part::Default
        | Part::Item
        | Part::Variable(_) => false,
    })
}

/// An event and a person.
#[derive(Debug, Clone)]
struct World {
    a: String,
    b: String,
    items: Vec<String>,
    user: String,
    vip: bool,
}

impl World {
    fn value(&self, key: &str) -> &str {
        if key == "a" { &self.a } else { &self.b }
    }

    fn data(&self) -> Value {
        let items: Vec<Value> = self.items.iter().map(|name| json!({"name": name, "secret": "s"})).collect();
        json!({"a": self.a, "b": self.b, "items": items, "yes": true, "no": false, "state": "z", "secret": "s"})
    }

    fn user(&self) -> Value {
        json!({"name": self.user, "vip": self.vip, "a": self.a})
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{ user.email }}"),
        Just("{%"),
        Just("{% raw %}"),
        Just("{% endraw %}"),
        Just("{{"),
        Just("}}"),
        Just("{"),
        Just("%}"),
        Just("<script>alert(1)</script>"),
        Just("\" onclick=\"x"),
        Just("'"),
        Just("&amp;"),
        Just("\r\n"),
        Just("\u{1}"),
        Just("🎉é"),
        Just("javascript:x"),
        Just("a"),
        Just(" "),
        Just("%20"),
        Just("\\"),
    ];
    // A value of nothing but blanks is refused, so each has a letter.
    (proptest::collection::vec(piece, 0..4), "[a-z]{1,3}")
        .prop_map(|(pieces, letters)| pieces.concat() + &letters)
}

fn world() -> impl Strategy<Value = World> {
    (hostile(), hostile(), proptest::collection::vec(hostile(), 0..3), hostile(), any::<bool>())
        .prop_map(|(a, b, items, user, vip)| World { a, b, items, user, vip })
}

fn parts(user: bool) -> impl Strategy<Value = Vec<Part>> {
    let key = || prop_oneof![Just("a"), Just("b")];
    let plain = prop_oneof![
        prop_oneof![
            Just(" x "),
            Just("{ "),
            Just("é\n"),
            Just("a rather long text, longer than is worth sending {.")
        ]
        .prop_map(Part::Text),
        prop_oneof![Just("{{ x }}"), Just("{"), Just("{% if"), Just("{% y %}")].prop_map(Part::Raw),
        key().prop_map(Part::Out),
        key().prop_map(Part::Upcase),
        Just(Part::Default),
        key().prop_map(Part::Variable),
    ];
    let mixed = prop_oneof![
        Just(Part::User),
        key().prop_map(Part::Fallback),
        key().prop_map(Part::Append),
        (key(), key()).prop_map(|(first, second)| Part::Reassigned(first, second)),
    ];
    let leaf = if user { prop_oneof![3 => plain, 1 => mixed].boxed() } else { plain.boxed() };
    let condition = if user {
        prop_oneof![
            Just(Condition::True),
            Just(Condition::False),
            Just(Condition::Missing),
            Just(Condition::User),
            Just(Condition::Both),
            Just(Condition::Either),
            Just(Condition::Equal)
        ]
        .boxed()
    } else {
        prop_oneof![Just(Condition::True), Just(Condition::False), Just(Condition::Missing)].boxed()
    };
    let nested = leaf.prop_recursive(3, 24, 4, move |inner| {
        let block = || proptest::collection::vec(inner.clone(), 0..4);
        let body = block().prop_map(|mut body| {
            body.push(Part::Item);
            body
        });
        prop_oneof![
            (condition.clone(), block(), block())
                .prop_map(|(condition, yes, no)| Part::If(condition, yes, no)),
            (block(), block()).prop_map(|(one, two)| Part::Case(one, two)),
            body.prop_map(Part::For),
            block().prop_map(Part::Capture),
        ]
    });
    proptest::collection::vec(nested, 1..6)
}

fn content(channel: Channel, field: &str, text: &str) -> CompiledContent {
    let fields = Fields::from([(field.to_owned(), text.to_owned())]);
    compile(channel, &fields, &Budget::default()).unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

/// What OneSignal prints, with the event's values under `all` and under the person's own id.
fn printed(content: &CompiledContent, field: &str, world: &World) -> [String; 2] {
    let values = Value::Object(content.values(&world.data(), &Budget::default()).expect("it has values"));
    assert!(!values.to_string().contains("secret"), "only what is used is sent: {values}");
    let both = content.template_fields().iter().chain(content.call_fields());
    let (_, text) = both.into_iter().find(|(name, _)| *name == field).expect("the field is there");
    let template =
        Template::parse(text, &Budget::default()).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let shapes = [json!({"custom_data": {"all": values}}), json!({"custom_data": {"users": {"u1": values}}})];
    shapes.map(|message| {
        let (user, subscription) = (world.user(), json!({"external_id": "u1"}));
        let globals = [("message", &message), ("user", &user), ("subscription", &subscription)];
        template.render(&globals, Strictness::Lenient, &Budget::default()).expect("it renders").text
    })
}

fn check(
    channel: Channel,
    field: &str,
    escaping: Escaping,
    parts: &[Part],
    world: &World,
    before: &str,
) -> Result<(), TestCaseError> {
    let content = content(channel, field, &(before.to_owned() + &source(parts)));
    let wanted = before.to_owned() + &expected(parts, world, escaping, "");
    if let Err(ValueError::Blank { .. }) = content.values(&world.data(), &Budget::default()) {
        prop_assert!(is_blank(&wanted), "{} says {wanted:?}", source(parts));
        return Ok(());
    }
    for found in printed(&content, field, world) {
        prop_assert_eq!(&found, &wanted, "{}\n{:?}", source(parts), content);
    }
    if !needs_user(parts) {
        let inline = match content.render_inline(&world.data(), &Budget::default()) {
            Err(ValueError::Blank { .. }) => {
                prop_assert!(is_blank(&wanted), "{} says {wanted:?}", source(parts));
                return Ok(());
            }
            inline => inline.expect("it renders"),
        };
        let template = Template::parse(&inline[field], &Budget::default()).expect("it is Liquid");
        let found = template.render(&[], Strictness::Lenient, &Budget::default()).expect("it renders").text;
        prop_assert_eq!(&found, &wanted, "inline {}", source(parts));
    }
    Ok(())
}

/// The parts without what push messages and links refuse: loops over what only OneSignal knows, and in links
/// variables that OneSignal keeps, and captures.
fn tame(parts: Vec<Part>, link: bool) -> Vec<Part> {
    let one = |part: Part| match part {
        Part::For(body) if needs_user(&body) || sets_variables(&body) => {
            Part::For(vec![Part::Item, Part::Out("b")])
        }
        Part::For(body) => Part::For(tame(body, link)),
        Part::If(condition, yes, no) => Part::If(condition, tame(yes, link), tame(no, link)),
        Part::Case(one, two) => Part::Case(tame(one, link), tame(two, link)),
        Part::Capture(_) | Part::Variable(_) | Part::Reassigned(..) if link => Part::Append("a"),
        Part::Capture(body) => Part::Capture(tame(body, link)),
        other => other,
    };
    parts.into_iter().map(one).collect()
}

/// Whether parts set a variable that a part elsewhere may have left to OneSignal.
fn sets_variables(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Variable(_) | Part::Capture(_) => true,
        Part::For(body) => sets_variables(body),
        Part::If(_, yes, no) | Part::Case(yes, no) => sets_variables(yes) || sets_variables(no),
        _ => false,
    })
}

/// An expression that prints something unless the event has a hole.
fn expression() -> impl Strategy<Value = (&'static str, Vec<&'static str>)> {
    let filter = prop_oneof![
        Just(" | default: data.a"),
        Just(" | default: data.b"),
        Just(" | default: 'd'"),
        Just(" | append: user.name"),
        Just(" | append: data.b"),
        Just(" | default: user.name"),
        Just(" | upcase"),
        Just(" | strip"),
    ];
    let head = prop_oneof![Just("data.a"), Just("data.b"), Just("user.missing | default: data.a")];
    (head, proptest::collection::vec(filter, 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_email_says_what_its_author_meant(parts in parts(true), world in world()) {
        check(Channel::Email, "body", Escaping::Html, &parts, &world, "<p title=\"x\">")?;
        check(Channel::Email, "body", Escaping::Html, &parts, &world, "<p title=\"")?;
        check(Channel::Email, "subject", Escaping::Line, &parts, &world, "")?;
    }

    #[test]
    fn a_push_says_what_its_author_meant(parts in parts(true), world in world()) {
        let parts = tame(parts, false);
        check(Channel::Push, "contents", Escaping::Text, &parts, &world, "")?;
        check(Channel::Sms, "contents", Escaping::Text, &parts, &world, "")?;
    }

    #[test]
    fn links_lead_where_their_author_meant(parts in parts(true), world in world()) {
        let parts = tame(parts, true);
        check(Channel::Push, "url", Escaping::Link, &parts, &world, "https://x.io/")?;
        check(Channel::Email, "body", Escaping::Link, &parts, &world, "<a href=\"https://x.io/")?;
    }

    #[test]
    fn inline_text_says_what_its_author_meant(parts in parts(false), world in world()) {
        check(Channel::Push, "contents", Escaping::Text, &parts, &world, "")?;
        check(Channel::Email, "body", Escaping::Html, &parts, &world, "<b>")?;
    }

    #[test]
    fn no_blank_of_the_event_is_printed(
        (head, filters) in expression(),
        values in proptest::collection::vec(proptest::option::of("( |\n|x){0,2}"), 2),
    ) {
        let source = format!("[{{{{ {head}{} }}}}]", filters.concat());
        let content = content(Channel::Push, "contents", &source);
        let members = ["a", "b"].into_iter().zip(&values).filter_map(|(key, value)| {
            value.as_ref().map(|value| (key.to_owned(), Value::String(value.clone())))
        });
        let data = Value::Object(members.collect());
        if let Ok(values) = content.values(&data, &Budget::default()) {
            let message = json!({"custom_data": {"all": values}});
            let user = json!({"name": "u"});
            let template = Template::parse(&content.template_fields()["contents"], &Budget::default()).expect("it is Liquid");
            let globals = [("message", &message), ("user", &user)];
            let text = template.render(&globals, Strictness::Lenient, &Budget::default()).expect("it renders").text;
            let printed = text.trim_start_matches('[').trim_end_matches(']');
            prop_assert!(!printed.trim().is_empty(), "{source} {data} {text}");
        } else {
            prop_assert!(values.iter().any(|value| value.as_ref().is_none_or(|value| value.trim().is_empty())));
        }
    }

    #[test]
    fn compiling_never_panics(source in "(\\{\\{|\\}\\}|\\{%|%\\}| |data|user|\\.|\\||if|endif|for|in|endfor|'|\"|<|>|=|a|append:|é){0,40}") {
        let _ = compile(Channel::Email, &Fields::from([("body".to_owned(), source)]), &Budget::default());
    }
}
