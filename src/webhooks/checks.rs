//! Validation of a source's settings.

use serde_json::Value;

use super::mapping::{Data, Mapping, TypeSource, fixed_type};
use super::settings::{MappingSettings, SettingsProblem, SourceSettings};
use crate::domain::budget::Budget;
use crate::domain::event::is_pattern;
use crate::domain::template::is_locale;
use crate::expressions::{Expression, Kind};

/// Maximum mappings per source.
pub(super) const MAX_MAPPINGS: usize = 100;
/// Maximum expressions in a data table.
const MAX_LEAVES: usize = 200;

/// Collects problems of a source's settings.
pub(super) struct Checker<'b> {
    pub problems: Vec<SettingsProblem>,
    pub budget: &'b Budget,
}

impl Checker<'_> {
    pub fn note(&mut self, place: &str, code: &'static str, message: &str) {
        self.problems.push(SettingsProblem::new(place, code, message));
    }

    pub fn source(&mut self, settings: &SourceSettings) {
        for (place, text) in
            settings.allowed_types.iter().flatten().enumerate().filter(|(_, t)| !is_pattern(t))
        {
            let message = format!("`{text}` is not an event type pattern");
            let problem = SettingsProblem::new(format!("allowed_types[{place}]"), "bad_type", message);
            self.problems.push(problem.hint("write `order.shipped`, `order.*` for a family, or `*`"));
        }
        if settings.default_locale.as_deref().is_some_and(|locale| !is_locale(locale)) {
            self.note("default_locale", "bad_locale", "must be a BCP 47 tag, such as `de` or `de-AT`");
        }
    }

    /// `None` after recording a problem.
    pub fn mapping(&mut self, place: &str, settings: &MappingSettings, has_id: bool) -> Option<Mapping> {
        let before = self.problems.len();
        if settings.id.is_none() && !has_id {
            let problem = SettingsProblem::new(
                format!("{place}.id"),
                "required",
                "an event requires an id, which is used to detect duplicates",
            );
            self.problems.push(problem.hint("such as `body.id`, or a header: `headers['x-delivery-id']`"));
        }
        let recipient = self.recipient(place, settings);
        let event_type = match fixed_type(&settings.r#type) {
            Some(name) => Some(TypeSource::Fixed(name.to_owned())),
            None => self.expression(place, "type", &settings.r#type, Kind::Text).map(TypeSource::Yielded),
        };
        let data = settings.data.as_ref().and_then(|data| {
            let mut leaves = 0;
            self.data(&format!("{place}.data"), data, Kind::Object, &mut leaves)
        });
        let fields = self.fields(place, settings);
        let mut optional = |name: &str, text: &Option<String>, kind: Kind| {
            text.as_ref().and_then(|text| self.expression(place, name, text, kind))
        };
        let (when, id) =
            (optional("when", &settings.when, Kind::Bool), optional("id", &settings.id, Kind::Any));
        let recipients = optional("recipients", &settings.recipients, Kind::List);
        if self.problems.len() > before {
            return None;
        }
        Some(Mapping { when, event_type: event_type?, id, recipient, recipients, data, fields })
    }

    fn fields(&mut self, place: &str, settings: &MappingSettings) -> Vec<(&'static str, Expression)> {
        let texts = [
            ("time", &settings.time, Kind::Text),
            ("locale", &settings.locale, Kind::Text),
            ("send_after", &settings.send_after, Kind::Text),
            ("expires_at", &settings.expires_at, Kind::Text),
            ("cancellation_key", &settings.cancellation_key, Kind::Text),
            ("collapse_key", &settings.collapse_key, Kind::Text),
            ("sequence", &settings.sequence, Kind::Number),
            ("ordering_key", &settings.ordering_key, Kind::Text),
        ];
        let given = texts.into_iter().filter_map(|(name, text, kind)| Some((name, text.as_ref()?, kind)));
        given
            .filter_map(|(name, text, kind)| Some((name, self.expression(place, name, text, kind)?)))
            .collect()
    }

    fn recipient(&mut self, place: &str, settings: &MappingSettings) -> Option<(String, Expression)> {
        let labels = settings.recipient.as_ref()?;
        let place = format!("{place}.recipient");
        if settings.recipients.is_some() {
            self.note(&place, "bad_recipient", "use `recipient` or `recipients`, not both");
        }
        let (Some((label, text)), 1) = (labels.first_key_value(), labels.len()) else {
            self.note(&place, "bad_recipient", "a recipient must be one label with one expression");
            return None;
        };
        Some((label.clone(), self.expression(&place, label, text, Kind::Any)?))
    }

    fn data(&mut self, place: &str, data: &Value, kind: Kind, leaves: &mut usize) -> Option<Data> {
        *leaves += 1;
        if *leaves > MAX_LEAVES {
            self.note(place, "too_complex", "too many expressions");
            return None;
        }
        match data {
            Value::String(text) => {
                let (place, name) = place.rsplit_once('.').unwrap_or(("", place));
                self.expression(place, name, text, kind).map(Data::Yielded)
            }
            Value::Object(members) => {
                let made = members.iter().map(|(name, data)| {
                    Some((name.clone(), self.data(&format!("{place}.{name}"), data, Kind::Any, leaves)?))
                });
                Some(Data::Table(made.collect::<Option<_>>()?))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                let problem =
                    SettingsProblem::new(place, "syntax", "must be an expression, or a table of expressions");
                self.problems.push(problem.hint("write it as a string: `\"1\"`, `\"'DHL'\"`, `\"[1, 2]\"`"));
                None
            }
        }
    }

    fn expression(&mut self, place: &str, name: &str, text: &str, kind: Kind) -> Option<Expression> {
        let place = format!("{place}.{name}");
        let (parsed, found) = match Expression::parse(text, self.budget) {
            Ok(expression) => {
                let found = expression.check(&[("body", None), ("headers", None)], kind, self.budget);
                (Some(expression), found)
            }
            Err(problem) => (None, vec![problem]),
        };
        for problem in found {
            let message = format!("{} (line {}, column {})", problem.message, problem.line, problem.column);
            let noted = SettingsProblem::new(&place, problem.code, message);
            self.problems.push(SettingsProblem { hint: problem.hint, ..noted });
        }
        parsed
    }
}
