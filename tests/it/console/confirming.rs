//! "Confirm it's you": keys, roles and the second factor are changed soon after someone proved who they are, not later.

use std::time::Duration;

use super::visitor::PASSWORD;
use super::*;

const LATER: Duration = Duration::from_mins(11);

#[tokio::test]
async fn ten_minutes_after_the_log_in_keys_and_team_ask_who_it_is() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    for path in ["/settings/keys", "/settings/team", "/settings/second-factor"] {
        assert_eq!(admin.get(path).await.status, 200, "{path}");
    }
    app.clock.advance(LATER);
    for path in ["/settings/keys", "/settings/team", "/settings/second-factor"] {
        let asked = format!("/confirm?next={}", path.replace('/', "%2F"));
        assert_eq!(admin.get(path).await.location, Some(asked), "{path}");
    }
    assert_eq!(admin.get("/settings/audit").await.status, 200, "reading goes on");
}

#[tokio::test]
async fn a_form_that_comes_too_late_changes_nothing_and_leads_back_to_its_page() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    app.clock.advance(LATER);
    let form = [("source", "billing"), ("scope", "events:write")];
    let page = format!("{}/settings/keys", app.url);
    let headers = [("sec-fetch-site", "same-origin"), ("referer", page.as_str())];
    let seen = admin.post_from("/settings/keys", &form, &headers).await;
    assert_eq!(seen.location.as_deref(), Some("/confirm?next=%2Fsettings%2Fkeys"));
    assert!(admin.get("/confirm?next=/settings/keys").await.text.contains("Nothing was changed yet"));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM sources WHERE name = 'billing'").await, 0);
}

#[tokio::test]
async fn the_right_password_opens_them_for_ten_minutes_and_a_wrong_one_does_not() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    app.clock.advance(LATER);
    let wrong = admin.post("/confirm", &[("password", "not my password"), ("next", "/settings/keys")]).await;
    assert!(wrong.status == 422 && wrong.text.contains("Wrong password"), "{}", wrong.text);
    assert_eq!(admin.get("/settings/keys").await.status, 303);
    let right = [("password", PASSWORD), ("next", "/settings/keys")];
    assert_eq!(admin.post("/confirm", &right).await.location.as_deref(), Some("/settings/keys"));
    assert_eq!(admin.get("/settings/keys").await.status, 200);
    app.clock.advance(LATER);
    assert_eq!(admin.get("/settings/keys").await.status, 303);
}

#[tokio::test]
async fn guesses_at_the_password_are_counted_here_too() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    app.clock.advance(LATER);
    for _ in 0..10 {
        assert_eq!(admin.post("/confirm", &[("password", "a wrong guess")]).await.status, 422);
    }
    let seen = admin.post("/confirm", &[("password", PASSWORD)]).await;
    assert_eq!((seen.status.as_u16(), seen.headers.contains_key("retry-after")), (429, true));
}

#[tokio::test]
async fn one_session_s_confirmation_is_no_other_s() {
    let app = TestApp::start().await;
    let here = Visitor::with_role(&app, Role::Admin).await;
    let elsewhere = Visitor::stranger(&app);
    elsewhere.log_in("admin@shop.example", PASSWORD).await;
    app.clock.advance(LATER);
    here.post("/confirm", &[("password", PASSWORD)]).await;
    assert_eq!(here.get("/settings/keys").await.status, 200);
    assert_eq!(elsewhere.get("/settings/keys").await.status, 303);
}

#[tokio::test]
async fn the_confirmation_leads_to_no_other_site() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let form = [("password", PASSWORD), ("next", "//evil.example")];
    assert_eq!(admin.post("/confirm", &form).await.location.as_deref(), Some("/"));
    assert_eq!(admin.get("/confirm?next=https://evil.example").await.location.as_deref(), Some("/"));
}
