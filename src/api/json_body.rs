//! Parses request bodies into handler types; errors become problems with a JSON pointer.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::problem::{Code, FieldError, Problem};
use super::{body, openapi, strict_json};
use crate::catalog::explain_value;
use crate::domain::objects::ObjectsOnly;

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// As for [`body::read_json`] and [`read_value`].
pub(super) async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<T, Problem> {
    read_value(strict_json::parse(&body::read_json(headers, body, limit).await?)?)
}

/// Reads a JSON value.
///
/// # Errors
/// 400 for an unknown field, with the nearest known one; 422 for an invalid or missing field.
pub(super) fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(ObjectsOnly(value)).map_err(|error| {
        let pointer = pointer(error.path());
        let words = error.into_inner().to_string();
        if let Some((name, near)) = unknown_field(&words) {
            // The path leads to the field or to its parent.
            let end = format!("/{name}");
            let place = if pointer.ends_with(&end) { pointer } else { format!("{pointer}{end}") };
            let mut error = FieldError::new(place, "unknown_field", format!("there is no field `{name}`"));
            error.hint = near.map(|near| format!("did you mean `{near}`?"));
            return Problem::fields(Code::UnknownField, vec![error]);
        }
        let missing = words.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let error = if let Some(name) = missing {
            FieldError::new(format!("{pointer}/{name}"), "required", "this field is required")
        } else {
            let (message, hint) = explain_value(&words);
            FieldError { hint, ..FieldError::new(pointer, "invalid", message) }
        };
        Problem::fields(Code::InvalidFields, vec![error])
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let step = |segment: &Segment| match segment {
        Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// The unknown field named in serde's message, and the most similar known one, if any.
fn unknown_field(words: &str) -> Option<(&str, Option<&str>)> {
    let mut quoted = words.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let name = quoted.next()?;
    let near = quoted.min_by_key(|known| strsim::damerau_levenshtein(known, name));
    Some((name, near.filter(|near| strsim::damerau_levenshtein(near, name) <= 1 + name.len() / 3)))
}

/// The query parameters that each call describes, by method and path.
static DESCRIBED: LazyLock<BTreeMap<(String, String), Vec<String>>> = LazyLock::new(|| {
    let document = serde_json::to_value(openapi::document()).unwrap_or_default();
    let mut described = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let named = parameters.filter(|parameter| parameter["in"] == "query");
            let names = named.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned)).collect();
            described.insert((method.to_uppercase(), path.clone()), names);
        }
    }
    described
});

/// Rejects unknown query parameters: a misspelt `dry_run` must not cause the real action.
/// Webhooks are exempt, since senders add their own parameters.
pub(super) async fn refuse_unknown_parameters(request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    match path.and_then(|path| unknown_parameter(request.method(), &path, request.uri().query()?)) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn unknown_parameter(method: &Method, path: &str, query: &str) -> Option<Problem> {
    if path.starts_with("/v1/hooks/") {
        return None;
    }
    let known = DESCRIBED.get(&(method.to_string(), path.to_owned()))?;
    let mut given = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    let unknown = given.find(|name| !known.contains(&name.as_ref().to_owned()))?;
    let detail = format!("unknown query parameter `{unknown}`; nothing was done");
    let error = FieldError::new(unknown.as_ref(), "unknown_parameter", detail);
    let error = if known.is_empty() {
        error
    } else {
        error.hint(format!("known parameters are {}", known.join(", ")))
    };
    Some(Problem::fields(Code::BadParameter, vec![error]))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read alone")]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read alone")]
    struct Inner {
        version: i32,
    }

    fn error(value: Value) -> (u16, FieldError) {
        let problem = read_value::<Outer>(value).unwrap_err();
        (problem.status(), problem.body().errors[0].clone())
    }

    #[test]
    fn a_wrong_field_is_pointed_at_wherever_it_stands() {
        let (status, wrong) = error(json!({"inner": [{"version": 1}, {"version": "x"}]}));
        assert_eq!((status, wrong.pointer.as_str()), (422, "/inner/1/version"));
        let (status, unknown) = error(json!({"inner": [{"versoin": 1}]}));
        assert_eq!((status, unknown.pointer.as_str()), (400, "/inner/0/versoin"));
        assert_eq!(unknown.hint.as_deref(), Some("did you mean `version`?"));
        let (status, missing) = error(json!({"inner": [{}]}));
        assert_eq!(
            (status, missing.pointer.as_str(), missing.code.as_str()),
            (422, "/inner/0/version", "required")
        );
    }

    #[test]
    fn a_list_is_no_object_wherever_one_is_expected() {
        let (status, wrong) = error(json!([[{"version": 1}]]));
        assert_eq!((status, wrong.pointer.as_str()), (422, ""));
        assert_eq!(wrong.detail, "invalid type: a list, expected an object");
        let (status, wrong) = error(json!({"inner": [[1]]}));
        assert_eq!((status, wrong.pointer.as_str()), (422, "/inner/0"));
        assert!(read_value::<Outer>(json!({"inner": [{"version": 1}]})).is_ok());
    }

    #[test]
    fn a_dry_run_that_a_call_does_not_have_is_refused() {
        let refused = |method, path: &str, query| unknown_parameter(&method, path, query).is_some();
        assert!(refused(Method::POST, "/v1/templates/{key}/rollback", "dry_run=true"));
        assert!(!refused(Method::POST, "/v1/templates/{key}/publish", "dry_run=true"));
        assert!(!refused(Method::POST, "/v1/events", "dry_run=true"));
        assert!(!refused(Method::POST, "/v1/hooks/{source}", "shop=1"));
    }
}
