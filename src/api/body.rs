//! Reading request bodies with a content type and a size limit.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;

use super::problem::{Code, Problem};

/// How much of a too large body is still read, so that the sender can receive the response.
const DRAINED: usize = 1024 * 1024;

/// The content type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// One CloudEvent with its attributes in the body.
    CloudEvent,
    /// A list of CloudEvents.
    CloudEventBatch,
    /// One JSON document per line.
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

    /// Whether a media type (lower case, without parameters) is this one.
    fn is_named(self, name: &str) -> bool {
        let is_cloudevent = name.starts_with("application/cloudevents");
        match self {
            Self::Json if is_cloudevent => false,
            Self::Json => ["application/json", "text/json"].contains(&name) || name.ends_with("+json"),
            Self::Lines => ["application/x-ndjson", "application/ndjson"].contains(&name),
            Self::CloudEvent | Self::CloudEventBatch => name == self.name(),
        }
    }
}

/// The media type of a `Content-Type` in lower case, and its charset.
pub(super) fn content_type(headers: &HeaderMap) -> Option<(String, Option<String>)> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let mut parts = value.split(';').map(str::trim);
    let name = parts.next()?.to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    Some((name, charset))
}

/// Whether text in this charset is valid as UTF-8.
fn is_utf8(charset: &str) -> bool {
    ["utf-8", "utf8", "us-ascii", "ascii", ""].contains(&charset)
}

/// Reads a JSON body of at most `limit` bytes.
///
/// # Errors
/// 415 when it is not JSON by its header or is encoded, 413 when it is too large, 400 when it is incomplete.
pub(super) async fn read_json(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    Ok(read_any(headers, body, limit, &[Media::Json]).await?.1)
}

/// Reads a body of at most `limit` bytes in any of these types; errors suggest the first one.
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
    Ok((media, without_mark(read_bytes(headers, body, limit).await?)))
}

/// Reads a CloudEvent's data: JSON, with an optional content type, since several libraries omit it.
///
/// # Errors
/// As for [`read_json`].
pub(super) async fn read_data(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    if headers.contains_key(header::CONTENT_TYPE) {
        return read_json(headers, body, limit).await;
    }
    Ok(without_mark(read_bytes(headers, body, limit).await?))
}

/// Strips the byte order mark that some systems write before UTF-8.
fn without_mark(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(..3);
    }
    bytes
}

/// The exact bytes that a webhook sent.
pub(super) struct Sent {
    /// As received. Senders sign either this or `expanded`.
    pub wire: Vec<u8>,
    /// The decompressed body, if it was sent as gzip.
    pub expanded: Option<Vec<u8>>,
}

/// Reads a webhook's body of at most `limit` bytes, with or without gzip.
///
/// # Errors
/// 415 for another encoding, 413 when it is too large, expanded or not; 400 and 408 as for [`read_json`].
pub(super) async fn read_sent(headers: &HeaderMap, body: Body, limit: usize) -> Result<Sent, Problem> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(axum::http::HeaderValue::as_bytes);
    let is_gzip = encoding
        .is_some_and(|name| name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip"));
    if !is_gzip {
        return Ok(Sent { wire: read_bytes(headers, body, limit).await?, expanded: None });
    }
    let wire = read_to(body, limit).await?;
    let mut expanded = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(wire.as_slice()).take(bound).read_to_end(&mut expanded);
    read.map_err(|_| Problem::new(Code::BadJson, "the body is not valid gzip"))?;
    if expanded.len() > limit {
        return Err(Problem::new(
            Code::TooLarge,
            format!("the decompressed body is larger than {limit} bytes"),
        ));
    }
    Ok(Sent { wire, expanded: Some(expanded) })
}

/// Reads a body of at most `limit` bytes, whatever its type.
///
/// # Errors
/// 415 when it is encoded, 413 when it is too large, 408 when it takes too long, 400 when it is incomplete.
pub(super) async fn read_bytes(headers: &HeaderMap, body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    refuse_encoding(headers)?;
    read_to(body, limit).await
}

async fn read_to(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
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
        return Err(Problem::new(Code::TooLarge, format!("the body is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Why a body was incomplete.
fn broken_off(error: &axum::Error) -> Problem {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::TimedOut) {
            return Problem::new(Code::BodyTimeout, "the body did not arrive in time; send it again");
        }
        cause = error.source();
    }
    Problem::new(Code::BadJson, "the body was incomplete")
}

fn media_of(headers: &HeaderMap, known: &[Media]) -> Result<Media, Problem> {
    let found = content_type(headers);
    let media = found.as_ref().and_then(|(name, _)| known.iter().find(|media| media.is_named(name)));
    let charset =
        found.as_ref().and_then(|(_, charset)| charset.as_deref()).filter(|charset| !is_utf8(charset));
    let refuse = |detail: String| Err(Problem::new(Code::UnsupportedMediaType, detail));
    match (media, charset) {
        (Some(media), None) => Ok(*media),
        (Some(_), Some(charset)) => refuse(format!("the body is in `{charset}`; send it in UTF-8")),
        (None, _) => {
            let names: Vec<String> = known.iter().map(|media| format!("`{}`", media.name())).collect();
            let elsewhere = match found.as_ref().map(|(name, _)| name.as_str()) {
                Some("application/cloudevents-batch+json") => "; post a batch to /v1/events/batch",
                Some("application/cloudevents+json") => "; post a single CloudEvent to /v1/events",
                _ => "",
            };
            refuse(format!("send `Content-Type:` {}, in UTF-8{elsewhere}", names.join(" or ")))
        }
    }
}

fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => Err(Problem::new(Code::UnsupportedMediaType, "send the body without Content-Encoding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(kind: &str, known: &[Media]) -> Result<Media, String> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
        media_of(&headers, known).map_err(|problem| problem.body().detail)
    }

    #[test]
    fn json_is_known_by_every_name_and_with_every_parameter_that_senders_write() {
        for kind in [
            "application/json",
            "APPLICATION/JSON; charset=UTF-8",
            "application/json; charset=\"utf-8\"",
            "application/json;charset=utf8",
            "application/json; odata.metadata=minimal; charset = UTF-8",
            "application/json; profile=\"https://a.example/b\"",
            "application/vnd.shop.order+json",
            "application/vnd.api+json; version=1",
            "text/json",
            "application/json;",
        ] {
            assert_eq!(media(kind, &[Media::Json]), Ok(Media::Json), "{kind}");
        }
        for kind in ["application/xml", "text/plain", "application/x-www-form-urlencoded", "json", ""] {
            assert!(media(kind, &[Media::Json]).is_err(), "{kind}");
        }
        let latin = media("application/json; charset=iso-8859-1", &[Media::Json]).unwrap_err();
        assert_eq!(latin, "the body is in `iso-8859-1`; send it in UTF-8");
    }

    #[test]
    fn a_cloudevent_is_distinguished_from_plain_json_and_from_a_batch() {
        let known = [Media::Json, Media::CloudEvent];
        let kind = "application/cloudevents+json; charset=\"UTF-8\"";
        assert_eq!(media(kind, &known), Ok(Media::CloudEvent));
        let batch = media("application/cloudevents-batch+json", &known).unwrap_err();
        assert!(batch.ends_with("post a batch to /v1/events/batch"), "{batch}");
    }

    #[tokio::test]
    async fn gzip_is_expanded_to_the_limit_and_no_further() {
        use std::io::Write;
        let packed = |bytes: usize| {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            packer.write_all(&vec![b' '; bytes]).unwrap();
            packer.finish().unwrap()
        };
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
        let read = async |bytes: Vec<u8>| read_sent(&headers, Body::from(bytes), 1_000_000).await;
        assert_eq!(read(packed(1_000_000)).await.ok().unwrap().expanded.unwrap().len(), 1_000_000);
        assert_eq!(read(packed(50_000_000)).await.err().unwrap().status(), 413);
        assert_eq!(read(b"{}".to_vec()).await.err().unwrap().status(), 400);
    }
}
