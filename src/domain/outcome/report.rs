//! One report of Event Streams.

use uuid::Uuid;

use super::super::clock::Timestamp;
use super::OutcomeKind;

/// The longest run of letters and digits in a reason that is not taken for a token.
const LONGEST_WORD: usize = 24;
/// Digits of a phone number.
const PHONE_DIGITS: usize = 7;

/// What one event of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its id in the stream, or of its content if it has none.
    pub key: Uuid,
    /// OneSignal's id of the message.
    pub message: String,
    /// `push`, `email`, `sms` or another channel.
    pub channel: String,
    /// What happened.
    pub kind: OutcomeKind,
    /// When.
    pub occurred_at: Timestamp,
    /// The person's External ID; may be empty.
    pub external_id: String,
    /// OneSignal's id of the person; may be empty.
    pub onesignal_id: String,
    /// OneSignal's id of the device, address or number; may be empty.
    pub subscription: String,
    /// Its type.
    pub device: String,
    /// Why it failed, without addresses.
    pub reason: String,
}

impl Report {
    /// Who it is about: the id that changes least.
    pub fn person(&self) -> String {
        let ids = [
            ("onesignal_id", &self.onesignal_id),
            ("external_id", &self.external_id),
            ("subscription_id", &self.subscription),
        ];
        let named = ids.into_iter().find(|(_, id)| !id.is_empty());
        named.map(|(label, id)| format!("{label}={id}")).unwrap_or_default()
    }
}

/// A mail server's or platform's reason without addresses, numbers and tokens.
pub fn masked(reason: &str) -> String {
    let is_personal = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        let is_phone = digits >= PHONE_DIGITS && !word.contains('.');
        let longest = word.split(|c: char| !c.is_alphanumeric()).map(str::len).max().unwrap_or_default();
        word.contains('@') || is_phone || longest > LONGEST_WORD
    };
    let words = reason.split_whitespace().map(|word| if is_personal(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn a_reason_keeps_its_codes_and_loses_addresses() {
        for (reason, wanted) in [
            ("550 5.1.1 <ann@shop.example> unknown\nuser", "550 5.1.1 … unknown user"),
            ("number +4915112345678 is not in service", "number … is not in service"),
            ("token 9f86d081884c7d659a2feaa0c55ad015 is not registered", "token … is not registered"),
            ("BadDeviceToken", "BadDeviceToken"),
        ] {
            assert_eq!(masked(reason), wanted);
        }
    }
}
