//! Reading bodies: JSON by its header, to a bound.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;

use super::problem::{Code, Problem};

/// How much of a body that is too large is still read, so that the sender gets to read the answer.
const DRAINED: usize = 1024 * 1024;

/// What a body is, by its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// One CloudEvent with its attributes in the body.
    CloudEvent,
    /// A list of them.
    CloudEventBatch,
    /// A JSON document a line.
    Lines,
}

impl Media {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::CloudEvent => "application/cloudevents+json",
            Self::CloudEventBatch => "application/cloudevents-batch+json",
            Self::Lines => "application/x-ndjson",
        }
    }

    fn is_named(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name())
            || (self == Self::Lines && name.eq_ignore_ascii_case("application/ndjson"))
    }
}

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// 415 when it is not JSON by its header or is encoded, 413 when it is too large, 400 when it breaks off.
pub(super) async fn read_json(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    media_of(headers, &[Media::Json])?;
    read_bytes(headers, body, limit).await
}

/// Reads a body of at most `limit` bytes that may be any of these; the first of them is named when it is none.
///
/// # Errors
/// As for [`read_json`].
pub(super) async fn read_any(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    known: &[Media],
) -> Result<(Media, Vec<u8>), Problem> {
    let media = media_of(headers, known)?;
    Ok((media, read_bytes(headers, body, limit).await?))
}

/// Reads a body of at most `limit` bytes, whatever its type.
///
/// # Errors
/// 415 when it is encoded, 413 when it is too large, 408 when it takes too long, 400 when it breaks off.
pub(super) async fn read_bytes(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    refuse_encoding(headers)?;
    let mut bytes = Vec::new();
    let mut seen = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broken_off(&error))?;
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

/// Why a body ended before its end.
fn broken_off(error: &axum::Error) -> Problem {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::TimedOut) {
            return Problem::new(Code::BodyTimeout, "the body did not arrive in time; send it again");
        }
        cause = error.source();
    }
    Problem::new(Code::BadJson, "the body broke off")
}

fn media_of(headers: &HeaderMap, known: &[Media]) -> Result<Media, Problem> {
    let found = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).and_then(|value| {
        let mut parts = value.split(';').map(str::trim);
        let name = parts.next()?;
        let media = known.iter().find(|media| media.is_named(name))?;
        parts.all(|p| p.is_empty() || p.eq_ignore_ascii_case("charset=utf-8")).then_some(*media)
    });
    found.ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|media| format!("`{}`", media.name())).collect();
        let detail = format!("send `Content-Type:` {}, in UTF-8", names.join(" or "));
        Problem::new(Code::UnsupportedMediaType, detail)
    })
}

fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => Err(Problem::new(Code::UnsupportedMediaType, "send the body without Content-Encoding")),
    }
}
