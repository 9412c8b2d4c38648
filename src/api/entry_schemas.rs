//! Schemas of catalog entries in responses: as written, plus name, version and references.

use serde_json::{Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::catalog::forms::{EventTypeForm, RuleForm};

/// An event type in a response.
pub(super) struct EventTypeBody;

impl PartialSchema for EventTypeBody {
    fn schema() -> RefOr<Schema> {
        let rules = json!({"type": "object", "properties": {"rules": {"type": "array", "items": {"type": "string"}}},
            "required": ["rules"], "description": "The keys of the rules that it triggers."});
        as_read::<EventTypeForm>(&[("name", json!({"type": "string"})), ("used_by", rules)])
    }
}

impl ToSchema for EventTypeBody {}

/// A rule in a response.
pub(super) struct RuleBody;

impl PartialSchema for RuleBody {
    fn schema() -> RefOr<Schema> {
        let does = json!({"type": "string", "enum": ["send", "tag", "track", "cancel"]});
        as_read::<RuleForm>(&[("key", json!({"type": "string"})), ("does", does)])
    }
}

impl ToSchema for RuleBody {}

/// The schema of `T` with the additional properties of responses.
fn as_read<T: PartialSchema>(more: &[(&str, Value)]) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut form)) = T::schema() else { return T::schema() };
    let version = json!({"type": "integer", "format": "int32"});
    for (name, schema) in more.iter().chain(&[("version", version)]) {
        if let Ok(schema) = serde_json::from_value::<Schema>(schema.clone()) {
            form.properties.insert((*name).to_owned(), RefOr::T(schema));
            form.required.push((*name).to_owned());
        }
    }
    RefOr::T(Schema::Object(form))
}
