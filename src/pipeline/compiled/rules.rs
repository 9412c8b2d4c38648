//! A rule compiled for planning: its expressions parsed.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{Datelike, NaiveDate, NaiveDateTime};
use serde_json::{Map, Value, json};

use crate::domain::budget::Budget as Work;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::event::Event;
use crate::domain::rule::{Action, Audience, Filter, Rule, plain_text};
use crate::domain::tag;
use crate::expressions::{EvaluationError, Expression};

/// A rule with its expressions parsed. A rule that does not parse fails for each event, with a decision.
#[derive(Debug)]
pub struct CompiledRule {
    /// The rule.
    pub rule: Arc<Rule>,
    /// By their text.
    expressions: BTreeMap<String, Option<Expression>>,
}

/// What expressions see of an event. Most rules have no expressions, so it is built on first use.
pub struct Globals<'a> {
    event: &'a Event,
    /// The limits for expressions.
    work: &'a Work,
    about: OnceCell<Value>,
}

impl<'a> Globals<'a> {
    /// The names `data` and `event`.
    pub fn of(event: &'a Event, work: &'a Work) -> Self {
        Self { event, work, about: OnceCell::new() }
    }

    fn names(&self) -> [(&str, &Value); 2] {
        let event = self.event;
        let about = self.about.get_or_init(|| {
            json!({
                "id": event.event_key,
                "type": event.event_type.as_str(),
                "time": event.occurred_at.unwrap_or(event.received_at).to_rfc3339(),
                "locale": event.locale,
            })
        });
        [("data", &event.data), ("event", about)]
    }
}

impl CompiledRule {
    /// Parses a rule's expressions.
    pub fn new(rule: Rule, work: &Work) -> Self {
        let parse = |text: &str| (text.to_owned(), Expression::parse(text, work).ok());
        let expressions = expressions_of(&rule).map(parse).collect();
        Self { rule: Arc::new(rule), expressions }
    }

    /// Whether the rule's condition holds.
    ///
    /// # Errors
    /// The decision: it is false, or can't be evaluated.
    pub fn applies(&self, globals: &Globals<'_>) -> Result<(), Decision> {
        let Some(text) = &self.rule.definition.condition else { return Ok(()) };
        let holds = self.expression(text)?.holds(&globals.names(), globals.work);
        if holds.map_err(|error| failed(text, &error))? {
            Ok(())
        } else {
            Err(Decision::new(DecisionCode::ConditionFalse, format!("`{text}` is false for this event")))
        }
    }

    /// The time that `timing.at` names, if the rule has one; a date or a time without an offset is in `zone`.
    ///
    /// # Errors
    /// The decision: there is no such time in the event.
    pub fn named_time(&self, globals: &Globals<'_>) -> Result<Option<Timestamp>, Decision> {
        let timing = &self.rule.definition.timing;
        let Some(text) = &timing.at else { return Ok(None) };
        let value = self.value(text, globals)?;
        let found = value.as_str().and_then(|value| read_time(value, timing.zone.name));
        found.map(Some).ok_or_else(|| {
            Decision::new(
                DecisionCode::ExpressionFailed,
                format!("`{text}` is not a date or time in this event"),
            )
        })
    }

    /// The value that the events of one digest share; `None` if the rule has no digest.
    ///
    /// # Errors
    /// The decision: it can't be evaluated, or is not a string, number or boolean.
    pub fn digest_key(&self, globals: &Globals<'_>) -> Result<Option<String>, Decision> {
        let Some(digest) = &self.rule.definition.digest else { return Ok(None) };
        digest.key.as_deref().map_or(Ok(String::new()), |text| self.text(text, globals)).map(Some)
    }

    /// The values of a table of expressions.
    ///
    /// # Errors
    /// The decision: one of them can't be evaluated.
    pub fn values(
        &self,
        table: &BTreeMap<String, String>,
        globals: &Globals<'_>,
    ) -> Result<Map<String, Value>, Decision> {
        table.iter().map(|(name, text)| Ok((name.clone(), self.value(text, globals)?))).collect()
    }

    /// The text that an expression yields.
    ///
    /// # Errors
    /// The decision: it can't be evaluated, or is not a string, number or boolean.
    pub fn text(&self, text: &str, globals: &Globals<'_>) -> Result<String, Decision> {
        plain_text(&self.value(text, globals)?).ok_or_else(|| {
            Decision::new(
                DecisionCode::ExpressionFailed,
                format!("`{text}` is not a string, number or boolean"),
            )
        })
    }

    /// The tag value that an expression yields.
    ///
    /// # Errors
    /// The decision: it can't be evaluated, or is a list or an object.
    pub fn tag(&self, text: &str, globals: &Globals<'_>) -> Result<String, Decision> {
        tag::text_of(&self.value(text, globals)?).map_err(|error| {
            Decision::new(DecisionCode::ExpressionFailed, format!("`{text}` can't be a tag: {error}"))
        })
    }

    /// An audience with the event's values filled in.
    ///
    /// # Errors
    /// The decision: a value can't be evaluated.
    pub fn audience(&self, audience: &Audience, globals: &Globals<'_>) -> Result<Audience, Decision> {
        let Audience::Filters(filters) = audience else { return Ok(audience.clone()) };
        let fill = |filter: &Filter| -> Result<Filter, Decision> {
            let Some(text) = &filter.value_from else { return Ok(filter.clone()) };
            Ok(Filter { value: Some(self.text(text, globals)?), value_from: None, ..filter.clone() })
        };
        Ok(Audience::Filters(filters.iter().map(fill).collect::<Result<_, _>>()?))
    }

    fn value(&self, text: &str, globals: &Globals<'_>) -> Result<Value, Decision> {
        self.expression(text)?.evaluate(&globals.names(), globals.work).map_err(|error| failed(text, &error))
    }

    fn expression(&self, text: &str) -> Result<&Expression, Decision> {
        self.expressions.get(text).and_then(Option::as_ref).ok_or_else(|| {
            Decision::new(DecisionCode::ExpressionFailed, format!("`{text}` is not a valid expression"))
        })
    }
}

/// Every expression in a rule.
fn expressions_of(rule: &Rule) -> impl Iterator<Item = &str> {
    let definition = &rule.definition;
    let mut found: Vec<&str> = definition.condition.as_deref().into_iter().collect();
    found.extend(definition.timing.at.as_deref());
    found.extend(definition.digest.as_ref().and_then(|digest| digest.key.as_deref()));
    match &definition.action {
        Action::Send { audience: Audience::Filters(filters), .. } => {
            found.extend(filters.iter().filter_map(|filter| filter.value_from.as_deref()));
        }
        Action::Send { .. } => {}
        Action::Tag(table) | Action::Track { properties: table, .. } => {
            found.extend(table.values().map(String::as_str));
        }
        Action::Cancel(key) => found.push(key),
    }
    found.into_iter()
}

fn failed(text: &str, error: &EvaluationError) -> Decision {
    let code = DecisionCode::ExpressionFailed;
    match error {
        EvaluationError::Missing { path } => {
            Decision::new(code, format!("`{text}` needs `{path}`, which the event lacks"))
                .with("path", path.as_str())
        }
        EvaluationError::Failed { detail } => {
            Decision::new(code, format!("`{text}` can't be evaluated: {detail}"))
        }
    }
}

/// A time as events write it: RFC 3339, or a date or a time without an offset, which is in `zone`. None outside of the
/// years that RFC 3339 can express, so that computed times stay within the calendar.
fn read_time(text: &str, zone: chrono_tz::Tz) -> Option<Timestamp> {
    read_any_time(text, zone).filter(|time| (0..=9999).contains(&time.year()))
}

fn read_any_time(text: &str, zone: chrono_tz::Tz) -> Option<Timestamp> {
    // RFC 3339 with its usual variants: a space for the `T`, lower case, no seconds.
    let text = text.trim().replacen([' ', 't'], "T", 1).replace('z', "Z");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Some(time) = ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%.f%z"]
        .iter()
        .find_map(|format| chrono::DateTime::parse_from_str(&text, format).ok())
    {
        return Some(time.to_utc());
    }
    if let Some(utc) = text.strip_suffix('Z') {
        return Some(NaiveDateTime::parse_from_str(utc, "%Y-%m-%dT%H:%M").ok()?.and_utc());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok())
        .or_else(|| {
            Some(NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_time(chrono::NaiveTime::MIN))
        })?;
    crate::domain::timing::instant(local, zone)
}

#[cfg(test)]
mod tests {
    use crate::pipeline::compiled::rules::*;

    #[test]
    fn a_date_is_midnight_where_the_rule_lives() {
        let berlin = chrono_tz::Tz::Europe__Berlin;
        let at = |text| read_time(text, berlin).map(|at| at.to_rfc3339());
        assert_eq!(at("2026-11-25").as_deref(), Some("2026-11-24T23:00:00+00:00"));
        assert_eq!(at("2026-11-25T09:30").as_deref(), Some("2026-11-25T08:30:00+00:00"));
        assert_eq!(at("2026-11-25T09:30:00+05:00").as_deref(), Some("2026-11-25T04:30:00+00:00"));
        assert_eq!(at("2026-11-25T09:30:15.250").as_deref(), Some("2026-11-25T08:30:15.250+00:00"));
        for half_past_four in [
            "2026-11-25T09:30+05:00",
            "2026-11-25T09:30+0500",
            "2026-11-25 09:30:00+05:00",
            "2026-11-25 09:30:00.000+05:00",
            "2026-11-25T09:30:00.000+0500",
            "2026-11-25T04:30Z",
            "2026-11-25t04:30:00z",
            "2026-11-25 04:30Z",
        ] {
            assert_eq!(at(half_past_four).as_deref(), Some("2026-11-25T04:30:00+00:00"), "{half_past_four}");
        }
        for wrong in ["tomorrow", "", "2026-11-25T09:30+", "2026-11-25T25:00Z", "Z"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_beyond_the_calendar_is_none() {
        for text in ["+262142-12-31T23:59:59Z", "+262142-12-31", "+010000-01-01T00:00:00Z", "-0001-01-01"] {
            assert_eq!(read_time(text, chrono_tz::Tz::Pacific__Apia), None, "{text}");
        }
    }
}
