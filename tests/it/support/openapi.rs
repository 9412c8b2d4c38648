//! OneSignal's own description of its API, checked against every call that the tests make and every answer of the sandbox.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use herald::sandbox::{Exchange, Observer};
use jsonschema::Validator;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

/// A place where OneSignal's documentation says something else than its description; contract.md wins.
struct Difference {
    /// `POST /apps/{app_id}/users`, or a part of it.
    call: &'static str,
    what: What,
    why: &'static str,
}

enum What {
    /// A status that the description doesn't have; its answers look like those of the other.
    Status(u16, &'static str),
    /// A body that its schema would refuse, and where in it.
    Request(&'static str),
    Answer(&'static str),
}

/// All of them, in one place.
const DIFFERENCES: &[Difference] = &[
    Difference {
        call: "POST /apps/{app_id}/custom_events",
        what: What::Status(202, "200"),
        why: "custom events are accepted with 202",
    },
    Difference {
        call: "POST /notifications/{notification_id}/history",
        what: What::Request("\"id\" is a required property"),
        why: "the description requires an `id` in a body that has none",
    },
    Difference {
        call: "GET /apps/{app_id}/segments",
        what: What::Status(200, "201"),
        why: "a list is read with 200",
    },
    Difference {
        call: "DELETE /apps/{app_id}/users/by/{alias_label}/{alias_id}",
        what: What::Status(202, "200"),
        why: "a deletion is accepted with 202",
    },
    Difference {
        call: "POST /templates",
        what: What::Request("\"contents\" is a required property"),
        why: "an email's template has a subject and a body instead",
    },
    Difference {
        call: "PATCH /templates",
        what: What::Request("null is not of type"),
        why: "null takes a field away",
    },
    Difference {
        call: "/templates",
        what: What::Answer("/channel \"SMS\""),
        why: "a template's channel is SMS, in capitals",
    },
    Difference {
        call: "/templates",
        what: What::Answer("null is not of type"),
        why: "the content that a channel doesn't use is null",
    },
    Difference {
        call: "POST /notifications",
        what: What::Request("/throttle_rate_per_minute"),
        why: "a rate is a number as well as a text",
    },
    Difference {
        call: "/apps/{app_id}/",
        what: What::Answer("\"Rate Limit Exceeded\""),
        why: "users and subscriptions say 429 in the structured envelope",
    },
    Difference {
        call: "GET /notifications",
        what: What::Answer("/throttle_rate_per_minute"),
        why: "the description wants it to be a text and a number at once",
    },
    Difference {
        call: "",
        what: What::Request("/filters"),
        why: "a filter fits both halves of a `oneOf` that names no required field",
    },
    Difference {
        call: "POST /notifications",
        what: What::Request("/send_after"),
        why: "a time without an offset is taken as UTC-11",
    },
];

/// The description as it is kept beside its licence.
const DESCRIPTION: &str = include_str!("../onesignal/openapi.yaml");

static OPENAPI: LazyLock<OpenApi> = LazyLock::new(OpenApi::read);

/// What did not fit, as far as it was seen; it fails the test at its end.
#[derive(Default)]
pub struct Witness(Arc<Mutex<Vec<String>>>);

impl Drop for Witness {
    fn drop(&mut self) {
        let found = self.0.lock();
        if !std::thread::panicking() {
            assert!(found.is_empty(), "OneSignal's description says otherwise:\n{}", found.join("\n"));
        }
    }
}

impl Witness {
    /// Holds every exchange of a sandbox against the description.
    pub fn observer(&self) -> Observer {
        let seen = self.0.clone();
        Observer(Arc::new(move |exchange| {
            let found = OPENAPI.check(exchange);
            seen.lock().extend(found);
        }))
    }
}

/// The differences as rows of a table.
pub fn differences() -> String {
    let rows = DIFFERENCES.iter().map(|difference| {
        let what = match difference.what {
            What::Status(status, described) => format!("{status} instead of {described}"),
            What::Request(part) => format!("the request: {part}"),
            What::Answer(part) => format!("the answer: {part}"),
        };
        let call = if difference.call.is_empty() { "any" } else { difference.call };
        format!("| `{call}` | {what} | {} |\n", difference.why)
    });
    format!("| call | differs in | because |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// The validators of one operation.
#[derive(Default)]
struct Operation {
    request: Option<Validator>,
    answers: HashMap<String, Option<Validator>>,
}

struct OpenApi {
    /// By `POST /notifications/{}`: parameters have other names here and there.
    operations: HashMap<String, (String, Operation)>,
}

impl OpenApi {
    fn read() -> Self {
        let mut description: Value = serde_saphyr::from_str(DESCRIPTION).expect("YAML 1.2");
        to_json_schema(&mut description);
        let components = description["components"].clone();
        let mut operations = HashMap::new();
        for (path, methods) in description["paths"].as_object().expect("paths") {
            let path = path.split('?').next().unwrap_or_default();
            for (method, operation) in methods.as_object().expect("methods") {
                let name = format!("{} {path}", method.to_uppercase());
                let key = nameless(&name);
                operations.insert(key, (name, Operation::of(operation, &components)));
            }
        }
        Self { operations }
    }

    fn check(&self, exchange: &Exchange<'_>) -> Vec<String> {
        let key = nameless(&format!("{} {}", exchange.method, exchange.route));
        let Some((name, operation)) = self.operations.get(&key) else {
            return vec![format!("{key} is not described")];
        };
        let mut found = operation.check_answer(name, exchange);
        // What was refused may be as wrong as it likes.
        if exchange.status < 300 {
            found.extend(operation.check_request(name, exchange));
        }
        found
    }
}

impl Operation {
    fn of(operation: &Value, components: &Value) -> Self {
        let validator = |holder: &Value| {
            let schema = holder.pointer("/content/application~1json/schema")?;
            let mut whole = json!({"components": components, "allOf": [schema]});
            whole["$schema"] = json!("http://json-schema.org/draft-07/schema#");
            Some(jsonschema::validator_for(&whole).expect("a schema"))
        };
        let answers = operation["responses"].as_object().cloned().unwrap_or_default();
        Self {
            request: validator(&operation["requestBody"]),
            answers: answers.iter().map(|(status, answer)| (status.clone(), validator(answer))).collect(),
        }
    }

    fn check_request(&self, name: &str, exchange: &Exchange<'_>) -> Vec<String> {
        let Some(validator) = &self.request else { return Vec::new() };
        let body = if exchange.request.is_empty() { b"{}" } else { exchange.request };
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
        let errors = validator.iter_errors(&body).map(|error| format!("{} {error}", error.instance_path()));
        let errors = errors.filter(|error| !is_known(name, error, true));
        errors.map(|error| format!("{name}, the request: {error}")).collect()
    }

    fn check_answer(&self, name: &str, exchange: &Exchange<'_>) -> Vec<String> {
        let status = exchange.status;
        let other = DIFFERENCES.iter().find_map(|difference| match difference.what {
            What::Status(of, like) if of == status && difference.call == name => Some(like.to_owned()),
            What::Status(..) | What::Request(_) | What::Answer(_) => None,
        });
        let described = other.unwrap_or_else(|| status.to_string());
        let validator = match self.answers.get(&described) {
            Some(validator) => validator,
            None if status >= 400 => &self.answers["default"],
            None => return vec![format!("{name} does not answer {status}")],
        };
        let Some(validator) = validator else { return Vec::new() };
        // An empty body and a page of HTML are among OneSignal's ways to refuse.
        if status >= 400 && (exchange.answer.is_empty() || exchange.content_type.starts_with("text/html")) {
            return Vec::new();
        }
        let Ok(body) = serde_json::from_slice::<Value>(exchange.answer) else {
            return vec![format!("{name}, {status}: the answer is not JSON")];
        };
        let errors = validator.iter_errors(&body).map(|error| format!("{} {error}", error.instance_path()));
        let errors = errors.filter(|error| !is_known(name, error, false));
        errors.map(|error| format!("{name}, {status}, the answer: {error}")).collect()
    }
}

fn is_known(name: &str, error: &str, is_request: bool) -> bool {
    DIFFERENCES.iter().any(|difference| {
        let part = match difference.what {
            What::Request(part) if is_request => part,
            What::Answer(part) if !is_request => part,
            What::Request(_) | What::Answer(_) | What::Status(..) => return false,
        };
        name.contains(difference.call) && error.contains(part)
    })
}

/// The name of a call without the names of its parameters.
fn nameless(name: &str) -> String {
    let pieces = name.split('/').map(|piece| if piece.starts_with('{') { "{}" } else { piece });
    pieces.collect::<Vec<_>>().join("/")
}

/// OpenAPI 3.0 says `nullable` where JSON Schema says `null` is one of the types.
fn to_json_schema(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(to_json_schema);
            if fields.remove("nullable") == Some(Value::Bool(true)) {
                let schema: Map<String, Value> = std::mem::take(fields);
                fields.insert("anyOf".to_owned(), json!([schema, {"type": "null"}]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(to_json_schema),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
