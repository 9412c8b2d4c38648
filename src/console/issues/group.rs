//! The deliveries of an issue, as pages and as a CSV file.

use axum::extract::Query;
use axum::http::header;
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::components::{chip, empty, when};
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View};
use super::LOOK_BACK;
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::domain::id::TypedId;
use crate::domain::remedy::remedy;
use crate::store::issues::{DECISIONS, IssueKey, IssueMember};

/// Rows of a page.
const PAGE: i64 = 50;

/// The group in a URL or a form.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in super::super) struct GroupName {
    pub state: String,
    pub code: String,
    pub rule: String,
    pub template: String,
    /// The decision's detail, if it is the reason.
    pub detail: String,
}

impl GroupName {
    pub fn key(&self) -> IssueKey {
        IssueKey {
            state: self.state.clone(),
            code: self.code.clone(),
            rule: self.rule.clone(),
            template: self.template.clone(),
            reason: (!self.detail.is_empty()).then(|| self.detail.clone()),
        }
    }

    /// Hidden form fields that identify it.
    pub fn hidden(&self) -> Markup {
        html! {
            @for (name, value) in [("state", &self.state), ("code", &self.code), ("rule", &self.rule), ("template", &self.template), ("detail", &self.detail)] {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
        }
    }
}

/// The URL of an action on a group.
pub(super) fn address(action: &str, key: &IssueKey) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("state", &key.state)
        .append_pair("code", &key.code)
        .append_pair("rule", &key.rule)
        .append_pair("template", &key.template)
        .extend_pairs(key.reason.as_deref().map(|reason| ("detail", reason)))
        .finish();
    format!("/issues/{action}?{query}")
}

/// The actions on a group.
pub(super) fn buttons(view: &View, key: &IssueKey, how_many: &str) -> Markup {
    let is_held = key.state == "held";
    let is_over = matches!(key.state.as_str(), "rejected" | "exhausted" | "unknown" | "expired");
    html! {
        @if is_held && key.code == "missing_value" && view.person.may(Use::EditDraft) {
            a.button href={ "/templates/" (path_segment(&key.template)) } { "Add a default…" }
            " "
        }
        @if is_held && view.person.may(Use::ReleaseDelivery) {
            a.button href=(address("release", key)) { "Release " (how_many) " …" }
            " "
        }
        @if is_over && view.person.may(Use::ReplayDelivery) {
            a.button href=(address("replay", key)) { "Replay " (how_many) " …" }
            " "
        }
        a.button href=(address("export", key)) download="" { "Export" }
    }
}

/// Query parameters.
#[derive(Debug, Deserialize)]
pub(in super::super) struct GroupQuery {
    #[serde(flatten)]
    name: GroupName,
    before: Option<Uuid>,
}

pub(in super::super) async fn page(view: View, Query(query): Query<GroupQuery>) -> Shown {
    let key = query.name.key();
    let now = view.now();
    let before = query.before.unwrap_or(Uuid::max());
    let mut members = view.console.store.issue_members(&key, now - LOOK_BACK, before, PAGE + 1).await?;
    let has_more = members.len() > usize::try_from(PAGE).unwrap_or(usize::MAX);
    members.truncate(usize::try_from(PAGE).unwrap_or(usize::MAX));
    let body = html! {
        div.heading { h1 { (key.template) } (chip(&key.state)) span.soft { "rule " (key.rule) } }
        @match members.first() {
            None => (empty("This issue is resolved", &html! { p { a href="/issues" { "Back to Issues" } } })),
            Some(newest) => {
                p { strong { (newest.detail) } }
                p.soft { "Suggested fix: " (remedy(&key.state, &key.code)) "." }
                div.actions { (buttons(&view, &key, "them")) }
                (table(&members, now))
            },
        }
        @if let Some(last) = members.last().filter(|_| has_more) {
            p.pages { a.button rel="next" href={ (address("group", &key)) "&before=" (last.delivery.uuid()) } { "Older" } }
        }
    };
    view.page(Place::Issues, &[Crumb::to("Issues", "/issues"), Crumb::here(&key.template)], body).await
}

fn table(members: &[IssueMember], now: Timestamp) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "Planned" } th { "To" } th { "Event" } th { "Why" } } }
            tbody {
                @for member in members {
                    tr {
                        td { (when(member.created_at, now)) }
                        td { a.whole href={ "/deliveries/" (member.delivery) } { (to(member)) } div.sub { (member.channel) @if let Some(version) = member.version { " v" (version) } } }
                        td { a href={ "/events/" (member.event) } { (member.event_type) } div.sub { (member.event_key) } }
                        td.why { (member.detail) }
                    }
                }
            }
        }
    }
}

fn to(member: &IssueMember) -> &str {
    member.recipient.as_ref().map_or("a segment", |to| to.id.as_str())
}

/// The whole group as a file for a spreadsheet.
pub(in super::super) async fn export(view: View, Query(query): Query<GroupQuery>) -> Shown {
    let key = query.name.key();
    let members =
        view.console.store.issue_members(&key, view.now() - LOOK_BACK, Uuid::max(), DECISIONS).await?;
    let file = csv_of(&key, &members).map_err(|error| {
        tracing::error!("a CSV file could not be created: {error}");
        Failure::Internal
    })?;
    let name = format!("attachment; filename=\"{}-{}.csv\"", plain(&key.state), plain(&key.template));
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file).into_response())
}

/// A name that is safe in headers and file systems.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).collect()
}

fn csv_of(key: &IssueKey, members: &[IssueMember]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "delivery",
        "state",
        "why",
        "recipient_label",
        "recipient",
        "channel",
        "template",
        "version",
        "rule",
        "event",
        "event_key",
        "event_type",
        "planned_at",
    ])?;
    for member in members {
        let recipient = member.recipient.as_ref();
        writer.write_record([
            &member.delivery.to_string(),
            &harmless(&key.state),
            &harmless(&member.detail),
            &harmless(recipient.map_or("", |to| to.label.as_str())),
            &harmless(recipient.map_or("", |to| to.id.as_str())),
            &harmless(&member.channel),
            &harmless(&key.template),
            &member.version.map(|version| version.to_string()).unwrap_or_default(),
            &harmless(&key.rule),
            &member.event.to_string(),
            &harmless(&member.event_key),
            &harmless(&member.event_type),
            &member.created_at.to_rfc3339(),
        ])?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// Characters that start a formula in spreadsheets, including full-width forms.
const FORMULA_STARTS: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Prevents CSV injection: an apostrophe is inserted before the start of a formula, at the beginning and after each
/// `;`,
/// where some spreadsheets split cells. A signed number, such as a phone number, is unchanged.
fn harmless(text: &str) -> String {
    let is_number = text
        .strip_prefix(['+', '-'])
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    if is_number {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 1);
    let mut is_start = true;
    for c in text.chars() {
        if is_start && (FORMULA_STARTS.contains(&c) || matches!(c, '\t' | '\r' | '\n')) {
            out.push('\'');
            is_start = false;
        }
        out.push(c);
        is_start = c == ';' || (is_start && (c.is_whitespace() || c == '"'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_begins_like_a_formula_but_phone_numbers_stay() {
        assert_eq!(harmless("=HYPERLINK(\"https://evil.example\")"), "'=HYPERLINK(\"https://evil.example\")");
        assert_eq!(harmless("@SUM(1)"), "'@SUM(1)");
        assert_eq!(harmless("-1+cmd|' /C calc'!A0"), "'-1+cmd|' /C calc'!A0");
        for full_width in ["＝1+1", "＋1", "－1+1", "＠x"] {
            assert_eq!(harmless(full_width), format!("'{full_width}"));
        }
        assert_eq!(harmless("\t=1+1"), "'\t=1+1");
        assert_eq!(harmless("\r\n=1"), "'\r\n=1");
        assert_eq!(harmless(" =1+1"), " '=1+1");
        assert_eq!(harmless(";=1+1"), ";'=1+1");
        assert_eq!(harmless("a; \"=1+1;-2;b"), "a; \"'=1+1;'-2;b");
        assert_eq!(
            (harmless("+4915112345678"), harmless("user-42")),
            ("+4915112345678".into(), "user-42".into())
        );
    }

    #[test]
    fn a_file_s_name_holds_nothing_that_a_header_could_trip_over() {
        assert_eq!(plain("held\"\r\nx: y/../"), "heldxy..");
    }
}
