//! The secrets that OneSignal sends in a header of each call: one, and a second one while they are changed.

use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use subtle::{Choice, ConstantTimeEq};

/// The minimum length of a secret.
pub const MIN_LEN: usize = 32;

/// The accepted secrets, as hashes.
pub struct StreamSecrets(Vec<[u8; 32]>);

/// A secret that could be guessed.
#[derive(Debug, thiserror::Error)]
#[error(
    "a secret of Event Streams must have at least {MIN_LEN} characters; `openssl rand -hex 32` makes one"
)]
pub struct WeakSecret;

impl StreamSecrets {
    /// The secrets that are not empty.
    ///
    /// # Errors
    /// [`WeakSecret`] if one is too short.
    pub fn new(secrets: &[&SecretString]) -> Result<Self, WeakSecret> {
        let given = secrets.iter().map(|secret| secret.expose_secret()).filter(|secret| !secret.is_empty());
        let hash = |secret: &str| {
            if secret.len() < MIN_LEN { Err(WeakSecret) } else { Ok(hashed(secret)) }
        };
        Ok(Self(given.map(hash).collect::<Result<_, _>>()?))
    }

    /// Whether none is set: then no call is accepted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them. Takes the same time whatever it is: hashes of the same length are compared, each of
    /// them to its end.
    pub fn accept(&self, given: &str) -> bool {
        let given = hashed(given);
        let same = self.0.iter().fold(Choice::from(0), |same, secret| same | secret.ct_eq(&given));
        bool::from(same)
    }
}

fn hashed(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_secrets_are_accepted_and_nothing_else() {
        let (old, new) = (SecretString::from("o".repeat(32)), SecretString::from("n".repeat(32)));
        let secrets = StreamSecrets::new(&[&new, &old]).unwrap();
        assert!(secrets.accept(&"o".repeat(32)) && secrets.accept(&"n".repeat(32)));
        assert!(!secrets.accept("") && !secrets.accept(&"n".repeat(33)));
    }

    #[test]
    fn without_a_secret_nothing_is_accepted_and_a_short_one_is_refused() {
        let none = StreamSecrets::new(&[&SecretString::from("")]).unwrap();
        assert!(none.is_empty() && !none.accept(""));
        assert!(StreamSecrets::new(&[&SecretString::from("short")]).is_err());
    }
}
