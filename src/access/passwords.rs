//! Password strength.

use secrecy::{ExposeSecret, SecretString};
use zxcvbn::Score;

/// Characters of a password.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;
/// Context-specific words that count as weak.
const OURS: [&str; 3] = ["herald", "onesignal", "console"];

/// Why a password is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Its length.
    #[error("a password must have 12 to 128 characters; four or five unrelated words are easy to remember")]
    Length,
    /// It is common, or similar to a common one.
    #[error(
        "this password is easy to guess: it is common, or consists of common words, names, dates or keyboard patterns with \
         little added; use four or five unrelated words, or a password manager"
    )]
    Common,
}

/// Whether a password is strong enough for this address: at least ten billion guesses, estimated from lists of leaked
/// passwords, words, names, dates and keyboard patterns with common substitutions.
///
/// # Errors
/// [`PasswordError`] describes the requirements.
pub(super) async fn check(password: &SecretString, email: &str) -> Result<(), PasswordError> {
    let (password, email) = (password.clone(), email.to_owned());
    // A long one takes a few milliseconds.
    let checked = tokio::task::spawn_blocking(move || check_text(password.expose_secret(), &email));
    checked.await.unwrap_or(Err(PasswordError::Common))
}

fn check_text(text: &str, email: &str) -> Result<(), PasswordError> {
    if !LENGTH.contains(&text.chars().count()) {
        return Err(PasswordError::Length);
    }
    let own = email.split(|c: char| !c.is_alphanumeric()).filter(|part| part.len() > 2);
    let name = email.split('@').next().unwrap_or_default();
    let inputs: Vec<&str> = own.chain([name, email]).chain(OURS).collect();
    if zxcvbn::zxcvbn(text, &inputs).score() < Score::Four {
        return Err(PasswordError::Common);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), PasswordError> {
        check_text(text, "anna.lindt@shop.example")
    }

    #[test]
    fn words_in_a_row_and_random_characters_are_taken() {
        for good in [
            "correct horse battery staple",
            "Tz7!kQ2#mP9x",
            "grüne Bäume im Mai",
            "a-long-herald-of-spring",
            "five small words in a row",
            "mein hund bellt laut",
        ] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_tried_first_is_not_taken() {
        for bad in [
            "Password12345",
            "passwordpassword",
            "aaaaaaaaaaaaaa",
            "123456789012",
            "anna.lindt2026",
            "qwertyuiop123",
            "Welcome2026!!",
            "herald2026herald",
            "1qaz2wsx3edc",
            "admin@123456",
        ] {
            assert_eq!(checked(bad), Err(PasswordError::Common), "{bad}");
        }
    }

    #[test]
    fn a_password_has_a_length() {
        assert_eq!(checked("short"), Err(PasswordError::Length));
        assert_eq!(checked(&"x7".repeat(65)), Err(PasswordError::Length));
    }
}
