//! Sensitive values: where they are, and which of them are sent.

use std::collections::BTreeSet;

use super::flow::{Place, Reading, follow};
use super::{EventShape, Finding, Severity};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::templating::compile::{CompiledContent, Whole};
use crate::templating::liquid::Template;
use crate::templating::liquid::position::line_and_column;

fn segments(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

fn is_index(segment: &str) -> bool {
    segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a step of a place may be the segment of a pointer.
fn fits(step: Option<&String>, segment: &str) -> bool {
    step.is_none_or(|step| step == segment)
}

fn begins_with(longer: &[String], place: &[Option<String>]) -> bool {
    longer.len() >= place.len()
        && place.iter().zip(longer).all(|(step, segment)| fits(step.as_ref(), segment))
}

/// Whether one of the places is sensitive, or inside a sensitive value.
pub fn is_within(places: &[Place], sensitive: &[String]) -> bool {
    sensitive.iter().map(|pointer| segments(pointer)).any(|pointer| {
        let within = |place: &Place| {
            place.len() >= pointer.len()
                && place.iter().zip(&pointer).all(|(step, segment)| fits(step.as_ref(), segment))
        };
        places.iter().any(within)
    })
}

/// The first sensitive value below one of the places.
pub fn first_below<'p>(places: &[Place], sensitive: &'p [String]) -> Option<&'p str> {
    let below = |pointer: &&String| {
        let pointer = segments(pointer);
        places.iter().any(|place| place.len() < pointer.len() && begins_with(&pointer, place))
    };
    sensitive.iter().find(below).map(String::as_str)
}

/// Whether the value at `pointer` is among what travels of a value at `place`, of which only `members` of elements do.
fn travels(pointer: &str, place: &[Option<String>], members: Option<&BTreeSet<String>>) -> bool {
    let pointer = segments(pointer);
    if place.len() >= pointer.len() || !begins_with(&pointer, place) {
        return false;
    }
    let Some(members) = members else { return true };
    // Members of elements are left out unless they are read; those of an object are not.
    let mut in_list = false;
    pointer[place.len()..].iter().all(|segment| {
        in_list |= is_index(segment);
        !in_list || is_index(segment) || members.contains(segment)
    })
}

/// Reports lists and objects that are sent to OneSignal although they contain a sensitive value that the field doesn't
/// read. `written` is the field as its author wrote it.
pub fn check(
    (channel, field): (Channel, &str),
    content: &CompiledContent,
    written: &Template,
    event: &EventShape<'_>,
    budget: &Budget,
) -> Vec<Finding> {
    let wholes: Vec<Whole<'_>> = content.wholes().into_iter().filter(|whole| whole.field == field).collect();
    if wholes.is_empty() || event.sensitive.is_empty() {
        return Vec::new();
    }
    let Some(sent) = content.template(field) else { return Vec::new() };
    let followed = follow(channel, field, sent, event, budget);
    let readings = followed.map(|followed| followed.readings).unwrap_or_default();
    let mut found = Vec::new();
    for whole in wholes {
        if budget.steps(readings.len()).is_err() {
            break;
        }
        let read = readings.iter().filter(|reading| reading.span == whole.span);
        let places: Vec<&[Option<String>]> =
            read.flat_map(|reading| reading.beginnings(whole.steps)).collect();
        let leaks = |pointer: &&String| {
            !is_read(pointer, &readings) && places.iter().any(|place| travels(pointer, place, whole.members))
        };
        let Some(pointer) = event.sensitive.iter().find(leaks) else { continue };
        let message = format!(
            "`{pointer}` of `{}` is sensitive, and this sends the whole value around it to OneSignal",
            event.name
        );
        let finding = Finding::new("sensitive_subtree", Severity::Error, message)
            .hint("read only the members that the message needs, in expressions without `user.`");
        // What was MJML is looked for where its author wrote it.
        let same = sent.source() == written.source();
        let path = whole.span.of(sent.source());
        let at = if same { whole.span.start } else { written.source().find(path).unwrap_or(0) };
        found.push(finding.in_field(field, line_and_column(written.source(), at)));
    }
    found
}

/// Whether the field reads the value by its name, so that it is meant to travel.
fn is_read(pointer: &str, readings: &[Reading]) -> bool {
    let pointer = segments(pointer);
    // A key that OneSignal chooses reads none in particular.
    let names = |(step, segment): (&Option<String>, &String)| match step {
        Some(step) => step == segment,
        None => is_index(segment),
    };
    let reads = |place: &Place| place.len() == pointer.len() && place.iter().zip(&pointer).all(names);
    readings.iter().flat_map(|reading| &reading.places).any(reads)
}
