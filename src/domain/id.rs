//! Typed ids: `UUIDv7` in Postgres, a prefix and 26 base32 characters outside.

use chrono::TimeDelta;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use super::clock::Timestamp;

/// Crockford's alphabet in lower case: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ENCODED_LEN: usize = 26;

/// An id of one kind of thing.
pub trait TypedId: Copy {
    /// What it starts with outside, without the underscore.
    const PREFIX: &'static str;
    /// Takes a UUID that is known to name this kind of thing.
    fn from_uuid(uuid: Uuid) -> Self;
    /// The UUID as Postgres keeps it.
    fn uuid(self) -> Uuid;
}

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id of this kind is `{prefix}_` followed by 26 characters")]
pub struct IdError {
    prefix: &'static str,
}

/// Writes `prefix_` and the UUID in base32.
pub fn encode(prefix: &str, uuid: Uuid) -> String {
    let bits = uuid.as_u128();
    let digits = (0..ENCODED_LEN).rev().map(|place| {
        let digit = (bits >> (place * 5)) & 31;
        char::from(ALPHABET[usize::try_from(digit).unwrap_or_default()])
    });
    prefix.chars().chain(std::iter::once('_')).chain(digits).collect()
}

/// Reads what [`encode`] wrote, and nothing else: no other case, no other prefix, no overflow.
///
/// # Errors
/// [`IdError`] names the prefix and length that an id of this kind has.
pub fn decode(prefix: &'static str, text: &str) -> Result<Uuid, IdError> {
    let error = IdError { prefix };
    let digits = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')).ok_or(error.clone())?;
    // The first of 26 digits carries three bits: more would not fit 128.
    if digits.len() != ENCODED_LEN || digits.as_bytes()[0] > b'7' {
        return Err(error);
    }
    let mut bits = 0_u128;
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit).ok_or(error.clone())?;
        bits = (bits << 5) | value as u128;
    }
    Ok(Uuid::from_u128(bits))
}

/// Declares an id type for one kind of thing.
macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(uuid::Uuid);

        impl $crate::domain::id::TypedId for $name {
            const PREFIX: &'static str = $prefix;
            fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }
            fn uuid(self) -> uuid::Uuid {
                self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::domain::id::encode($prefix, self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::domain::id::IdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::domain::id::decode($prefix, text).map(Self)
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

typed_id!(
    /// An event as Herald knows it.
    EventId, "evt"
);
typed_id!(
    /// A delivery.
    DeliveryId, "dlv"
);
typed_id!(
    /// A decision.
    DecisionId, "dec"
);
typed_id!(
    /// A batch.
    BatchId, "bat"
);
typed_id!(
    /// A replay.
    ReplayId, "rpl"
);
typed_id!(
    /// A template.
    TemplateId, "tpl"
);
typed_id!(
    /// One immutable version of a template.
    TemplateVersionId, "tpv"
);
typed_id!(
    /// A rule.
    RuleId, "rul"
);
typed_id!(
    /// A source of events.
    SourceId, "src"
);
typed_id!(
    /// An API key (not its secret).
    KeyId, "key"
);
typed_id!(
    /// A webhook's secret (not its text).
    WebhookSecretId, "whs"
);
typed_id!(
    /// A body that a webhook received.
    ReceivedBodyId, "bod"
);
typed_id!(
    /// A person of the team.
    MemberId, "mem"
);
typed_id!(
    /// A user: a person at OneSignal.
    UserId, "usr"
);
typed_id!(
    /// An import of users.
    ImportId, "imp"
);
typed_id!(
    /// The erasure of a person.
    ErasureId, "ers"
);
typed_id!(
    /// A connector to another database.
    ConnectorId, "con"
);
typed_id!(
    /// One run of a process that sends.
    WorkerId, "wrk"
);

/// Creates ids from the clock's time and a random source that tests can seed.
#[derive(Debug)]
pub struct IdSource {
    random: Mutex<StdRng>,
}

impl IdSource {
    /// Seeded by the operating system.
    pub fn random() -> Self {
        Self { random: Mutex::new(rand::make_rng()) }
    }

    /// The same ids in the same order for the same seed: for tests.
    pub fn seeded(seed: u64) -> Self {
        Self { random: Mutex::new(StdRng::seed_from_u64(seed)) }
    }

    /// A fresh id that sorts by `now`, to a quarter of a microsecond.
    pub fn next<T: TypedId>(&self, now: Timestamp) -> T {
        let low: u64 = self.random.lock().random();
        T::from_uuid(uuid_v7(now, low))
    }
}

/// A number in 0..1 for the jitter of retries; it is here because both are the process's randomness.
impl IdSource {
    /// The next jitter.
    pub fn jitter(&self) -> f64 {
        self.random.lock().random()
    }

    /// 32 random bytes, for secrets.
    pub fn secret(&self) -> [u8; 32] {
        self.random.lock().random()
    }

    /// 64 random hexadecimal digits, for secrets that travel as text.
    pub fn secret_text(&self) -> String {
        use std::fmt::Write;
        self.secret().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// RFC 9562 `UUIDv7`: 48 bits of milliseconds, 12 bits of the fraction of one, 62 random bits.
fn uuid_v7(now: Timestamp, random: u64) -> Uuid {
    let millis = u128::try_from(now.timestamp_millis()).unwrap_or_default() & 0xffff_ffff_ffff;
    let fraction = u128::from(now.timestamp_subsec_micros() % 1000) * 4096 / 1000;
    let variant = (u128::from(random) & 0x3fff_ffff_ffff_ffff) | (0b10 << 62);
    Uuid::from_u128((millis << 80) | (0x7 << 76) | (fraction << 64) | variant)
}

/// The smallest UUID of any id created at or after `at`: a bound for ranges over ids.
pub fn floor(at: Timestamp) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap_or_default() & 0xffff_ffff_ffff;
    Uuid::from_u128(millis << 80)
}

/// The time at which an id was created, to the millisecond.
pub fn made_at(uuid: Uuid) -> Timestamp {
    let millis = i64::try_from(uuid.as_u128() >> 80).unwrap_or_default();
    Timestamp::from_timestamp_millis(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The half-open range of ids created in the same millisecond as `uuid`.
pub fn same_millisecond(uuid: Uuid) -> (Uuid, Uuid) {
    let at = made_at(uuid);
    (floor(at), floor(at + TimeDelta::milliseconds(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Timestamp {
        "2026-11-23T10:42:07.113456Z".parse().unwrap()
    }

    #[test]
    fn an_id_survives_the_trip_outside_and_back() {
        let id: EventId = IdSource::seeded(1).next(moment());
        let text = id.to_string();
        assert!(text.starts_with("evt_") && text.len() == 30, "{text}");
        assert_eq!(text.parse::<EventId>(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_or_case_or_length_is_refused() {
        let text = IdSource::seeded(1).next::<EventId>(moment()).to_string();
        assert!(text.parse::<DeliveryId>().is_err());
        assert!(text.to_uppercase().parse::<EventId>().is_err());
        assert!(text[..29].parse::<EventId>().is_err());
        assert!(format!("evt_8{}", &text[5..]).parse::<EventId>().is_err(), "130 bits do not fit");
    }

    #[test]
    fn ids_sort_by_time_within_a_millisecond() {
        let ids = IdSource::seeded(7);
        let first: EventId = ids.next(moment());
        let later: EventId = ids.next(moment() + TimeDelta::microseconds(1));
        assert!(first < later);
        assert_eq!(made_at(first.uuid()).timestamp_millis(), moment().timestamp_millis());
        let (low, high) = same_millisecond(first.uuid());
        assert!(low <= first.uuid() && first.uuid() < high);
    }
}
