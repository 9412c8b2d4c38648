//! Identifiers of people who were erased: what is hashed to recognise them.

use serde::{Deserialize, Serialize};

use super::event::{Recipient, RecipientLabel};
use super::user::Subscription;

/// The id of a recipient in the history who was erased. No recipient has an empty id.
pub const ERASED_ID: &str = "";
/// The label of push tokens. They are no recipients.
const PUSH_TOKEN: &str = "push_token";

/// One identifier of a person: an alias, an address, a subscription or a push token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identifier {
    /// What kind of id it is.
    pub label: String,
    /// The id.
    pub id: String,
}

impl Identifier {
    /// What is hashed. Spellings of one address that reach the same mailbox are equal.
    pub fn matching_text(&self) -> String {
        let id = if self.label == RecipientLabel::Email.as_str() {
            mailbox(&self.id)
        } else {
            self.id.trim().to_owned()
        };
        format!("{}\0{id}", self.label)
    }

    /// The recipient of events with this identifier; `None` for push tokens.
    pub fn recipient(&self) -> Option<Recipient> {
        (self.label != PUSH_TOKEN)
            .then(|| Recipient { label: RecipientLabel::from_label(&self.label), id: self.id.clone() })
    }
}

impl From<&Recipient> for Identifier {
    fn from(recipient: &Recipient) -> Self {
        Self { label: recipient.label.as_str().to_owned(), id: recipient.id.clone() }
    }
}

impl From<&Subscription> for Identifier {
    fn from(subscription: &Subscription) -> Self {
        let label = match subscription.kind.to_ascii_lowercase().as_str() {
            "email" => RecipientLabel::Email.as_str(),
            "sms" => RecipientLabel::Phone.as_str(),
            _ => PUSH_TOKEN,
        };
        Self { label: label.to_owned(), id: subscription.token.clone() }
    }
}

/// An address without differences that mail servers ignore: case, and how a domain with other letters is written.
fn mailbox(address: &str) -> String {
    let address = address.trim().to_lowercase();
    let Some((local, host)) = address.rsplit_once('@') else { return address };
    match url::Host::parse(host) {
        Ok(host) => format!("{local}@{host}"),
        Err(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(id: &str) -> String {
        Identifier { label: "email".to_owned(), id: id.to_owned() }.matching_text()
    }

    #[test]
    fn spellings_of_one_mailbox_are_equal_and_different_mailboxes_are_not() {
        for other in ["Ann@Müller.example", " ann@müller.example ", "ANN@xn--mller-kva.example"] {
            assert_eq!(email(other), email("ann@müller.example"), "{other}");
        }
        for other in ["a.nn@müller.example", "ann+shop@müller.example", "ann@muller.example"] {
            assert_ne!(email(other), email("ann@müller.example"), "{other}");
        }
    }

    #[test]
    fn an_id_of_one_label_is_not_one_of_another() {
        let of = |label: &str| Identifier { label: label.to_owned(), id: "42".to_owned() }.matching_text();
        assert_ne!(of("external_id"), of("crm_id"));
    }

    #[test]
    fn a_subscription_is_identified_like_the_recipient_of_the_same_address() {
        let subscription =
            |kind: &str, token: &str| Subscription { kind: kind.into(), token: token.into(), enabled: None };
        let recipient = Recipient::parse("email", "Ann@shop.example").unwrap();
        let same = Identifier::from(&subscription("Email", "ann@SHOP.example"));
        assert_eq!(same.matching_text(), Identifier::from(&recipient).matching_text());
        assert_eq!(Identifier::from(&subscription("SMS", "+4915112345678")).label, "phone");
        assert_eq!(Identifier::from(&subscription("iOSPush", "token")).recipient(), None);
    }
}
