//! Sensitive values: removed from `data` before it is stored, restored before it is rendered.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::domain::answer::{BatchAnswer, Verdict};
use crate::domain::batch::BatchContent;
use crate::domain::event::EventTypeName;
pub use crate::domain::event::MASK;
use crate::pipeline::Pipeline;
use crate::store::StoreError;

impl Pipeline {
    /// Whether events of this type contain sensitive values.
    ///
    /// # Errors
    /// [`StoreError`] when the catalog can't be read; retrying helps.
    pub async fn has_sensitive_values(&self, event_type: &EventTypeName) -> Result<bool, StoreError> {
        let catalog = self.catalog.get(&self.store).await?;
        Ok(catalog.event_type(event_type).is_some_and(|known| !known.entry.sensitive.is_empty()))
    }
}

/// Removes the values at `pointers` from `data` and returns them by pointer. Pointers without a value are skipped.
pub fn cut(data: &mut Value, pointers: &[String]) -> Map<String, Value> {
    let mut values = Map::new();
    for pointer in pointers {
        if let Some(place) = data.pointer_mut(pointer) {
            values.insert(pointer.clone(), std::mem::replace(place, Value::String(MASK.to_owned())));
        }
    }
    values
}

/// Restores removed values.
pub fn restore(data: &mut Value, values: Map<String, Value>) {
    for (pointer, value) in values {
        if let Some(place) = data.pointer_mut(&pointer) {
            *place = value;
        }
    }
}

/// An answer that quotes nothing of what was sent: in its text, every word that also occurs in the content and every
/// word with a digit is masked. The raw answer is not kept.
pub(in crate::pipeline) fn without_quotes(answer: BatchAnswer, content: &BatchContent) -> BatchAnswer {
    let sent = serde_json::to_string(content).unwrap_or_default();
    let masked = |text: &str| mask_quotes(text, &sent);
    let verdict = match answer.verdict {
        Verdict::NobodySubscribed { detail } => Verdict::NobodySubscribed { detail: masked(&detail) },
        Verdict::Refused { detail } => Verdict::Refused { detail: masked(&detail) },
        Verdict::KeyRefused { detail } => Verdict::KeyRefused { detail: masked(&detail) },
        Verdict::AppUnusable { detail } => Verdict::AppUnusable { detail: masked(&detail) },
        Verdict::NotConnected { detail } => Verdict::NotConnected { detail: masked(&detail) },
        Verdict::Ambiguous { cause, retry_after } => {
            Verdict::Ambiguous { cause: masked(&cause), retry_after }
        }
        other @ (Verdict::Accepted { .. }
        | Verdict::TemplateUnknown
        | Verdict::RateLimited { .. }
        | Verdict::Conflict) => other,
    };
    BatchAnswer { verdict, body: None, ..answer }
}

/// Masks the words of `text` that contain a digit or occur in `sent`. A word is a run of letters and digits.
fn mask_quotes(text: &str, sent: &str) -> String {
    let sent: HashSet<&str> = words(sent).filter(|word| is_word(word)).collect();
    words(text)
        .map(|word| {
            let is_quote = is_word(word) && (word.contains(|c: char| c.is_numeric()) || sent.contains(word));
            if is_quote { MASK } else { word }
        })
        .collect()
}

fn is_word(piece: &str) -> bool {
    piece.starts_with(char::is_alphanumeric)
}

/// A text split into words and what is between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_word = rest.chars().next()?.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != is_word).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// Overlays values that a person supplied on `data`, member by member.
pub fn overlay(data: &mut Value, given: Value) {
    match (data, given) {
        (Value::Object(into), Value::Object(given)) => {
            for (name, value) in given {
                overlay(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (place, value) => *place = value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::pipeline::plan::redaction::*;

    #[test]
    fn what_is_cut_out_leaves_a_mask_and_comes_back_unchanged() {
        let original = json!({"code": "314159", "user": {"phone": "1"}, "other": [1, 2]});
        let mut data = original.clone();
        let values = cut(&mut data, &["/code".into(), "/user/phone".into(), "/missing".into()]);
        assert_eq!(data, json!({"code": MASK, "user": {"phone": MASK}, "other": [1, 2]}));
        restore(&mut data, values);
        assert_eq!(data, original);
    }

    #[test]
    fn a_quote_of_what_was_sent_is_masked_and_the_rest_of_the_words_stay() {
        let sent = r#"{"custom_data":{"all":{"a":"480918","b":"https://shop.example/reset?t=abcDEF"}}}"#;
        let masked = |text| mask_quotes(text, sent);
        assert_eq!(masked("invalid value 480918 in field a"), "invalid value ••• in field •••");
        assert_eq!(masked(r#"{"a":"480918"}"#), r#"{"•••":"•••"}"#);
        assert_eq!(masked("bad link /reset?t=abcDEF"), "bad link /•••?•••=•••");
        // A code's digits are not shown, however it is written.
        assert_eq!(masked("4809-18 and %34"), "•••-••• and %•••");
        assert_eq!(
            masked("Message Notifications must have content"),
            "Message Notifications must have content"
        );
    }

    #[test]
    fn given_values_are_laid_over_the_event_member_by_member() {
        let mut data = json!({"order": {"id": "1"}});
        overlay(&mut data, json!({"order": {"eta": "soon"}, "name": "Ann"}));
        assert_eq!(data, json!({"order": {"id": "1", "eta": "soon"}, "name": "Ann"}));
    }
}
