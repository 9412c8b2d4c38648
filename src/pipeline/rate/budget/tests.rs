//! Tests of whole budgets.

use super::*;

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn app(calls_per_second: u32) -> App {
    App {
        id: AppId(uuid::Uuid::from_u128(1)),
        name: "shop".into(),
        base_url: "http://localhost".parse().unwrap(),
        api_key: "k".into(),
        is_sandbox: true,
        is_default: true,
        calls_per_second,
        subscriptions: None,
        paused: None,
        alias_labels: None,
    }
}

fn budget(calls_in_flight: usize, plan_share: f64) -> Budget {
    Budget::new(calls_in_flight, plan_share, BreakerPolicy::default())
}

const FIRST: Call = Call { priority: Priority::Normal, is_retry: false, waiting: [false; 3] };
const RETRY: Call = Call { is_retry: true, ..FIRST };

fn begin_and_end(budget: &Budget, app: &App, call: Call, at: Timestamp) -> Result<(), Wait> {
    let begun = budget.begin(app, call, at);
    if begun.is_ok() {
        budget.end(app.id, CallEnd::Neutral);
    }
    begun
}

#[test]
fn no_second_sees_more_calls_than_the_plan_allows() {
    let (budget, app) = (budget(1_000, 0.9), app(150));
    let mut begun = 0;
    for ms in 0..1_000 {
        while begin_and_end(&budget, &app, FIRST, now() + TimeDelta::milliseconds(ms)).is_ok() {
            begun += 1;
        }
    }
    assert!((135..=150).contains(&begun), "{begun}");
}

#[test]
fn calls_under_way_are_bounded_and_a_place_comes_back() {
    let (budget, app) = (budget(2, 1.0), app(6_000));
    assert!(budget.begin(&app, FIRST, now()).is_ok() && budget.begin(&app, FIRST, now()).is_ok());
    assert_eq!(budget.begin(&app, FIRST, now()), Err(Wait::ForPlace));
    budget.end(app.id, CallEnd::Neutral);
    assert!(budget.begin(&app, FIRST, now()).is_ok());
}

#[test]
fn calls_that_hang_leave_urgent_ones_places_of_their_own() {
    let (budget, app) = (budget(64, 1.0), app(6_000));
    while budget.begin(&app, FIRST, now()).is_ok() {}
    assert_eq!(budget.begin(&app, FIRST, now()), Err(Wait::ForPlace));
    let urgent = Call { priority: Priority::Urgent, ..FIRST };
    let begun = (0..100).filter(|_| budget.begin(&app, urgent, now()).is_ok()).count();
    assert_eq!(begun, 8);
}

#[test]
fn behind_a_closed_gate_one_call_finds_out_whether_it_may_open() {
    let (budget, app) = (budget(10, 1.0), app(6_000));
    let until = now() + TimeDelta::seconds(60);
    budget.close(app.id, KnownGate { until, opens_slowly: false }, now());
    assert_eq!(budget.begin(&app, FIRST, now()), Err(Wait::Until(until)));
    assert_eq!(budget.begin(&app, FIRST, until), Err(Wait::ForProbe));
    budget.allow_probe(app.id, until);
    assert!(budget.begin(&app, FIRST, until).is_ok(), "the probe");
    assert_eq!(budget.begin(&app, FIRST, until), Err(Wait::ForPlace));
    assert!(budget.probe_worked(app.id, until));
    assert!(budget.begin(&app, FIRST, until).is_ok());
}

#[test]
fn after_its_breaker_an_app_comes_back_slowly() {
    let (budget, app) = (budget(1_000, 1.0), app(1_000));
    let until = now() + TimeDelta::seconds(15);
    budget.close(app.id, KnownGate { until, opens_slowly: true }, now());
    budget.learn_gates(&HashMap::new(), until);
    let in_second = |second: i64| {
        let each = (0..1_000).filter(|ms| {
            let at = until + TimeDelta::seconds(second) + TimeDelta::milliseconds(*ms);
            begin_and_end(&budget, &app, FIRST, at).is_ok()
        });
        each.count()
    };
    let (first, middle, last) = (in_second(0), in_second(30), in_second(61));
    assert!(first < 250 && (400..750).contains(&middle) && last > 900, "{first} {middle} {last}");
}

#[test]
fn retries_are_a_tenth_of_the_first_tries_and_one_a_second_at_least() {
    let (budget, app) = (budget(1_000, 1.0), app(1_000));
    let retries = |from: i64, seconds: i64| {
        let at = (from * 100..(from + seconds) * 100).map(|cs| now() + TimeDelta::milliseconds(cs * 10));
        at.filter(|at| begin_and_end(&budget, &app, RETRY, *at).is_ok()).count()
    };
    assert_eq!(retries(0, 60), 100 + 59, "none was a first try");
    for ms in 60_000..61_000 {
        begin_and_end(&budget, &app, FIRST, now() + TimeDelta::milliseconds(ms)).unwrap();
    }
    let more = retries(61, 1);
    assert!((100..=102).contains(&more), "{more}");
}

#[test]
fn replicas_that_are_both_busy_share_the_rate() {
    let (budget, app) = (budget(1_000, 1.0), app(100));
    let others = Others { count: 1, demand: 1.0 };
    for _ in 0..3 {
        let report = AppReport { app: app.id, demand: 1.0, messages: 0 };
        budget.apply_share(report, AppShare { others, messages: Vec::new(), subscriptions: None }, now());
    }
    let begun = (0..10_000)
        .filter(|ms| begin_and_end(&budget, &app, FIRST, now() + TimeDelta::milliseconds(*ms)).is_ok());
    let begun = begun.count();
    assert!((495..=515).contains(&begun), "{begun}");
}

#[test]
fn an_app_that_has_sent_too_much_sends_no_more() {
    let (budget, app) = (budget(10, 1.0), app(100));
    let report = AppReport { app: app.id, demand: 1.0, messages: 0 };
    let others = Others { count: 0, demand: 0.0 };
    budget.apply_share(
        report,
        AppShare { others, messages: vec![(now(), 700)], subscriptions: Some(100) },
        now(),
    );
    assert!(budget.begin(&app, FIRST, now()).is_ok());
    budget.sent(app.id, 100, now());
    assert!(matches!(budget.begin(&app, FIRST, now()), Err(Wait::Until(_))));
    assert_eq!(budget.closed_apps(now()), [app.id]);
    let later = now() + TimeDelta::minutes(17);
    assert!(budget.begin(&app, FIRST, later).is_ok());
}

#[test]
fn overdue_calls_give_their_places_up_while_others_are_answered() {
    let (budget, app) = (budget(2, 1.0), app(6_000));
    assert!(budget.begin(&app, FIRST, now()).is_ok());
    let answered = budget.answered(app.id);
    assert!(
        !budget.set_aside(app.id, answered),
        "nothing else was answered: the provider may be unavailable"
    );
    for ms in 1..=3 {
        assert!(budget.begin(&app, FIRST, now() + TimeDelta::milliseconds(ms)).is_ok());
        budget.end(app.id, CallEnd::Answered(Duration::from_millis(1)));
    }
    assert!(budget.set_aside(app.id, answered));
    let later = now() + TimeDelta::seconds(1);
    assert!(budget.begin(&app, FIRST, later).is_ok() && budget.begin(&app, FIRST, later).is_ok());
    assert_eq!(budget.begin(&app, FIRST, later), Err(Wait::ForPlace));
    budget.end_set_aside(app.id, CallEnd::WithIssue);
    assert_eq!(budget.begin(&app, FIRST, later), Err(Wait::ForPlace), "its slot was released before");
}

#[test]
fn calls_begin_as_ever_after_the_clock_went_back() {
    let (budget, app) = (budget(10, 1.0), app(10));
    while begin_and_end(&budget, &app, FIRST, now()).is_ok() {}
    let until = now() + TimeDelta::minutes(1);
    budget.close(app.id, KnownGate { until, opens_slowly: false }, now());
    let back = now() - TimeDelta::hours(1);
    budget.clock_went_back(back);
    budget.gate_is_gone(app.id, back);
    assert!(begin_and_end(&budget, &app, FIRST, back + TimeDelta::seconds(1)).is_ok());
}
