//! What is known of a text before it is there: whether it may be blank, and whether it reads as a number or a date.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind};
use serde_json::{Map, Value};

use crate::domain::visible::is_blank;
use crate::templating::liquid::dates;
use crate::templating::liquid::number::Number;

/// Whether something is true of the possible texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    /// For each of them.
    Always,
    /// For some, or unknown.
    Maybe,
    /// For none, or nothing says that it should.
    Never,
}

impl Chance {
    fn or(self, other: Self) -> Self {
        if self == other { self } else { Self::Maybe }
    }
}

/// The possible texts of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Whether it may be without any character.
    pub empty: bool,
    /// The least number of characters that it has.
    pub min: usize,
    /// Whether it may be nothing but whitespace, or nothing at all.
    pub blank: bool,
    /// All of them, if they are few and known.
    pub values: Option<BTreeSet<String>>,
    /// Whether filters can calculate with it.
    pub numeric: Chance,
    /// Whether the filter `date` can read it.
    pub date: Chance,
}

/// Formats that every validator of Herald's asserts and that no blank text has.
pub const FILLED_FORMATS: [&str; 11] =
    ["date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "iri", "uuid"];

impl Text {
    /// Any text, as a filter may leave it.
    pub fn any() -> Self {
        Self { empty: true, min: 0, blank: true, values: None, numeric: Chance::Maybe, date: Chance::Maybe }
    }

    /// A text of which only this is known.
    pub fn made(blank: bool) -> Self {
        Self { empty: blank, blank, ..Self::any() }
    }

    /// One of these.
    pub fn of_values(values: BTreeSet<String>) -> Self {
        let chance = |holds: &dyn Fn(&str) -> bool| {
            let count = values.iter().filter(|value| holds(value)).count();
            match count {
                0 => Chance::Never,
                count if count == values.len() => Chance::Always,
                _ => Chance::Maybe,
            }
        };
        Self {
            empty: values.contains(""),
            min: values.iter().map(|value| value.chars().count()).min().unwrap_or(0),
            blank: values.iter().any(|value| is_blank(value)),
            numeric: chance(&|value| Number::parse(value).is_some()),
            date: chance(&|value| dates::parse(value).is_some()),
            values: Some(values),
        }
    }

    /// What schemas that hold together say of a text; `formats` says whether their formats are asserted.
    pub fn of_schemas(parts: &[&Map<String, Value>], formats: bool) -> Self {
        let word = |key: &'static str| parts.iter().filter_map(move |part| part.get(key)?.as_str());
        let min = parts.iter().filter_map(|part| count(part.get("minLength")?)).max().unwrap_or(0);
        let format = |known: &[&str]| formats && word("format").any(|format| known.contains(&format));
        let filled = format(&FILLED_FORMATS) || word("pattern").any(excludes_blank);
        let shaped = word("pattern").next().is_some();
        let date = if format(&["date", "date-time"]) {
            Chance::Always
        } else if format(&FILLED_FORMATS) {
            Chance::Never
        } else {
            Chance::Maybe
        };
        Self {
            empty: min == 0 && !filled,
            min,
            blank: !filled,
            values: None,
            numeric: if shaped { Chance::Maybe } else { Chance::Never },
            date,
        }
    }

    /// A text that is one or the other.
    pub fn or(self, other: Self) -> Self {
        let values = match (self.values, other.values) {
            (Some(a), Some(b)) => Some(a.union(&b).cloned().collect()),
            (None, _) | (_, None) => None,
        };
        Self {
            empty: self.empty || other.empty,
            min: self.min.min(other.min),
            blank: self.blank || other.blank,
            values: values.filter(|values: &BTreeSet<String>| values.len() <= 64),
            numeric: self.numeric.or(other.numeric),
            date: self.date.or(other.date),
        }
    }

    /// The same, once it is known not to be blank.
    pub fn filled(self) -> Self {
        match self.values {
            Some(values) => Self::of_values(values.into_iter().filter(|value| !is_blank(value)).collect()),
            None => Self { empty: false, blank: false, ..self },
        }
    }

    /// The same, once it is known to have a character.
    pub fn not_empty(self) -> Self {
        match self.values {
            Some(values) => Self::of_values(values.into_iter().filter(|value| !value.is_empty()).collect()),
            None => Self { empty: false, ..self },
        }
    }
}

/// A count as schemas write it: a whole number, perhaps with a fraction of nothing.
pub fn count(value: &Value) -> Option<usize> {
    let whole = value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && *float >= 0.0)?;
        u64::try_from(Number::Float(float).as_i64()).ok()
    })?;
    usize::try_from(whole).ok()
}

/// Whether no blank text fits a pattern. A pattern that can't be read excludes nothing.
pub fn excludes_blank(pattern: &str) -> bool {
    regex_syntax::parse(pattern).is_ok_and(|hir| !fits_blank(&hir))
}

/// Whether some blank text fits; a look around may only make fewer fit.
fn fits_blank(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => true,
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).is_ok_and(|text| text.trim().is_empty()),
        HirKind::Class(Class::Unicode(class)) => {
            let holds = |c: char| class.ranges().iter().any(|range| range.start() <= c && c <= range.end());
            whitespace().any(holds)
        }
        HirKind::Repetition(repetition) => repetition.min == 0 || fits_blank(&repetition.sub),
        HirKind::Capture(capture) => fits_blank(&capture.sub),
        HirKind::Concat(parts) => parts.iter().all(fits_blank),
        HirKind::Alternation(parts) => parts.iter().any(fits_blank),
    }
}

fn whitespace() -> impl Iterator<Item = char> {
    // All whitespace lies in the first plane's lower half.
    ('\u{0}'..='\u{3000}').filter(|c| c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_excludes_blanks_if_some_other_character_must_be_there() {
        for pattern in [r"\S", "^[0-9]{6}$", "a|b", r"^\s*[a-z]+", "^[a-z0-9-]+$", "(?i)x", r"^#\d+"] {
            assert!(excludes_blank(pattern), "{pattern}");
        }
        for pattern in ["", ".", ".+", "^.{3,}$", "^$", "a|", "[^x]", "a*", r"\s", "(", r"^[\w ]+$", "(?=x)"]
        {
            assert!(!excludes_blank(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_least_length_alone_does_not_exclude_spaces() {
        let schema = serde_json::json!({"minLength": 1});
        let text = Text::of_schemas(&[schema.as_object().expect("an object")], true);
        assert_eq!((text.empty, text.blank), (false, true));
    }

    #[test]
    fn the_formats_that_are_relied_on_refuse_blanks() {
        for format in FILLED_FORMATS {
            let schema = serde_json::json!({"format": format});
            let validator =
                jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            for text in ["", " ", "\n", "   "] {
                assert!(!validator.is_valid(&text.into()), "{format} takes {text:?}");
            }
        }
    }
}
