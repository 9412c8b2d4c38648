//! Argon2id password hashing with limited concurrency and a bounded queue.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum concurrent hashes: each briefly takes 19 MiB and a core.
const AT_ONCE: usize = 2;
/// Maximum requests waiting for a hash. Further ones are rejected, so that a flood of logins causes no long delays.
const WAITING: usize = 50;
/// Memory in KiB, passes and degree of parallelism, as OWASP recommends for argon2id.
const COST: (u32, u32, u32) = (19 * 1_024, 2, 1);

/// Hashes and verifies on separate threads.
#[derive(Debug)]
pub(super) struct Hashing {
    queue: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

/// A place in the queue for a hash.
#[derive(Debug)]
pub(super) struct Queued {
    _place: OwnedSemaphorePermit,
}

impl Default for Hashing {
    fn default() -> Self {
        Self { queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

fn argon2() -> Argon2<'static> {
    let (memory, passes, priorities) = COST;
    Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(memory, passes, priorities, None).unwrap_or_default(),
    )
}

impl Hashing {
    /// A place in the queue; `None` if it is full.
    pub fn enter(&self) -> Option<Queued> {
        let place = Arc::clone(&self.queue).try_acquire_owned().ok()?;
        Some(Queued { _place: place })
    }

    /// The hash of a password, in PHC's form; `None` if the system has no memory for it.
    pub async fn hash(&self, queued: Queued, password: SecretString, salt: [u8; 16]) -> Option<String> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let _held = (place, queued);
            argon2()
                .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
                .ok()
                .map(|hash| hash.to_string())
        })
        .await
        .ok()?
    }

    /// Whether a password matches this hash. Without a hash it takes equally long and returns `false`, so that timing
    /// doesn't reveal accounts.
    pub async fn matches(&self, queued: Queued, password: SecretString, hash: Option<String>) -> bool {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return false };
        let compared = tokio::task::spawn_blocking(move || {
            let _held = (place, queued);
            let text = password.expose_secret().as_bytes();
            if let Some(hash) = hash {
                return argon2().verify_password(text, hash.as_str()).is_ok();
            }
            // Whatever comes of it: nothing matches, even if the system has no memory for it.
            let _ = std::hint::black_box(argon2().hash_password_with_salt(text, &[0; 16]));
            false
        });
        compared.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_its_password_alone() {
        let hashing = Hashing::default();
        let secret = |text: &str| SecretString::from(text);
        let queued = || hashing.enter().unwrap();
        let hash = hashing.hash(queued(), secret("correct horse battery"), [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hashing.matches(queued(), secret("correct horse battery"), Some(hash.clone())).await);
        assert!(!hashing.matches(queued(), secret("correct horse batterz"), Some(hash)).await);
        assert!(!hashing.matches(queued(), secret("correct horse battery"), None).await);
        assert!(!hashing.matches(queued(), secret("correct horse battery"), Some("broken".into())).await);
    }

    #[test]
    fn beyond_fifty_waiting_requests_there_is_no_place() {
        let hashing = Hashing::default();
        let taken: Vec<Queued> = std::iter::from_fn(|| hashing.enter()).collect();
        assert_eq!(taken.len(), 52);
        drop(taken);
        assert!(hashing.enter().is_some());
    }
}
