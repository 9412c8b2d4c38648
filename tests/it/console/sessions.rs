//! How long a session lasts, and what ends it.

use std::time::Duration;

use super::visitor::PASSWORD;
use super::*;

#[tokio::test]
async fn a_session_ends_after_half_an_hour_without_use() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    app.clock.advance(Duration::from_mins(29));
    assert_eq!(visitor.get("/").await.status, 200);
    app.clock.advance(Duration::from_mins(29));
    assert_eq!(visitor.get("/").await.status, 200);
    app.clock.advance(Duration::from_mins(31));
    assert_eq!(visitor.get("/").await.location.as_deref(), Some("/log-in"));
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours_in_any_case() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    for _ in 0..28 {
        app.clock.advance(Duration::from_mins(25));
        assert_eq!(visitor.get("/").await.status, 200);
    }
    app.clock.advance(Duration::from_mins(25));
    assert_eq!(visitor.get("/").await.location.as_deref(), Some("/log-in"));
}

#[tokio::test]
async fn a_page_that_refreshes_itself_does_not_keep_its_session() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    let refresh = async || visitor.get_with("/live/rows", &[("hx-request", "true")]).await;
    app.clock.advance(Duration::from_mins(20));
    assert_eq!(refresh().await.status, 200);
    app.clock.advance(Duration::from_mins(20));
    let seen = refresh().await;
    assert_eq!((seen.status.as_u16(), &seen.headers["hx-redirect"]), (401, &"/log-in".parse().unwrap()));
}

#[tokio::test]
async fn how_long_sessions_last_can_be_set() {
    let wanted = crate::support::app::Wanted {
        settings: vec![("HERALD_CONSOLE__SESSION_IDLE", "2h".to_owned())],
        ..Default::default()
    };
    let app = TestApp::start_with(wanted).await;
    let visitor = Visitor::with_role(&app, Role::Viewer).await;
    app.clock.advance(Duration::from_mins(119));
    assert_eq!(visitor.get("/").await.status, 200);
}

#[tokio::test]
async fn another_log_in_in_a_browser_ends_the_session_that_it_held() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Viewer).await;
    let earlier = visitor.token().unwrap();
    visitor.log_in("viewer@shop.example", PASSWORD).await;
    assert_ne!(visitor.token().unwrap(), earlier);
    assert!(app.herald.team.who_is(&earlier, true).await.unwrap().is_none());
    assert_eq!(visitor.get("/").await.status, 200);
}

#[tokio::test]
async fn what_log_ins_leave_behind_is_deleted_every_minute() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Viewer).await;
    visitor.log_in("viewer@shop.example", "not the password").await;
    let rows = async || {
        app.sql::<i64>("SELECT (SELECT count(*) FROM log_in_attempts) + (SELECT count(*) FROM sessions)")
            .await
    };
    assert!(rows().await > 0);
    app.advance(Duration::from_hours(13)).await;
    assert_eq!(rows().await, 0);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM known_browsers").await, 2, "kept for half a year");
    app.advance(Duration::from_hours(24 * 181)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM known_browsers").await, 0);
}
