//! Classifies HTTP responses: the retry table, and nothing else. OneSignal's responses are polymorphic, so bodies are
//! parsed as untyped JSON, and an unparsable one counts as "may have been sent".

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::domain::answer::{BatchAnswer, ProviderMessageId, Recall, Verdict};

/// How much of a raw response is stored, in bytes.
const KEPT_BODY: usize = 4 * 1024;
/// Maximum length of OneSignal's message in a decision, in characters.
const DETAIL_CHARS: usize = 300;

/// An HTTP response, as far as it was received.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// `Retry-After`, if present and in seconds.
    pub retry_after: Option<Duration>,
    /// `Idempotent-Replayed: true`.
    pub is_replay: bool,
    /// The whole body, or why it is incomplete.
    pub body: Result<Vec<u8>, String>,
}

/// Classifies the response to Create message.
pub fn create_message(answer: &RawAnswer) -> BatchAnswer {
    let verdict = verdict(answer);
    let body = answer.body.as_ref().ok().map(|bytes| kept(bytes));
    BatchAnswer { verdict, status: Some(answer.status), body, is_replay: answer.is_replay }
}

fn verdict(answer: &RawAnswer) -> Verdict {
    let body = match &answer.body {
        Ok(body) => body.as_slice(),
        Err(_) if definite_non_send(answer.status) => b"".as_slice(),
        Err(cause) => {
            return Verdict::Ambiguous { cause: cause.clone(), retry_after: answer.retry_after };
        }
    };
    let detail = detail(body);
    match answer.status {
        200..=299 => accepted(body),
        300..=399 => Verdict::AppUnusable {
            detail: format!("the base URL answered with a redirect (status {})", answer.status),
        },
        400 if names_app(&detail) => Verdict::AppUnusable { detail },
        400 | 413 | 422 => Verdict::Refused { detail },
        403 if detail.contains("not available for applications on your plan") => Verdict::Refused { detail },
        401 | 403 => Verdict::KeyRefused { detail },
        404 if detail.to_lowercase().contains("template") => Verdict::TemplateUnknown,
        404 => Verdict::AppUnusable { detail },
        409 => Verdict::Conflict,
        429 => Verdict::RateLimited { retry_after: answer.retry_after },
        status => Verdict::Ambiguous {
            cause: format!("OneSignal answered {status}"),
            retry_after: answer.retry_after,
        },
    }
}

/// Classifies the response to Cancel message.
pub fn cancel_message(answer: &RawAnswer) -> Recall {
    let body = answer.body.as_deref().unwrap_or_default();
    let detail = detail(body);
    match answer.status {
        200..=299 => match serde_json::from_slice::<Value>(body) {
            Ok(said) if said.get("success") == Some(&Value::Bool(true)) => Recall::Recalled,
            Ok(_) | Err(_) => Recall::Unclear { cause: "OneSignal's response can't be parsed".into() },
        },
        400 if names_app(&detail) => Recall::Refused { detail },
        400 | 404 => Recall::TooLate { detail },
        300..=399 | 401 | 403 => Recall::Refused { detail },
        429 => Recall::RateLimited { retry_after: answer.retry_after },
        status => Recall::Unclear { cause: format!("OneSignal answered {status}") },
    }
}

/// Statuses that mean "not done" regardless of the body.
fn definite_non_send(status: u16) -> bool {
    matches!(status, 300..=401 | 403 | 404 | 409 | 413 | 422 | 429)
}

fn names_app(detail: &str) -> bool {
    detail.contains("app_id not found") || detail.contains("Failed to parse app_id")
}

fn accepted(body: &[u8]) -> Verdict {
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(body) else {
        return Verdict::Ambiguous {
            cause: "OneSignal's response can't be parsed".into(),
            retry_after: None,
        };
    };
    match answer.get("id") {
        Some(Value::String(id)) if is_message_id(id) => Verdict::Accepted {
            message: ProviderMessageId(id.clone()),
            unreachable: answer.get("errors").map(unreachable).unwrap_or_default(),
        },
        Some(Value::String(id)) if id.is_empty() => Verdict::NobodySubscribed { detail: detail(body) },
        // Without an id, only an explicit message from OneSignal proves that nothing was sent.
        Some(Value::Null) | None if answer.contains_key("errors") => {
            Verdict::NobodySubscribed { detail: detail(body) }
        }

        Some(_) | None => Verdict::Ambiguous {
            cause: "OneSignal's response contains no message ID".into(),
            retry_after: None,
        },
    }
}

/// Whether a text is a valid OneSignal message ID.
fn is_message_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// The recipient ids under every `invalid_…` key, whatever their nesting; other errors name no recipient.
fn unreachable(errors: &Value) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    if let Value::Object(kinds) = errors {
        for (kind, listed) in kinds {
            if kind.starts_with("invalid_") {
                collect_texts(listed, &mut ids);
            }
        }
    }
    ids
}

fn collect_texts(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            into.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, into)),
        Value::Object(members) => members.values().for_each(|member| collect_texts(member, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// OneSignal's message: from either envelope, or the start of the body.
pub fn detail(body: &[u8]) -> String {
    let words = match serde_json::from_slice::<Value>(body) {
        Ok(answer) => match answer.get("errors") {
            Some(Value::Array(errors)) => errors.iter().map(words_of).collect::<Vec<_>>().join("; "),
            Some(other) => words_of(other),
            None => answer.to_string(),
        },
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let words = if words.trim().is_empty() { "no reason given".to_owned() } else { words };
    words.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS).collect()
}

fn words_of(error: &Value) -> String {
    match error {
        Value::String(text) => text.clone(),
        Value::Object(parts) => match parts.get("title") {
            Some(Value::String(title)) => title.clone(),
            Some(_) | None => error.to_string(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => error.to_string(),
    }
}

/// The start of a body as text that Postgres can store.
fn kept(body: &[u8]) -> String {
    let cut = &body[..body.len().min(KEPT_BODY)];
    String::from_utf8_lossy(cut).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Verdict {
        let body = Ok(body.as_bytes().to_vec());
        create_message(&RawAnswer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            is_replay: false,
            body,
        })
        .verdict
    }

    fn code(status: u16, body: &str) -> &'static str {
        answer(status, body).code()
    }

    #[test]
    fn what_came_of_taking_a_message_back_is_distinguished() {
        let said = |status, body: &str| {
            let body = Ok(body.as_bytes().to_vec());
            cancel_message(&RawAnswer { status, retry_after: None, is_replay: false, body }).code()
        };
        for (status, body, expected) in [
            (200, r#"{"success":true}"#, "recalled"),
            (200, r#"{"success":false}"#, "ambiguous"),
            (200, r#"{"succ"#, "ambiguous"),
            (400, r#"{"errors":["Notification has already been sent"]}"#, "too_late"),
            (400, r#"{"errors":["app_id not found. You may be missing a header."]}"#, "key_refused"),
            (404, r#"{"errors":["Notification not found"]}"#, "too_late"),
            (401, "", "key_refused"),
            (403, "", "key_refused"),
            (302, "", "key_refused"),
            (408, "", "ambiguous"),
            (429, "", "rate_limited"),
            (503, "", "ambiguous"),
        ] {
            assert_eq!(said(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn every_row_of_the_retry_table_is_distinguished() {
        let denied = r#"{"errors":["Access denied.  Please include an 'Authorization: ...' header with a valid API key"]}"#;
        for (status, body, expected) in [
            (200, r#"{"id":"b15ba6e5","external_id":null}"#, "accepted"),
            (200, r#"{"id":"","errors":["All included players are not subscribed"]}"#, "nobody_subscribed"),
            (200, r#"{"errors":["All included players are not subscribed"]}"#, "nobody_subscribed"),
            (200, r#"{"id":"b15ba"#, "ambiguous"),
            (200, "<html>", "ambiguous"),
            (200, "", "ambiguous"),
            (200, r#"{"id":7}"#, "ambiguous"),
            (200, r#"{"id":"a\u0000"}"#, "ambiguous"),
            (200, "{}", "ambiguous"),
            (200, r#"{"status":"ok"}"#, "ambiguous"),
            (302, "", "app_unusable"),
            (400, r#"{"errors":["Message Notifications must have English language content"]}"#, "refused"),
            (
                400,
                r#"{"errors":["app_id not found. You may be missing a Content-Type: application/json header."]}"#,
                "app_unusable",
            ),
            (
                401,
                r#"{"errors":[{"code":"auth-1","title":"This operation requires 'Authorization' in the HTTP header"}]}"#,
                "key_refused",
            ),
            (403, denied, "key_refused"),
            (403, r#"{"errors":["This API is not available for applications on your plan."]}"#, "refused"),
            (404, r#"{"errors":["template not found"]}"#, "template_unknown"),
            (404, "", "app_unusable"),
            (408, "", "ambiguous"),
            (409, "", "conflict"),
            (413, "", "refused"),
            (422, "<html></html>", "refused"),
            (429, "", "rate_limited"),
            (500, "", "ambiguous"),
            (503, r#"{"errors":["Service temporarily unavailable"]}"#, "ambiguous"),
            (522, "", "ambiguous"),
            (418, "", "ambiguous"),
        ] {
            assert_eq!(code(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn recipients_without_a_subscription_are_found_in_every_known_form() {
        for errors in [
            r#"{"invalid_aliases":{"external_id":["u7","u7"]}}"#,
            r#"{"invalid_player_ids":["u7"]}"#,
            r#"{"invalid_external_user_ids":["u7"]}"#,
        ] {
            let body = format!(r#"{{"id":"b1","errors":{errors},"warnings":[]}}"#);
            let Verdict::Accepted { unreachable, .. } = answer(200, &body) else { panic!("{body}") };
            assert_eq!(unreachable.into_iter().collect::<Vec<_>>(), ["u7"]);
        }
    }

    #[test]
    fn an_answer_cut_short_is_ambiguous_unless_its_status_already_says_no() {
        let cut = |status| RawAnswer { status, retry_after: None, is_replay: false, body: Err("cut".into()) };
        assert_eq!(create_message(&cut(200)).verdict.code(), "ambiguous");
        assert_eq!(create_message(&cut(429)).verdict.code(), "rate_limited");
        assert_eq!(create_message(&cut(401)).verdict.code(), "key_refused");
    }

    #[test]
    fn a_huge_or_binary_body_is_cut_and_cleaned() {
        let body = Ok(vec![0_u8; 100_000]);
        let answer = create_message(&RawAnswer { status: 500, retry_after: None, is_replay: false, body });
        let kept = answer.body.unwrap();
        assert!(kept.len() <= KEPT_BODY * 3 && !kept.contains('\0'));
    }
}
