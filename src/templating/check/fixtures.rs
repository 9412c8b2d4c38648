//! A catalog entry in which nothing is wrong, for tests to break one thing in.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Copy, EventShape, Finding, Observed, check};
use crate::domain::channel::Channel;
use crate::domain::template::Fields;

/// One template with one event type that leads to it.
#[derive(Debug, Clone)]
pub struct World {
    pub channel: Channel,
    pub is_inline: bool,
    pub default_locale: String,
    pub contents: BTreeMap<String, Fields>,
    pub options: Map<String, Value>,
    pub schema: Value,
    pub sensitive: Vec<String>,
    pub samples: Map<String, Value>,
    pub observed: Option<Observed>,
}

impl World {
    /// A push, an email or a text message in English and German, about an order.
    pub fn sound(channel: Channel) -> Self {
        let fields: &[(&str, &str)] = match channel {
            Channel::Push => &[
                (
                    "contents",
                    "Hi {{ data.name | default: \"there\" }}, order {{ data.order_id }} comes on {{ data.eta | date: \"%-d %B\" }}.",
                ),
                ("headings", "Your order"),
                ("url", "https://shop.example/orders/{{ data.order_id }}"),
            ],
            Channel::Email => &[
                ("subject", "Order {{ data.order_id }}"),
                (
                    "body",
                    "<p>{% for item in data.items %}{{ item.title }}: {{ item.price | times: 2 }} {% else %}nothing{% endfor %}</p>\n<a href=\"https://shop.example\">Shop</a><img src=\"https://shop.example/a.png\">",
                ),
            ],
            Channel::Sms => &[("contents", "Order {{ data.order_id }} is on its way.")],
        };
        let fields: Fields =
            fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let sample = json!({
            "order_id": "1001", "name": "Anna", "eta": "2026-11-25", "paid": true, "count": 2,
            "note": "soon", "gift": null, "prices": {"EUR": 9.5}, "extra": 1,
            "code": "314159", "customer": {"city": "Wien", "phone": "+43"},
            "items": [{"title": "Tea", "price": 4.5, "pin": "1"}],
        });
        Self {
            channel,
            is_inline: false,
            default_locale: "en".to_owned(),
            contents: [("en".to_owned(), fields.clone()), ("de".to_owned(), fields)].into(),
            options: Map::new(),
            schema: schema(),
            sensitive: vec!["/code".to_owned(), "/customer/phone".to_owned(), "/items/0/pin".to_owned()],
            samples: [("usual".to_owned(), sample)].into_iter().collect(),
            observed: None,
        }
    }

    /// The same with other text in a field of the default locale.
    pub fn with(mut self, field: &str, text: &str) -> Self {
        self.contents.entry("en".to_owned()).or_default().insert(field.to_owned(), text.to_owned());
        self
    }

    /// What is found.
    pub fn check(&self) -> Vec<Finding> {
        let copy = Copy {
            channel: self.channel,
            is_inline: self.is_inline,
            default_locale: &self.default_locale,
            contents: &self.contents,
            options: &self.options,
        };
        let event = EventShape {
            name: "order.shipped",
            schema: &self.schema,
            sensitive: &self.sensitive,
            samples: &self.samples,
            observed: self.observed,
        };
        check(&copy, &[event], &crate::domain::budget::Budget::default())
    }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "order_id": {"type": "string", "pattern": "\\S"},
            "name": {"type": "string"},
            "note": {"type": "string", "minLength": 1},
            "eta": {"type": "string", "format": "date"},
            "paid": {"type": "boolean"},
            "count": {"type": "integer", "minimum": 1},
            "code": {"type": "string", "pattern": "^[0-9]{6}$"},
            "state": {"enum": ["packed", "shipped"]},
            "gift": {"type": ["string", "null"], "pattern": "\\S"},
            "customer": {"$ref": "#/$defs/person"},
            "prices": {"type": "object", "additionalProperties": {"type": "number"}},
            "extra": {},
            "items": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "title": {"type": "string", "pattern": "\\S"},
                    "price": {"type": "number"},
                    "colour": {"type": "string", "pattern": "\\S"},
                    "pin": {"type": "string", "pattern": "\\S"}
                },
                "required": ["title", "price", "pin"]
            }}
        },
        "required": ["order_id", "note", "eta", "paid", "count", "code", "customer", "items", "gift", "prices", "extra"],
        "$defs": {"person": {
            "type": "object",
            "properties": {"city": {"type": "string", "pattern": "\\S"}, "phone": {"type": "string", "pattern": "\\S"}},
            "required": ["city", "phone"]
        }}
    })
}
