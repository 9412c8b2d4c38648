//! The alias labels of an app's people, and suggestions for undeclared ones.

use super::event::{Recipient, RecipientError, RecipientLabel};

/// The maximum number of alias labels of an app.
const MAX: usize = 100;

/// Spellings of OneSignal's own labels, without case, `_` and `-`, with the correct form of each.
const SPELLINGS: [(&str, &str); 21] = [
    ("externalid", "external_id"),
    ("externalids", "external_id"),
    ("externaluserid", "external_id"),
    ("externaluserids", "external_id"),
    ("onesignalid", "onesignal_id"),
    ("onesignalids", "onesignal_id"),
    ("subscriptionid", "subscription_id"),
    ("subscriptionids", "subscription_id"),
    ("playerid", "subscription_id"),
    ("playerids", "subscription_id"),
    ("email", "email"),
    ("emails", "email"),
    ("mail", "email"),
    ("emailaddress", "email"),
    ("mailaddress", "email"),
    ("phone", "phone"),
    ("phones", "phone"),
    ("phonenumber", "phone"),
    ("phonenumbers", "phone"),
    ("mobile", "phone"),
    ("sms", "phone"),
];

/// The suggestion for an undeclared label: one of OneSignal's own, or one of `declared`, in another spelling.
pub fn meant<'a>(label: &str, declared: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-', '.'], "").to_lowercase();
    let asked = plain(label);
    let own = SPELLINGS.iter().find(|(spelling, _)| *spelling == asked).map(|(_, meant)| *meant);
    own.or_else(|| declared.into_iter().find(|known| plain(known) == asked))
}

/// The problem with the alias labels that an app declares, if any.
pub fn problem(labels: &[String]) -> Option<String> {
    if labels.len() > MAX {
        return Some(format!("an app has at most {MAX} alias labels"));
    }
    labels.iter().find_map(|label| {
        if Recipient::parse(label, "somebody") == Err(RecipientError::BadLabel) {
            return Some("a label is 1 to 128 characters without spaces".to_owned());
        }
        let is_own = !matches!(RecipientLabel::from_label(label), RecipientLabel::Alias(_));
        is_own.then(|| format!("`{label}` is built in; remove it"))
    })
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_label_of_onesignal_is_known_in_every_spelling_and_no_other_is_guessed() {
        for (label, wanted) in [
            ("externalId", Some("external_id")),
            ("ExternalIds", Some("external_id")),
            ("Email", Some("email")),
            ("phone_number", Some("phone")),
            ("onesignal-id", Some("onesignal_id")),
            ("CRM-ID", Some("crm_id")),
            ("user_id", None),
            ("customer", None),
        ] {
            assert_eq!(meant(label, ["crm_id"]), wanted, "{label}");
        }
    }
}
