//! Seals, opens and fingerprints sensitive values.
//!
//! Sealing is ChaCha20-Poly1305 under a key derived from the deployment's secret key. A sealed value is bound to its
//! place (table and id), so that it can't be unsealed in another row. Earlier secret keys still unseal; only the
//! current one seals.

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hkdf, hmac};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

const FORMAT: u8 = 1;
/// Bytes of a short fingerprint.
const SHORT_BYTES: usize = 16;
const KEY_ID_LEN: usize = 4;
const TAG_LEN: usize = 32;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + aead::NONCE_LEN;
/// Shorter secret keys are rejected.
pub const MIN_SECRET_LEN: usize = 32;

/// What can go wrong with a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The secret key is too short.
    #[error(
        "the secret key must have at least {MIN_SECRET_LEN} characters; `openssl rand -base64 48` makes one"
    )]
    WeakSecret,
    /// None of our keys unseals it.
    #[error("sealed with another secret key; set it in `previous_secret_keys`")]
    UnknownKey,
    /// Cut short, changed, or moved from another place.
    #[error("a sealed value was damaged or moved from another row")]
    Damaged,
    /// The system gave no random bytes.
    #[error("no random bytes from the operating system")]
    NoRandomness,
}

/// The result of comparing content with a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// It was made of this content.
    Same,
    /// It was made of other content.
    Different,
    /// The key that it was made with is gone.
    Unknown,
}

struct Key {
    id: [u8; KEY_ID_LEN],
    seal: LessSafeKey,
    fingerprint: hmac::Key,
}

impl Key {
    fn derive(secret: &SecretString) -> Result<Self, VaultError> {
        let secret = secret.expose_secret().as_bytes();
        if secret.len() < MIN_SECRET_LEN {
            return Err(VaultError::WeakSecret);
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"herald vault").extract(secret);
        let id = expand(&root, b"key id")?;
        let seal = UnboundKey::new(&aead::CHACHA20_POLY1305, &expand(&root, b"seal")?)
            .map_err(|_| VaultError::WeakSecret)?;
        let fingerprint = hmac::Key::new(hmac::HMAC_SHA256, &expand(&root, b"fingerprint")?);
        Ok(Self { id: [id[0], id[1], id[2], id[3]], seal: LessSafeKey::new(seal), fingerprint })
    }
}

fn expand(root: &hkdf::Prk, purpose: &[u8]) -> Result<[u8; 32], VaultError> {
    let mut out = [0; 32];
    let info = [purpose];
    let okm = root.expand(&info, hkdf::HKDF_SHA256).map_err(|_| VaultError::WeakSecret)?;
    okm.fill(&mut out).map_err(|_| VaultError::WeakSecret)?;
    Ok(out)
}

/// Holds the keys. It displays none of them.
pub struct Vault {
    present: Key,
    earlier: Vec<Key>,
    random: SystemRandom,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Seals with `present`, unseals with `earlier` too.
    ///
    /// # Errors
    /// [`VaultError::WeakSecret`] when a secret is too short.
    pub fn new(present: &SecretString, earlier: &[SecretString]) -> Result<Self, VaultError> {
        Ok(Self {
            present: Key::derive(present)?,
            earlier: earlier.iter().map(Key::derive).collect::<Result<_, _>>()?,
            random: SystemRandom::new(),
        })
    }

    /// Seals `plain` for `place`, such as `event_secrets/evt_…`.
    ///
    /// # Errors
    /// [`VaultError::NoRandomness`] when the system returns no random bytes; retrying may help.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; aead::NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| VaultError::NoRandomness)?;
        let mut body = plain.to_vec();
        self.present
            .seal
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut body,
            )
            .map_err(|_| VaultError::Damaged)?;
        let mut sealed = Vec::with_capacity(HEADER_LEN + body.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.present.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Unseals what was sealed for the same `place`.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`] or [`VaultError::Damaged`]; retrying does not help.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        if sealed.len() < HEADER_LEN || sealed[0] != FORMAT {
            return Err(VaultError::Damaged);
        }
        let (header, body) = sealed.split_at(HEADER_LEN);
        let (id, nonce) = header[1..].split_at(KEY_ID_LEN);
        let key = self.keys().find(|key| key.id == id).ok_or(VaultError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Damaged)?;
        let mut body = body.to_vec();
        let plain = key
            .seal
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut body)
            .map_err(|_| VaultError::Damaged)?;
        Ok(plain.to_vec())
    }

    /// The id of the key that seals now; a sealed value's bytes 2 to 5 are the id of its key.
    pub fn present_id(&self) -> [u8; KEY_ID_LEN] {
        self.present.id
    }

    /// A keyed hash of content, so that short content can't be guessed from a database dump; it is prefixed with the
    /// key's id.
    pub fn fingerprint(&self, content: &[u8]) -> Vec<u8> {
        [self.present.id.as_slice(), &tag(&self.present, content)].concat()
    }

    /// The start of a fingerprint as hexadecimal text: the key's id and 96 bits, for comparing values of one person.
    pub fn short_fingerprint(&self, text: &str) -> String {
        use std::fmt::Write;
        let print = self.fingerprint(text.as_bytes());
        print.iter().take(SHORT_BYTES).fold(String::with_capacity(2 * SHORT_BYTES), |mut written, byte| {
            // Writing to a text does not fail.
            let _ = write!(written, "{byte:02x}");
            written
        })
    }

    /// Whether `fingerprint` was made of `content`.
    pub fn compare(&self, fingerprint: &[u8], content: &[u8]) -> Comparison {
        if fingerprint.len() != KEY_ID_LEN + TAG_LEN {
            return Comparison::Different;
        }
        let (id, known) = fingerprint.split_at(KEY_ID_LEN);
        match self.keys().find(|key| key.id == id) {
            Some(key) if bool::from(tag(key, content).ct_eq(known)) => Comparison::Same,
            Some(_) => Comparison::Different,
            None => Comparison::Unknown,
        }
    }

    /// A new random key for [`DigestKey`].
    ///
    /// # Errors
    /// [`VaultError::NoRandomness`] when the system returns no random bytes; retrying may help.
    pub fn new_digest_key(&self) -> Result<[u8; TAG_LEN], VaultError> {
        let mut key = [0; TAG_LEN];
        self.random.fill(&mut key).map_err(|_| VaultError::NoRandomness)?;
        Ok(key)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.present).chain(&self.earlier)
    }
}

/// A key for hashes that are compared for as long as the database exists, whatever the secret key is. It displays
/// nothing.
pub struct DigestKey(hmac::Key);

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey")
    }
}

impl DigestKey {
    /// Takes a key's bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The keyed hash of a text.
    pub fn digest(&self, text: &str) -> [u8; TAG_LEN] {
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(hmac::sign(&self.0, text.as_bytes()).as_ref());
        out
    }
}

fn tag(key: &Key, content: &[u8]) -> [u8; TAG_LEN] {
    let mut out = [0; TAG_LEN];
    out.copy_from_slice(hmac::sign(&key.fingerprint, content).as_ref());
    out
}

/// Plain SHA-256, for values that are already long and random: API keys, event keys, request bodies.
pub fn sha256(content: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(letter: &str) -> SecretString {
        SecretString::from(letter.repeat(MIN_SECRET_LEN))
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_place_only() {
        let vault = Vault::new(&secret("a"), &[]).unwrap();
        let sealed = vault.seal("event_secrets/evt_1", b"314159").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"314159"));
        assert_eq!(vault.open("event_secrets/evt_1", &sealed).unwrap(), b"314159");
        assert_eq!(vault.open("event_secrets/evt_2", &sealed), Err(VaultError::Damaged));
        assert_eq!(vault.open("event_secrets/evt_1", &sealed[..20]), Err(VaultError::Damaged));
    }

    #[test]
    fn after_a_rotation_the_earlier_key_still_opens_and_matches() {
        let before = Vault::new(&secret("a"), &[]).unwrap();
        let after = Vault::new(&secret("b"), &[secret("a")]).unwrap();
        let sealed = before.seal("x", b"value").unwrap();
        assert_eq!(after.open("x", &sealed).unwrap(), b"value");
        let fingerprint = before.fingerprint(b"body");
        assert_eq!(after.compare(&fingerprint, b"body"), Comparison::Same);
        assert_eq!(after.compare(&fingerprint, b"other"), Comparison::Different);
        let lost = Vault::new(&secret("b"), &[]).unwrap();
        assert_eq!(lost.open("x", &sealed), Err(VaultError::UnknownKey));
        assert_eq!(lost.compare(&fingerprint, b"body"), Comparison::Unknown);
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(Vault::new(&SecretString::from("short"), &[]).unwrap_err(), VaultError::WeakSecret);
    }
}
