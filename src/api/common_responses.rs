//! The common parts of all operations in the OpenAPI description: possible problems, headers that are
//! read, and authentication. Handlers describe only what is specific to them.

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};

/// Operations that require `If-Match`.
const NAME_A_VERSION: [&str; 12] = [
    "put_app",
    "put_source",
    "put_event_type",
    "delete_event_type",
    "put_partial",
    "delete_partial",
    "put_rule",
    "delete_rule",
    "change_template",
    "put_draft",
    "delete_draft",
    "publish_draft",
];
/// Operations that support `Idempotency-Key`.
const TAKE_A_REQUEST_KEY: [&str; 4] = ["post_event", "post_batch", "create_replay", "replay_delivery"];
/// Operations that need no key.
const PUBLIC: [&str; 4] = ["healthz", "readyz", "metrics", "receive"];

/// Adds the common parts to each operation.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (is_read, operation) in operations(item) {
            complete_operation(path, is_read, operation);
        }
    }
}

/// The operations of a path, and whether each is read-only.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let reads = get.iter_mut().map(|operation| (true, operation));
    let writes = [put, post, delete, patch].into_iter().filter_map(Option::as_mut);
    reads.chain(writes.map(|operation| (false, operation)))
}

fn complete_operation(path: &str, is_read: bool, operation: &mut Operation) {
    let id = operation.operation_id.clone().unwrap_or_default();
    if PUBLIC.contains(&id.as_str()) {
        operation.security = Some(vec![SecurityRequirement::default()]);
    }
    let names_version = NAME_A_VERSION.contains(&id.as_str());
    let takes_key = TAKE_A_REQUEST_KEY.contains(&id.as_str());
    let parameters = operation.parameters.get_or_insert_default();
    if names_version {
        parameters.push(header(
            "If-Match",
            "The `ETag` of the version to change, such as `\"3\"`; required if the resource exists.",
        ));
    }
    if takes_key {
        parameters
            .push(header("Idempotency-Key", "Repeating a request with the same key has no further effect."));
    }
    if id == "healthz" {
        return;
    }
    let mut statuses =
        vec![(503, "The database is unavailable or Herald is overloaded: retry after `Retry-After`")];
    if path.starts_with("/v1/") {
        statuses.push((400, "Part of the request can't be parsed; see `errors`"));
        statuses.push((401, "Missing or invalid key or signature"));
        statuses.push((500, "Internal error; the log contains the request id"));
        if id != "receive" {
            statuses.push((403, "The key is not allowed to do this"));
        }
    }
    if path.contains('{') {
        statuses.push((404, "Not found"));
    }
    if !is_read {
        statuses.push((409, "Conflict with the current state; see `code`"));
    }
    if names_version {
        statuses.push((412, "Changed in the meantime: read it again"));
        statuses.push((428, "It exists: send its version in `If-Match`"));
    }
    if operation.request_body.is_some() || !is_read {
        statuses.push((408, "The body did not arrive in time"));
        statuses.push((413, "The body is too large"));
        statuses.push((415, "Unsupported content type or encoding"));
        statuses.push((422, "Missing or invalid fields; see `errors`"));
    }
    for (status, description) in statuses {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| problem(description));
    }
    for response in
        operation.responses.responses.iter_mut().filter(|(status, _)| is_error(status)).map(|(_, r)| r)
    {
        if let RefOr::T(response) = response
            && response.content.is_empty()
        {
            *response = problem_response(&response.description);
        }
    }
}

fn is_error(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

fn problem(description: &str) -> RefOr<Response> {
    RefOr::T(problem_response(description))
}

fn problem_response(description: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

fn header(name: &str, description: &str) -> RefOr<Parameter> {
    let text = Schema::Object(ObjectBuilder::new().schema_type(Type::String).build());
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(text));
    RefOr::T(parameter.build())
}

#[cfg(test)]
mod tests {
    use super::super::openapi::document;
    use super::*;

    #[test]
    fn every_operation_that_is_named_here_exists() {
        let mut document = document();
        let known: Vec<String> = document
            .paths
            .paths
            .values_mut()
            .flat_map(|item| {
                operations(item)
                    .filter_map(|(_, operation)| operation.operation_id.clone())
                    .collect::<Vec<_>>()
            })
            .collect();
        for name in NAME_A_VERSION.iter().chain(&TAKE_A_REQUEST_KEY).chain(&PUBLIC) {
            assert!(known.iter().any(|known| known == name), "{name}: {known:?}");
        }
    }
}
