//! `ETag` and `If-Match`: who changes something says which version they have seen.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::{Code, Problem};

/// The header that names a version.
pub(super) fn etag(version: i32) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    [(header::ETAG, value)]
}

/// The version that a change is meant for: `If-Match: "3"`; 0, for something new, with `If-None-Match: *` or, where
/// there is nothing yet, with neither.
///
/// # Errors
/// 428 when something is there and no version is named, 400 when what is named is none.
pub(super) fn wanted(headers: &HeaderMap, present: i32) -> Result<i32, Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|value| value.trim() == "*") {
        return Ok(0);
    }
    match text(header::IF_MATCH) {
        None if present == 0 => Ok(0),
        None => Err(Problem::new(
            Code::MatchRequired,
            format!("it exists: send `If-Match: \"{present}\"` to change the version that you have seen"),
        )),
        Some(value) => value.trim().trim_start_matches("W/").trim_matches('"').parse().map_err(|_| {
            Problem::new(Code::BadParameter, "`If-Match` takes the `ETag` of an answer, such as `\"3\"`")
        }),
    }
}
