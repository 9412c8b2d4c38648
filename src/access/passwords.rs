//! Passwords: which are good enough, and argon2id over them.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

/// Characters of a password.
const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;
/// Passwords that are hashed at once: each takes 19 MiB and a core for a moment.
const AT_ONCE: usize = 2;
/// Memory in KiB, passes and lanes, as OWASP recommends for argon2id.
const COST: (u32, u32, u32) = (19 * 1_024, 2, 1);
/// What many people take once twelve characters are asked for, in lower case and without what is put between.
const COMMON: [&str; 24] = [
    "password",
    "passwort",
    "qwertyuiop",
    "qwertzuiop",
    "letmein",
    "welcome",
    "iloveyou",
    "administrator",
    "changeme",
    "herald",
    "onesignal",
    "1q2w3e4r",
    "1qaz2wsx",
    "abcdefgh",
    "zaq12wsx",
    "q1w2e3r4",
    "asdfghjkl",
    "monkey",
    "dragon",
    "football",
    "princess",
    "sunshine",
    "trustno1",
    "secret",
];

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Its length.
    #[error("a password has 12 to 128 characters; a few words in a row are easy to keep in mind")]
    Length,
    /// Too many others have it, or could guess it.
    #[error("this password is among the first that anybody would try; take another one")]
    Common,
}

/// Whether a password is good enough for this address.
///
/// # Errors
/// [`PasswordError`] says what a good one is.
pub(super) fn check(password: &SecretString, email: &str) -> Result<(), PasswordError> {
    let text = password.expose_secret();
    if !LENGTH.contains(&text.chars().count()) {
        return Err(PasswordError::Length);
    }
    let letters_of =
        |text: &str| text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let plain = letters_of(text);
    let own = email.split('@').next().map(letters_of).filter(|name| name.len() > 3);
    let rest =
        COMMON.into_iter().chain(own.as_deref()).fold(plain.clone(), |rest, common| rest.replace(common, ""));
    let letters: std::collections::BTreeSet<char> = rest.chars().collect();
    // What is left beside the common part has to carry it alone.
    let is_thin = rest.chars().count() < 8 && rest.len() < plain.len();
    if is_thin || letters.len() < 4 || is_row(&plain) {
        return Err(PasswordError::Common);
    }
    Ok(())
}

/// Whether each character follows the one before, as in `123456789012`.
fn is_row(text: &str) -> bool {
    let steps = text
        .as_bytes()
        .windows(2)
        .filter(|pair| matches!(pair[1].wrapping_sub(pair[0]), 0 | 1 | 255))
        .count();
    steps * 10 >= text.len() * 8
}

/// Hashes and compares, a few at once, away from the threads that answer.
#[derive(Debug)]
pub(super) struct Hashing {
    places: Arc<Semaphore>,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, lanes) = COST;
    Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(memory, passes, lanes, None).unwrap_or_default(),
    )
}

impl Hashing {
    /// The hash of a password, in PHC's form; `None` if the system has no memory for it.
    pub async fn hash(&self, password: SecretString, salt: [u8; 16]) -> Option<String> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            argon2()
                .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
                .ok()
                .map(|hash| hash.to_string())
        })
        .await
        .ok()?
    }

    /// Whether a password has this hash. Without one it takes as long and says no, so that nobody learns who exists.
    pub async fn matches(&self, password: SecretString, hash: Option<String>) -> bool {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return false };
        let compared = tokio::task::spawn_blocking(move || {
            let _place = place;
            let text = password.expose_secret().as_bytes();
            match hash {
                Some(hash) => argon2().verify_password(text, hash.as_str()).is_ok(),
                None => argon2().hash_password_with_salt(text, &[0; 16]).is_err(),
            }
        });
        compared.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Result<(), PasswordError> {
        check(&SecretString::from(text), "anna.lindt@shop.example")
    }

    #[test]
    fn a_password_is_long_and_nobody_s_first_guess() {
        for good in
            ["correct horse battery staple", "Tz7!kQ2#mP9x", "grüne Bäume im Mai", "a-long-herald-of-spring"]
        {
            assert_eq!(check_text(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("short", PasswordError::Length),
            ("Password12345", PasswordError::Common),
            ("passwordpassword", PasswordError::Common),
            ("aaaaaaaaaaaaaa", PasswordError::Common),
            ("123456789012", PasswordError::Common),
            ("anna.lindt2026", PasswordError::Common),
            ("qwertyuiop123", PasswordError::Common),
        ] {
            assert_eq!(check_text(bad), Err(why), "{bad}");
        }
        assert_eq!(check_text(&"x7".repeat(65)), Err(PasswordError::Length));
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_alone() {
        let hashing = Hashing::default();
        let hash = hashing.hash(SecretString::from("correct horse battery"), [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hashing.matches(SecretString::from("correct horse battery"), Some(hash.clone())).await);
        assert!(!hashing.matches(SecretString::from("correct horse batterz"), Some(hash)).await);
        assert!(!hashing.matches(SecretString::from("correct horse battery"), None).await);
        assert!(!hashing.matches(SecretString::from("correct horse battery"), Some("broken".into())).await);
    }
}
