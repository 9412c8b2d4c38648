//! Common properties of strings.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

/// The formats to detect, the most specific first.
const FORMATS: [&str; 5] = ["uuid", "date-time", "date", "email", "uri"];
/// Maximum number of enum values, and the minimum number of strings before any are listed.
const MAX_WORDS: usize = 8;
const MIN_TEXTS: usize = 50;
/// Words in member names whose values are private or unique per person.
const PRIVATE: [&str; 31] = [
    "code",
    "token",
    "secret",
    "password",
    "passcode",
    "pass",
    "pin",
    "otp",
    "key",
    "hash",
    "signature",
    "auth",
    "email",
    "mail",
    "phone",
    "mobile",
    "tel",
    "name",
    "address",
    "street",
    "birthday",
    "admission",
    "ip",
    "iban",
    "card",
    "account",
    "id",
    "url",
    "link",
    "user",
    "ssn",
];

/// Detects formats like the validation of events.
pub struct Formats(Vec<(&'static str, Validator)>);

impl Formats {
    /// Prepares every format.
    pub fn new() -> Self {
        let validator = |format: &'static str| {
            let schema = json!({ "format": format });
            let built = jsonschema::options().should_validate_formats(true).build(&schema).ok()?;
            Some((format, built))
        };
        Self(FORMATS.into_iter().filter_map(validator).collect())
    }

    /// The formats that `text` has. Nearly everything with a colon is a URI, so only links count as one.
    fn of(&self, text: &str) -> BTreeSet<&'static str> {
        let is_link = text.starts_with("https://") || text.starts_with("http://");
        let value = Value::from(text);
        let fits = |(format, validator): &&(&'static str, Validator)| {
            (*format != "uri" || is_link) && validator.is_valid(&value)
        };
        self.0.iter().filter(fits).map(|(format, _)| *format).collect()
    }
}

/// The strings seen at one position.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    count: usize,
    /// Whether one of them was nothing but what `\s` stands for in a schema's patterns.
    blank: bool,
    /// The formats that all of them have.
    formats: BTreeSet<&'static str>,
    /// The distinct values, up to one more than are listed.
    words: BTreeSet<String>,
}

impl Texts {
    /// Adds a string.
    pub fn add(&mut self, text: &str, formats: &Formats) {
        if self.count == 0 {
            self.formats = formats.of(text);
        } else if !self.formats.is_empty() {
            let also = formats.of(text);
            self.formats.retain(|format| also.contains(format));
        }
        self.count += 1;
        self.blank |= text.chars().all(|c| c.is_whitespace() || c == '\u{feff}');
        if self.words.len() <= MAX_WORDS {
            self.words.insert(text.to_owned());
        }
    }

    /// Adds those of another position.
    pub fn merge(&mut self, other: &Self) {
        if self.count == 0 {
            self.formats.clone_from(&other.formats);
        } else if other.count > 0 {
            self.formats.retain(|format| other.formats.contains(format));
        }
        self.count += other.count;
        self.blank |= other.blank;
        self.words.extend(other.words.iter().cloned());
    }

    /// Whether there was any.
    pub fn any(&self) -> bool {
        self.count > 0
    }

    /// The values, if there are few and the member name is not private.
    pub fn words(&self, name: &str) -> Option<&BTreeSet<String>> {
        let few = self.words.len() <= MAX_WORDS && self.count >= MIN_TEXTS && self.formats.is_empty();
        (few && !self.blank && !is_private(name)).then_some(&self.words)
    }

    /// The format that all of them have.
    pub fn format(&self) -> Option<&'static str> {
        FORMATS.into_iter().find(|format| self.formats.contains(format))
    }

    /// Whether none was blank.
    pub fn is_filled(&self) -> bool {
        self.any() && !self.blank
    }
}

/// Whether a member's name indicates private values: `resetToken`, `reset_token`.
fn is_private(name: &str) -> bool {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c.is_uppercase() || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase().filter(|c| c.is_alphanumeric()));
        }
    }
    let whole = name.to_lowercase();
    words.iter().any(|word| PRIVATE.contains(&word.as_str()) || PRIVATE.contains(&word.trim_end_matches('s')))
        || PRIVATE.iter().any(|private| private.len() > 4 && whole.contains(private))
}
