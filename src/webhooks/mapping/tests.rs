//! Mappings as their authors meet them.

use serde_json::json;

use super::*;
use crate::webhooks::Headers;

fn settings(text: &str) -> SourceSettings {
    toml::from_str(text).unwrap()
}

const SHOP: &str = r#"
    [webhook]
    auth = "standard_webhooks"
    [[mapping]]
    when = "body.topic == 'orders/fulfilled'"
    type = "order.shipped"
    id = "body.id"
    recipient = {external_id = "body.customer.id"}
    data = {order_id = "string(body.number)", carrier = "body.shipping.company", name = "body.customer.?name.orValue(null)"}
    [[mapping]]
    when = "headers['x-topic'].startsWith('carts/')"
    type = "'cart.' + body.state"
    data = "body.cart"
    recipients = "body.watchers.map(w, {'external_id': w})"
"#;

#[test]
fn the_first_mapping_that_holds_makes_the_event() {
    let webhook = Webhook::new(&settings(SHOP), &Budget::default()).unwrap();
    let body = json!({"topic": "orders/fulfilled", "id": 77, "number": 1001, "customer": {"id": 42},
        "shipping": {"company": "DHL"}});
    let event = json!({"type": "order.shipped", "id": "77", "recipient": {"external_id": "42"},
        "data": {"order_id": "1001", "carrier": "DHL"}});
    let mapped = webhook.map(&Body::from(body), &Headers::new(), Some("msg_1"), &Budget::default());
    assert_eq!(mapped, Mapped::Event { mapping: 0, event: event.as_object().unwrap().clone() });

    let headers = Headers::from(
        [("x-topic", "carts/left"), ("webhook-id", "msg_2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    let body = json!({"state": "left", "cart": {"items": 2}, "watchers": ["a", "b"]});
    let Mapped::Event { mapping: 1, event } =
        webhook.map(&Body::from(body), &headers, None, &Budget::default())
    else {
        panic!()
    };
    assert_eq!((&event["type"], &event["id"]), (&json!("cart.left"), &json!("msg_2")));
    assert_eq!(event["recipients"], json!([{"external_id": "a"}, {"external_id": "b"}]));
}

#[test]
fn a_body_of_another_kind_is_unmatched_and_a_hole_names_its_field() {
    let webhook = Webhook::new(&settings(SHOP), &Budget::default()).unwrap();
    let map = |body: Value| webhook.map(&Body::from(body), &Headers::new(), None, &Budget::default());
    assert_eq!(map(json!({"topic": "refunds"})), Mapped::Unmatched { detail: String::new() });
    assert!(matches!(map(json!([])), Mapped::Unmatched { detail } if detail.contains("mapping[0].when")));
    let failed = map(json!({"topic": "orders/fulfilled", "id": 1, "number": 2, "customer": {"id": 3}}));
    let Mapped::Failed { mapping: 0, field, detail } = failed else { panic!("{failed:?}") };
    assert_eq!((field.as_str(), detail.as_str()), ("data.carrier", "the data has no `body.shipping`"));
}

#[test]
fn what_makes_no_sense_is_said_all_at_once_with_its_place() {
    let wrong = settings(
        r#"
        allowed_types = ["Order Shipped"]
        [webhook]
        auth = "hmac"
        [[mapping]]
        when = "body.total > "
        type = "order.shipped"
        recipient = {external_id = "customer.id", email = "body.mail"}
        [[mapping]]
        type = "body.kind"
        id = "bdy.id"
        data = {total = 3, name = "lower(body.name)"}
        sequence = "'a'"
        "#,
    );
    let problems = Webhook::new(&wrong, &Budget::default()).unwrap_err();
    let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(
        places,
        [
            "allowed_types[0]",
            "webhook.header",
            "mapping[0].id",
            "mapping[0].recipient",
            "mapping[0].when",
            "mapping[1].data.name",
            "mapping[1].data.total",
            "mapping[1].sequence",
            "mapping[1].id",
        ]
    );
    assert_eq!(problems[8].hint.as_deref(), Some("did you mean `body`?"));
}

/// A mapping of everything that a sender may get wrong.
fn mapped(text: &str, mapping: &str) -> Mapped {
    let settings =
        settings(&format!("[webhook]\nauth = \"bearer\"\n[[mapping]]\ntype = \"order.shipped\"\n{mapping}"));
    let webhook = Webhook::new(&settings, &Budget::default()).unwrap();
    let body = Body::read(text.as_bytes(), &Headers::new()).unwrap();
    webhook.map(&body, &Headers::new(), None, &Budget::default())
}

#[test]
fn what_is_in_doubt_matters_only_where_it_is_read() {
    let text = r#"{"id":"1","user":"u","note":{"a":1,"a":2},"list":[{"b":1,"b":2}]}"#;
    let reads = |mapping: &str| match mapped(text, mapping) {
        Mapped::Event { .. } => "event".to_owned(),
        Mapped::Failed { field, detail, .. } => format!("{field}: {detail}"),
        Mapped::Unmatched { detail } => detail,
    };
    assert_eq!(reads("id = \"body.id\"\nrecipient = {external_id = \"body.user\"}"), "event");
    assert_eq!(
        reads("id = \"body.id\"\ndata = {n = \"body.note.a\"}"),
        "data.n: `body.note.a` is a duplicate key in an object"
    );
    assert_eq!(
        reads("id = \"body.id\"\ndata = \"body\""),
        "data: `body.note.a` is a duplicate key in an object"
    );
    assert_eq!(
        reads("id = \"body.id\"\ndata = {n = \"body.list[0].b\"}"),
        "data.n: `body.list.0.b` is a duplicate key in an object"
    );
    assert_eq!(
        reads("id = \"body.id\"\nwhen = \"has(body.note.a)\""),
        "mapping[0].when: `body.note.a` is a duplicate key in an object"
    );
}

#[test]
fn a_broken_text_is_data_and_never_a_name() {
    let text = r#"{"id":"a\ud800","note":"cut \ud83d","user":12345678901234567890123,"big":18446744073709551615,"n":42.0}"#;
    let event = |mapping: &str| match mapped(text, mapping) {
        Mapped::Event { event, .. } => Value::Object(event),
        other => panic!("{other:?}"),
    };
    let data = event("id = \"body.n\"\ndata = {note = \"body.note\"}");
    assert_eq!((&data["id"], &data["data"]["note"]), (&json!("42"), &json!("cut \u{fffd}")));
    for (path, id) in [("body.user", "12345678901234567890123"), ("body.big", "18446744073709551615")] {
        let event = event(&format!("id = \"'1'\"\nrecipient = {{external_id = \"{path}\"}}"));
        assert_eq!(event["recipient"], json!({ "external_id": id }));
    }
    for mapping in ["id = \"body.id\"", "id = \"'1'\"\nrecipient = {external_id = \"body.note\"}"] {
        assert!(
            matches!(mapped(text, mapping), Mapped::Failed { detail, .. } if detail.contains("is corrupted"))
        );
    }
    let nul = "id = \"'1'\"\ndata = {a = \"'\\\\u0000'\"}";
    assert!(matches!(mapped(text, nul), Mapped::Failed { detail, .. } if detail.contains("NUL")));
}

#[test]
fn a_locale_is_understood_or_left_to_the_source_and_never_a_reason_to_refuse() {
    for (locale, wanted) in [
        (json!("pt_BR"), json!("pt-BR")),
        (json!("en_us"), json!("en-US")),
        (json!(""), Value::Null),
        (json!("German (Germany)"), Value::Null),
        (json!(7), Value::Null),
        (Value::Null, Value::Null),
    ] {
        let text = json!({ "locale": locale }).to_string();
        let Mapped::Event { event, .. } = mapped(&text, "id = \"'1'\"\nlocale = \"body.locale\"") else {
            panic!("{locale}");
        };
        assert_eq!(event.get("locale").cloned().unwrap_or_default(), wanted, "{locale}");
    }
}

#[test]
fn an_event_is_nested_no_deeper_than_a_posted_one() {
    let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let mapping = "id = \"'1'\"\ndata = \"body\"";
    assert!(matches!(mapped(&nested(30), mapping), Mapped::Event { .. }));
    assert!(
        matches!(mapped(&nested(40), mapping), Mapped::Failed { detail, .. } if detail.contains("too deep"))
    );
    assert!(matches!(mapped(&nested(40), "id = \"'1'\""), Mapped::Event { .. }));
}
