//! Reading bodies: JSON by its header, to a bound.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;

use super::problem::{Code, Problem};

/// How much of a body that is too large is still read, so that the sender gets to read the answer.
const DRAINED: usize = 1024 * 1024;

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// 415 when it is not JSON by its header or is encoded, 413 when it is too large, 400 when it breaks off.
pub(super) async fn read_json(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    check_type(headers)?;
    let mut bytes = Vec::new();
    let mut seen = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(Code::BadJson, "the body broke off"))?;
        seen += chunk.len();
        if seen > limit + DRAINED {
            break;
        }
        if seen <= limit {
            bytes.extend_from_slice(&chunk);
        } else {
            bytes = Vec::new();
        }
    }
    if seen > limit {
        return Err(Problem::new(Code::TooLarge, format!("the body has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let is_json = text(header::CONTENT_TYPE).is_some_and(|value| {
        let mut parts = value.split(';').map(str::trim);
        let is_json = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("application/json"));
        is_json && parts.all(|p| p.is_empty() || p.eq_ignore_ascii_case("charset=utf-8"))
    });
    if !is_json {
        let detail = "send `Content-Type: application/json`, in UTF-8";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    match headers.get(header::CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => Err(Problem::new(Code::UnsupportedMediaType, "send the body without Content-Encoding")),
    }
}
