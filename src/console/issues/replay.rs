//! Replaying: first the plan, then the replay with a reason.

use axum::body::Body;
use axum::extract::Query;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::super::components::{chip, count};
use super::super::failure::Failure;
use super::super::forms;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::LOOK_BACK;
use super::group::GroupName;
use crate::domain::delivery::StateName;
use crate::domain::id::TypedId;
use crate::pipeline::operator::replay::{Candidate, MAX, ReplayPlan, ReplayVersion, ReplayWish, ReplayedBy};
use crate::store::replays::ReplayFilter;

/// Maximum deliveries shown in a plan.
const SAMPLE: usize = 10;

/// The deliveries to replay, and options.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(in super::super) struct ReplayForm {
    delivery: String,
    #[serde(flatten)]
    group: GroupName,
    version: String,
    may_duplicate: String,
    even_if_expired: String,
    reason: String,
    request_key: String,
}

impl ReplayForm {
    async fn wish(&self, view: &View) -> Result<ReplayWish, Failure> {
        let group = &self.group;
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let mut filter = ReplayFilter {
            rule: text(&group.rule),
            template: text(&group.template),
            code: text(&group.code),
            ..ReplayFilter::default()
        };
        if !self.delivery.is_empty() {
            let id = self.delivery.parse();
            filter.deliveries = vec![id.map_err(|_| Failure::NotFound("Delivery not found.".to_owned()))?];
        }
        if !group.detail.is_empty() {
            // A replay can't filter by detail, so the deliveries are listed individually.
            let max = i64::try_from(MAX).unwrap_or(i64::MAX);
            let since = view.now() - LOOK_BACK;
            let members = view.console.store.issue_members(&group.key(), since, Uuid::max(), max).await?;
            filter.deliveries = members.iter().map(|member| member.delivery).collect();
            if filter.deliveries.is_empty() {
                return Err(Failure::Conflict("This issue is resolved.".to_owned()));
            }
        }
        // A delivery given by id is replayed whatever its final state.
        filter.states = StateName::ALL
            .into_iter()
            .filter(|state| !state.is_open() && state.as_str() != "skipped")
            .collect();
        if !group.state.is_empty() {
            let state = StateName::find(&group.state);
            filter.states =
                vec![state.ok_or_else(|| Failure::Invalid(format!("Unknown state {}.", group.state)))?];
        }
        let version = match self.version.trim() {
            "" | "same" => ReplayVersion::Same,
            "live" => ReplayVersion::Live,
            number => ReplayVersion::Number(
                number.parse().map_err(|_| Failure::Invalid("A version must be a number.".to_owned()))?,
            ),
        };
        if filter.deliveries.is_empty() && filter.rule.is_none() && filter.template.is_none() {
            return Err(Failure::Invalid(
                "Select deliveries: everything can't be replayed at once here.".to_owned(),
            ));
        }
        Ok(ReplayWish {
            filter,
            version,
            reason: self.reason.trim().to_owned(),
            may_duplicate: !self.may_duplicate.is_empty(),
            even_if_expired: !self.even_if_expired.is_empty(),
        })
    }
}

pub(in super::super) async fn plan(view: View, Query(form): Query<ReplayForm>) -> Shown {
    let plan = view.console.pipeline.plan_replay(&form.wish(&view).await?).await?;
    let key = view.console.ids.secret_text();
    let total = i64::try_from(plan.candidates.len()).unwrap_or(i64::MAX);
    let body = html! {
        h1 { "Replay" }
        (numbers(&plan))
        form.stack method="get" action="/issues/replay" {
            (hidden(&form, false))
            label { "Version"
                select name="version" {
                    option value="same" selected[form.version != "live"] { "Original version" }
                    option value="live" selected[form.version == "live"] { "Live version" }
                }
            }
            label { input type="checkbox" name="may_duplicate" value="yes" checked[!form.may_duplicate.is_empty()]; " Include deliveries that may already have reached the recipient" }
            label { input type="checkbox" name="even_if_expired" value="yes" checked[!form.even_if_expired.is_empty()]; " Include expired" }
            button { "Update preview" }
        }
        @if total > 0 {
            h2 { "Recipients" }
            (sample(&plan.candidates))
            form.stack method="post" action="/issues/replay" {
                (hidden(&form, true))
                input type="hidden" name="request_key" value=(key);
                label { "Reason" input type="text" name="reason" required maxlength="300"; }
                @if plan.second_copies() > 0 {
                    p.warning { "▲ " (count(i64::try_from(plan.second_copies()).unwrap_or(i64::MAX), "recipient may get a duplicate", "recipients may get a duplicate")) "." }
                }
                div.actions {
                    button.primary { "Replay " (count(total, "delivery", "deliveries")) }
                    a.button href="/issues" { "Back" }
                }
            }
        }
    };
    view.page(Place::Issues, &[Crumb::to("Issues", "/issues"), Crumb::here("Replay")], body).await
}

fn numbers(plan: &ReplayPlan) -> Markup {
    let total = i64::try_from(plan.candidates.len()).unwrap_or(i64::MAX);
    html! {
        p { strong { (count(total, "delivery", "deliveries")) } " will be replayed." @if !plan.is_complete { " More match than one replay can include: replay the rest afterwards." } }
        @if !plan.left_out.is_empty() {
            p { "Skipped:" }
            ul { @for (why, left) in &plan.left_out { li { (left) ": " (why.detail().replace("`may_duplicate`", "the first box below").replace("`even_if_expired`", "the second box below")) } } }
        }
    }
}

fn hidden(form: &ReplayForm, is_whole: bool) -> Markup {
    html! {
        (form.group.hidden())
        @if !form.delivery.is_empty() { input type="hidden" name="delivery" value=(form.delivery); }
        @if is_whole {
            @for (name, value) in [("version", &form.version), ("may_duplicate", &form.may_duplicate), ("even_if_expired", &form.even_if_expired)] {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
        }
    }
}

fn sample(candidates: &[Candidate]) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "Was" } th { "Delivery" } th { "Template" } th { "Why" } } }
            tbody {
                @for one in candidates.iter().take(SAMPLE) {
                    tr {
                        td { (chip(one.state.as_str())) }
                        td { a.whole href={ "/deliveries/" (one.of) } { code { (one.of) } } }
                        td { (one.template) " v" (one.version) }
                        td { @if let Some((_, why)) = &one.why { (why) } @if one.may_be_second_copy { " " span.chip.warn { "▲ possible duplicate" } } }
                    }
                }
            }
        }
        @if candidates.len() > SAMPLE { p.soft { "and " (candidates.len() - SAMPLE) " more" } }
    }
}

pub(in super::super) async fn replay(view: View, body: Body) -> Shown {
    let form: ReplayForm = forms::read(body).await?;
    let wish = form.wish(&view).await?;
    if wish.reason.is_empty() {
        return Err(Failure::Invalid("Enter a reason. It is recorded with the replay.".to_owned()));
    }
    let request = json!({"console": form});
    // Submitting a form twice replays only once.
    let request_key =
        (!form.request_key.is_empty()).then(|| format!("{}:{}", view.person.id, form.request_key));
    let by = ReplayedBy {
        actor: &view.person.email,
        id: view.person.id.uuid(),
        request_key: request_key.as_deref(),
        request: &request,
    };
    let replayed = view.console.pipeline.replay(&wish, by).await?;
    let Some(replay) = replayed.replay else {
        return Ok(done("/issues", "There was nothing to replay."));
    };
    let made = count(i64::from(replay.deliveries), "delivery was", "deliveries were");
    let to =
        replayed.made.first().map_or_else(|| "/issues".to_owned(), |(new, _)| format!("/deliveries/{new}"));
    Ok(done(&to, &format!("{made} replayed.")))
}
