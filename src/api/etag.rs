//! Optimistic concurrency with `ETag` and `If-Match`.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::{Code, Problem};

/// The `ETag` header of a version.
pub(super) fn etag(version: i32) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    [(header::ETAG, value)]
}

/// The version that a change is based on: `If-Match: "3"`; 0 for a new resource, with `If-None-Match: *` or, if it
/// doesn't exist, with neither.
///
/// # Errors
/// 428 if the resource exists and no version is given, 400 if the version is invalid.
pub(super) fn wanted(headers: &HeaderMap, present: i32) -> Result<i32, Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|value| value.trim() == "*") {
        return Ok(0);
    }
    match text(header::IF_MATCH) {
        None if present == 0 => Ok(0),
        None => Err(Problem::new(
            Code::MatchRequired,
            format!("it exists: send `If-Match: \"{present}\"` to change this version"),
        )),
        Some(value) => value.trim().trim_start_matches("W/").trim_matches('"').parse().map_err(|_| {
            Problem::new(Code::BadParameter, "`If-Match` must be the `ETag` of a response, such as `\"3\"`")
        }),
    }
}
