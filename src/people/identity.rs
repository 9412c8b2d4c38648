//! Ids of people: which labels name a person, and ids that a spreadsheet has damaged.

use crate::domain::event::{Recipient, RecipientError, RecipientLabel};

/// Why an alias can't name a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The label names an address or a device.
    #[error("`{0}` is not an alias label: an address belongs into `subscriptions`")]
    NotAnAlias(String),
    /// OneSignal assigns it.
    #[error("OneSignal assigns `onesignal_id`; it can't be set")]
    Assigned,
    /// Not an id.
    #[error(transparent)]
    Recipient(#[from] RecipientError),
    /// `.` and `..` are steps of a path.
    #[error("`{0}` can't be an id: OneSignal's API names users in paths")]
    Dots(String),
    /// A spreadsheet has written the id as a number.
    #[error(
        "`{0}` looks like an id that a spreadsheet has written as a number; format the column as text and export it again"
    )]
    Damaged(String),
}

/// Checks the alias that a request names a person by.
///
/// # Errors
/// [`IdentityError`].
pub fn name(label: &str, id: &str) -> Result<Recipient, IdentityError> {
    let named = Recipient::parse(label, id)?;
    if id == "." || id == ".." {
        return Err(IdentityError::Dots(id.to_owned()));
    }
    match named.label {
        RecipientLabel::ExternalId | RecipientLabel::Alias(_) if is_damaged(id) => {
            Err(IdentityError::Damaged(id.to_owned()))
        }
        RecipientLabel::ExternalId | RecipientLabel::OnesignalId | RecipientLabel::Alias(_) => Ok(named),
        RecipientLabel::SubscriptionId | RecipientLabel::Email | RecipientLabel::Phone => {
            Err(IdentityError::NotAnAlias(label.to_owned()))
        }
    }
}

/// Checks an alias that a person gets.
///
/// # Errors
/// [`IdentityError`].
pub fn alias(label: &str, id: &str) -> Result<Recipient, IdentityError> {
    let named = name(label, id)?;
    if named.label == RecipientLabel::OnesignalId { Err(IdentityError::Assigned) } else { Ok(named) }
}

/// Whether a text is a number with an exponent (`1.23457E+12`) or with `.0` at its end: two ids may have become one.
fn is_damaged(id: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(whole) = id.strip_suffix(".0") {
        return digits(whole);
    }
    let Some((mantissa, exponent)) = id.split_once(['E', 'e']) else { return false };
    let Some(exponent) = exponent.strip_prefix('+') else { return false };
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
    digits(whole) && digits(fraction) && digits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_a_spreadsheet_has_rounded_are_refused_with_that_reason() {
        for id in ["1.23457E+12", "1,23457E+12", "4E+11", "1234.0"] {
            assert_eq!(name("external_id", id), Err(IdentityError::Damaged(id.into())));
        }
        for id in ["user-42", "1234", "1e12", "E+1", "v1.0", "12.05", "a/b?c#d%e Zoë"] {
            assert!(name("external_id", id).is_ok(), "{id}");
        }
    }

    #[test]
    fn an_address_or_a_device_names_no_person() {
        assert_eq!(name("email", "ann@shop.example"), Err(IdentityError::NotAnAlias("email".into())));
        let id = "5a0d0000-0000-4000-8000-000000000002";
        assert_eq!(name("subscription_id", id), Err(IdentityError::NotAnAlias("subscription_id".into())));
        assert!(name("onesignal_id", id).is_ok());
        assert_eq!(alias("onesignal_id", id), Err(IdentityError::Assigned));
    }
}
