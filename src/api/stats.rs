//! Statistics of outcomes: funnels by group, comparison of two versions, and whether the counts are correct.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Api;
use super::parameters::Parameters;
use super::problem::{Code, FieldError, Problem};
use crate::access::Use;
use crate::archive::comparison::{Arm, Comparison, DayCount, Verdict, compare};
use crate::archive::funnel::{Funnel, Share, funnels};
use crate::archive::silence::stream_health;
use crate::domain::outcome::{Counts, WINDOW};
use crate::store::outcome_stats::{GroupBy, StatsFilter};

/// How many days are shown without `since`.
const DEFAULT_DAYS: u64 = 30;
/// How many people of each version a comparison needs by default.
const DEFAULT_PEOPLE: i64 = 1_000;
const MIN_PEOPLE: i64 = 100;

/// Filters of the statistics.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    /// `template` (default), `version`, `rule`, `event_type`, `channel`, `locale` or `day`.
    by: Option<String>,
    /// The first day on which messages were accepted, in UTC; 30 days before `until` if omitted.
    since: Option<NaiveDate>,
    /// The last day; today if omitted.
    until: Option<NaiveDate>,
    /// Only this template.
    template: Option<String>,
    /// Only this version.
    version: Option<i32>,
    /// Only this rule.
    rule: Option<String>,
    /// Only this event type.
    event_type: Option<String>,
    /// Only this channel.
    channel: Option<String>,
    /// Only this locale.
    locale: Option<String>,
}

/// People who did something.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ShareBody {
    /// How many did it.
    people: i64,
    /// Those of them who did it only within 10 seconds of the delivery: probably a program, not a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    probably_automatic: Option<i64>,
    /// For how many it is known.
    of: i64,
    /// `people / of`.
    rate: Option<f64>,
}

fn share(share: Share) -> Option<ShareBody> {
    share.measured().map(|measured| ShareBody {
        people: measured.people,
        probably_automatic: None,
        of: measured.of,
        rate: measured.rate(),
    })
}

fn engagement(of: Share, soon: i64) -> Option<ShareBody> {
    share(of).map(|body| ShareBody { probably_automatic: Some(soon), ..body })
}

/// A funnel. `null` means "not measured", which is not 0.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FunnelBody {
    /// The group, such as `{"template": "order-shipped-push", "version": 3}`.
    #[schema(value_type = Object)]
    group: BTreeMap<&'static str, Value>,
    /// Deliveries that OneSignal accepted.
    accepted: i64,
    /// Deliveries with any outcome, and their share of the accepted ones.
    reported: i64,
    coverage: Option<f64>,
    /// People to whom it was sent.
    sent: Option<i64>,
    delivered: Option<ShareBody>,
    opened: Option<ShareBody>,
    clicked: Option<ShareBody>,
    failed: Option<ShareBody>,
    bounced: Option<ShareBody>,
    suppressed: Option<ShareBody>,
    unsubscribed: Option<ShareBody>,
    complained: Option<ShareBody>,
    /// Devices with any outcome, and those that confirmed.
    devices: i64,
    devices_delivered: i64,
    /// Whether the newest day is younger than the window, so that its figures still change.
    still_counting: bool,
}

/// Statistics.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StatsBody {
    since: NaiveDate,
    until: NaiveDate,
    /// For how long after its acceptance outcomes of a message count.
    window_hours: i64,
    data: Vec<FunnelBody>,
    /// Reports by result since `since`: `received`, `repeated`, `malformed`, `joined`, `parked`, `foreign`, `unattributed`.
    #[schema(value_type = Object)]
    reports: BTreeMap<String, i64>,
    /// Whether OneSignal reports.
    stream: StreamBody,
}

/// What recent messages say about Event Streams.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StreamBody {
    /// `ok`, `silent`, `no_data` (too few messages to tell), or `off` (no secret is set).
    state: &'static str,
    /// Messages sent 15 to 75 minutes ago, and those of them that outcomes were reported of.
    messages: i64,
    reported: i64,
}

fn bad(name: &str, detail: &str) -> Problem {
    Problem::fields(Code::BadParameter, vec![FieldError::new(name, "bad_parameter", detail)])
}

impl StatsQuery {
    fn group(&self) -> Result<GroupBy, Problem> {
        let by = self.by.as_deref().unwrap_or("template");
        let known = || GroupBy::ALL.map(GroupBy::as_str).join(", ");
        GroupBy::ALL
            .into_iter()
            .find(|group| group.as_str() == by)
            .ok_or_else(|| bad("by", &format!("`by` must be one of {}", known())))
    }

    fn filter(&self, today: NaiveDate) -> Result<StatsFilter, Problem> {
        let until = self.until.unwrap_or(today);
        let before = until.checked_sub_days(Days::new(DEFAULT_DAYS - 1)).unwrap_or(until);
        let channel = self.channel.as_deref().map(str::parse).transpose();
        Ok(StatsFilter {
            since: self.since.unwrap_or(before),
            until,
            template: self.template.clone(),
            version: self.version,
            rule: self.rule.clone(),
            event_type: self.event_type.clone(),
            channel: channel.map_err(|_| bad("channel", "`channel` must be push, email or sms"))?,
            locale: self.locale.clone(),
        })
    }
}

/// Funnels of outcomes by template, version, rule, event type, channel, locale or day.
///
/// The unit is people. A day is the one on which OneSignal accepted the message, and outcomes count for 72 hours.
#[utoipa::path(
    get, path = "/v1/stats", tag = "outcomes", params(StatsQuery),
    responses((status = 200, description = "Funnels", body = StatsBody))
)]
pub(super) async fn get_stats(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<StatsQuery>,
    headers: HeaderMap,
) -> Result<Json<StatsBody>, Problem> {
    api.allow(&headers, Use::ReadOverviews).await?;
    let now = api.clock.now();
    let (by, filter) = (query.group()?, query.filter(now.date_naive())?);
    let rows = api.store.outcome_stats(by, &filter).await?;
    let reports = api.store.report_counts(filter.since).await?;
    let stream = stream_health(&api.store, now).await?;
    Ok(Json(StatsBody {
        stream: StreamBody {
            state: if api.stream_secrets.is_empty() { "off" } else { stream.state() },
            messages: stream.messages,
            reported: stream.reported,
        },
        since: filter.since,
        until: filter.until,
        window_hours: WINDOW.num_hours(),
        data: funnels(&rows, now).into_iter().map(|funnel| funnel_body(by, funnel)).collect(),
        reports: reports.into_iter().collect(),
    }))
}

fn funnel_body(by: GroupBy, funnel: Funnel) -> FunnelBody {
    let (first, second) = funnel.group;
    let mut group = BTreeMap::new();
    if by == GroupBy::Version {
        group.insert("template", Value::from(first));
        group.insert("version", Value::from(second.parse::<i32>().unwrap_or_default()));
    } else {
        group.insert(by.as_str(), Value::from(first));
    }
    let counts: Counts = funnel.counts;
    FunnelBody {
        group,
        accepted: counts.accepted,
        reported: counts.reported,
        coverage: funnel.coverage.rate(),
        sent: (counts.reported > 0).then_some(counts.sent),
        delivered: share(funnel.delivered),
        opened: engagement(funnel.opened, counts.opened_soon),
        clicked: engagement(funnel.clicked, counts.clicked_soon),
        failed: share(funnel.failed),
        bounced: share(funnel.bounced),
        suppressed: share(funnel.suppressed),
        unsubscribed: share(funnel.unsubscribed),
        complained: share(funnel.complained),
        devices: counts.devices,
        devices_delivered: counts.devices_delivered,
        still_counting: funnel.is_still_counting,
    }
}

/// Which versions are compared, by what.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ComparisonQuery {
    /// The template.
    template: String,
    /// The first version.
    a: i32,
    /// The second version.
    b: i32,
    /// `clicked` (default), `opened` or `delivered`.
    metric: Option<String>,
    /// How many people of each version are needed: 1,000 by default, at least 100. Decide on it before the comparison
    /// begins: a result that is looked at until it appears is no result.
    #[param(minimum = 100)]
    people: Option<i64>,
}

/// One version in a comparison.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ArmBody {
    version: i32,
    people: i64,
    successes: i64,
    rate: Option<f64>,
}

/// A comparison of two versions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ComparisonBody {
    a: ArmBody,
    b: ArmBody,
    /// How many people of each version are needed.
    people: i64,
    /// `test`, or `before_and_after` for versions that were not sent at the same time.
    kind: &'static str,
    /// The 95 % interval of the difference between the rates; `null` while it is too early.
    difference: Option<[f64; 2]>,
    /// `too_early`, `no_difference`, `better` or `worse`: version `b` compared with `a`.
    verdict: &'static str,
    /// The result in words.
    text: String,
}

/// Compares two versions of a template, once both have reached a fixed number of people.
#[utoipa::path(
    get, path = "/v1/stats/comparison", tag = "outcomes", params(ComparisonQuery),
    responses((status = 200, description = "The comparison", body = ComparisonBody))
)]
pub(super) async fn get_comparison(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<ComparisonQuery>,
    headers: HeaderMap,
) -> Result<Json<ComparisonBody>, Problem> {
    api.allow(&headers, Use::ReadOverviews).await?;
    let people = query.people.unwrap_or(DEFAULT_PEOPLE);
    if people < MIN_PEOPLE {
        return Err(bad("people", "`people` must be at least 100"));
    }
    let metric: fn(&Counts) -> (i64, i64) = match query.metric.as_deref().unwrap_or("clicked") {
        "clicked" => |counts| (counts.reported, counts.clicked),
        "opened" => |counts| (counts.reported, counts.opened),
        "delivered" => |counts| (counts.measurable, counts.delivered),
        _ => return Err(bad("metric", "`metric` must be clicked, opened or delivered")),
    };
    let days = async |version| {
        let filter = StatsFilter {
            until: NaiveDate::MAX.min(api.clock.now().date_naive()),
            template: Some(query.template.clone()),
            version: Some(version),
            ..StatsFilter::default()
        };
        let rows = api.store.outcome_stats(GroupBy::Day, &filter).await?;
        let day = |row: crate::store::outcome_stats::GroupCounts| {
            let (people, successes) = metric(&row.counts);
            DayCount { day: row.last_day, people, successes }
        };
        Ok::<Vec<DayCount>, Problem>(rows.into_iter().map(day).collect())
    };
    let compared = compare(&days(query.a).await?, &days(query.b).await?, people, api.clock.now());
    Ok(Json(comparison_body(&query, people, compared)))
}

fn comparison_body(query: &ComparisonQuery, people: i64, compared: Comparison) -> ComparisonBody {
    let arm = |version, arm: Arm| ArmBody {
        version,
        people: arm.people,
        successes: arm.successes,
        rate: arm.rate(),
    };
    let (verdict, text) = match compared.verdict {
        Verdict::TooEarly { people: so_far } => {
            ("too_early", format!("too early to tell, {so_far} of {people} people"))
        }
        Verdict::NoDifference => {
            ("no_difference", format!("no difference between versions {} and {}", query.a, query.b))
        }
        Verdict::Better => ("better", format!("version {} is better than version {}", query.b, query.a)),
        Verdict::Worse => ("worse", format!("version {} is worse than version {}", query.b, query.a)),
    };
    let are_both_known = compared.a.people.min(compared.b.people) > 0;
    let note = if compared.is_test || !are_both_known { "" } else { " (before and after, not a test)" };
    ComparisonBody {
        a: arm(query.a, compared.a),
        b: arm(query.b, compared.b),
        people,
        kind: if compared.is_test { "test" } else { "before_and_after" },
        difference: compared.difference.map(|(low, high)| [low, high]),
        verdict,
        text: format!("{text}{note}"),
    }
}

/// A difference between the counts and the outcomes that they were made of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DifferenceBody {
    day: NaiveDate,
    template: String,
    version: i32,
    rule: String,
    #[schema(value_type = Object)]
    stored: Counts,
    #[schema(value_type = Object)]
    counted: Counts,
}

/// The result of counting again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StatsCheckBody {
    /// Where the counts differ; none if they are correct.
    differences: Vec<DifferenceBody>,
}

/// Counts all outcomes that are kept again, and compares with the statistics.
#[utoipa::path(
    get, path = "/v1/stats/check", tag = "outcomes",
    responses((status = 200, description = "The differences", body = StatsCheckBody))
)]
pub(super) async fn check_stats(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<StatsCheckBody>, Problem> {
    api.allow(&headers, Use::ReadOverviews).await?;
    let found = api.store.check_outcome_counts().await?;
    let difference =
        |(by, stored, counted): (crate::store::outcomes::Dimensions, Counts, Counts)| DifferenceBody {
            day: by.day,
            template: by.template,
            version: by.version,
            rule: by.rule,
            stored,
            counted,
        };
    Ok(Json(StatsCheckBody { differences: found.into_iter().map(difference).collect() }))
}

/// How many counts were corrected.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RepairBody {
    repaired: usize,
}

/// Counts all outcomes that are kept again, and corrects the statistics.
#[utoipa::path(
    post, path = "/v1/stats/check", tag = "outcomes",
    responses((status = 200, description = "How many counts were wrong", body = RepairBody))
)]
pub(super) async fn repair_stats(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<RepairBody>, Problem> {
    api.allow(&headers, Use::RepairStats).await?;
    Ok(Json(RepairBody { repaired: api.store.repair_outcome_counts().await? }))
}
