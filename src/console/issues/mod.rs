//! Issues by reason with suggested fixes, and the controls that pause sending.

mod group;
mod release;
mod replay;
mod switches;

pub(super) use group::{export, page as group};
pub(super) use release::{plan as release_plan, release};
pub(super) use replay::{plan as replay_plan, replay};
pub(super) use switches::{close, open};

use chrono::TimeDelta;
use maud::{Markup, html};

use super::components::{chip, empty, number, when};
use super::event::path_segment;
use super::layout::Place;
use super::login::sentence;
use super::page_context::{Crumb, Shown, View};
use crate::domain::clock::Timestamp;
use crate::domain::remedy::remedy;
use crate::store::issues::IssueGroup;
use group::{address, buttons};

/// Time range.
const LOOK_BACK: TimeDelta = TimeDelta::days(7);

pub(super) async fn page(view: View) -> Shown {
    let now = view.now();
    let (groups, is_complete) = view.console.store.issues(now - LOOK_BACK).await?;
    let gates = view.console.store.named_gates().await?;
    let body = html! {
        div.heading { h1 { "Issues" } span.soft { "Last 7 days" } }
        @if groups.is_empty() {
            (empty("No open issues", &html! {
                p { "Held and failed deliveries are listed here, grouped by reason." }
            }))
        } @else {
            table.rows {
                thead { tr { th { "State" } th.num { "Count" } th { "Reason" } th { "Template" } th { "Latest" } th { "Suggested fix" } } }
                tbody { @for group in &groups { (row(&view, group, now)) } }
            }
            @if !is_complete { p.soft { "Only the latest 50,000 decisions are included: there may be more." } }
        }
        h2 #switches { "Switches" }
        (switches::list(&view, &gates, now))
    };
    view.page(Place::Issues, &[Crumb::here("Issues")], body).await
}

fn row(view: &View, group: &IssueGroup, now: Timestamp) -> Markup {
    let key = &group.key;
    html! {
        tr {
            td { (chip(&key.state)) }
            td.num { (number(group.count)) }
            td { a.whole href=(address("group", key)) title="Show deliveries" { (group.detail) } }
            td { a href={ "/templates/" (path_segment(&key.template)) } { (key.template) } div.sub { "rule " (key.rule) } }
            td { (when(group.newest_at, now)) div.sub { "since " (when(group.oldest_at, now)) } }
            td { p { (sentence(&remedy(&key.state, &key.code))) } (buttons(view, key, &number(group.count))) }
        }
    }
}
