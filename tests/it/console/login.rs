//! Logging in and out.

use herald::access::{Client, NewMember};
use secrecy::{ExposeSecret, SecretString};

use super::visitor::{PASSWORD, here};
use super::*;

#[tokio::test]
async fn nobody_is_let_in_who_has_no_session_and_the_page_they_wanted_comes_after_the_log_in() {
    let app = TestApp::start().await;
    let _admin = Visitor::with_role(&app, Role::Admin).await;
    let stranger = Visitor::stranger(&app);
    let seen = stranger.get("/deliveries/dlv_1?x=y").await;
    assert_eq!(
        (seen.status.as_u16(), seen.location.as_deref()),
        (303, Some("/log-in?next=%2Fdeliveries%2Fdlv_1%3Fx%3Dy"))
    );
    let form = [("email", "admin@shop.example"), ("password", PASSWORD), ("next", "/issues")];
    assert_eq!(stranger.post("/log-in", &form).await.location.as_deref(), Some("/issues"));
    let form = [("email", "admin@shop.example"), ("password", PASSWORD), ("next", "//evil.example")];
    assert_eq!(stranger.post("/log-in", &form).await.location.as_deref(), Some("/"));
}

#[tokio::test]
async fn the_first_admin_comes_in_by_the_token_that_was_printed_and_it_is_good_once() {
    let app = TestApp::start().await;
    let token = app.herald.team.offer_set_up().await.unwrap().unwrap();
    let visitor = Visitor::stranger(&app);
    assert_eq!(visitor.get("/").await.location.as_deref(), Some("/set-up"));
    let form = |token: &str, password: &str| {
        [
            ("token", token.to_owned()),
            ("name", "Mia".to_owned()),
            ("email", "Mia@Shop.example".to_owned()),
            ("password", password.to_owned()),
        ]
    };
    let sent = async |token: &str, password: &str| {
        let form = form(token, password);
        let pairs: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        visitor.post("/set-up", &pairs).await
    };
    let weak = sent(token.expose_secret(), "password1234").await;
    assert!(weak.status == 422 && weak.text.contains("easy to guess"), "{}", weak.text);
    assert_eq!(sent("0000", PASSWORD).await.status, 422);
    let good = sent(token.expose_secret(), PASSWORD).await;
    assert_eq!((good.status.as_u16(), good.location.as_deref()), (303, Some("/")));
    assert!(visitor.get("/").await.text.contains("Mia"));
    let again = Visitor::stranger(&app);
    let form = form(token.expose_secret(), PASSWORD);
    let pairs: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(again.post("/set-up", &pairs).await.text.contains("expired or was already used"));
    assert!(app.herald.team.offer_set_up().await.unwrap().is_none());
}

#[tokio::test]
async fn of_two_who_hold_the_first_token_at_once_one_becomes_admin() {
    let app = TestApp::start().await;
    let token = app.herald.team.offer_set_up().await.unwrap().unwrap();
    let tries = (0..4).map(|n| {
        let (team, token) = (app.herald.team.clone(), token.clone());
        async move {
            let email = format!("a{n}@shop.example");
            team.set_up(token.expose_secret(), (&email, "A"), SecretString::from(PASSWORD), &here())
                .await
                .is_ok()
        }
    });
    let won = futures_util::future::join_all(tries).await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM team_members").await, 1);
}

#[tokio::test]
async fn a_log_out_ends_the_session_at_once_wherever_its_cookie_is() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Viewer).await;
    let token = visitor.token().unwrap();
    assert!(app.herald.team.who_is(&token, true).await.unwrap().is_some());
    assert_eq!(visitor.post("/log-out", &[]).await.location.as_deref(), Some("/log-in"));
    assert!(app.herald.team.who_is(&token, true).await.unwrap().is_none());
    assert_eq!(
        app.sql::<i64>("SELECT count(*) FROM sessions WHERE token_hash = decode(repeat('00', 32), 'hex')")
            .await,
        0
    );
}

#[tokio::test]
async fn ten_thousand_guesses_are_looked_at_less_than_a_hundred_times() {
    let app = TestApp::start().await;
    let _member = Visitor::with_role(&app, Role::Viewer).await;
    let (mut looked_at, mut refused) = (0, 0);
    for n in 0..10_000_u32 {
        let from = std::net::IpAddr::from(n.to_be_bytes());
        // From ever new addresses: the account's own count stops them.
        let guess = SecretString::from(if n < 200 { "wrong password here" } else { "another wrong one" });
        match app.herald.team.log_in("viewer@shop.example", guess, &Client::at(from)).await {
            Err(herald::access::LogInError::Refused) => looked_at += 1,
            Err(herald::access::LogInError::Throttled { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(looked_at < 100 && refused > 9_900, "{looked_at} looked at, {refused} refused");
}

#[tokio::test]
async fn a_stranger_does_not_learn_who_has_an_account() {
    let app = TestApp::start().await;
    let _member = Visitor::with_role(&app, Role::Viewer).await;
    let visitor = Visitor::stranger(&app);
    let known = visitor.log_in("viewer@shop.example", "not the password").await;
    let unknown = visitor.log_in("nobody@shop.example", "not the password").await;
    assert_eq!(known.status, unknown.status);
    assert_eq!(known.text.replace("viewer@", "nobody@"), unknown.text);
}

#[tokio::test]
async fn who_is_shut_out_is_out_at_once_and_the_last_admin_stays() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    assert_eq!(viewer.get("/").await.status, 200);
    let seen = admin
        .post("/settings/team/change", &[("email", "viewer@shop.example"), ("is_disabled", "yes")])
        .await;
    assert_eq!(seen.status, 303, "{}", seen.text);
    assert_eq!(viewer.get("/").await.location.as_deref(), Some("/log-in"));
    assert_eq!(viewer.log_in("viewer@shop.example", PASSWORD).await.status, 401);
    let seen =
        admin.post("/settings/team/change", &[("email", "admin@shop.example"), ("role", "viewer")]).await;
    assert!(seen.status == 409 && seen.text.contains("last admin"), "{}", seen.text);
}

#[tokio::test]
async fn an_invitation_lets_one_person_choose_a_password_once() {
    let app = TestApp::start().await;
    let new = NewMember { email: "eva@shop.example", name: "Eva", role: Role::Editor };
    let token = app.herald.team.invite("test", new).await.unwrap();
    let eva = Visitor::stranger(&app);
    let form = [("token", token.expose_secret()), ("password", PASSWORD)];
    assert_eq!(eva.post("/welcome", &form).await.location.as_deref(), Some("/"));
    assert!(eva.get("/").await.text.contains("editor"));
    assert_eq!(Visitor::stranger(&app).post("/welcome", &form).await.status, 422);
    let late = app.herald.team.new_link("test", "eva@shop.example").await.unwrap();
    app.clock.advance(std::time::Duration::from_hours(24 * 8));
    let form = [("token", late.expose_secret()), ("password", PASSWORD)];
    assert_eq!(Visitor::stranger(&app).post("/welcome", &form).await.status, 422);
}

#[tokio::test]
async fn no_password_token_or_session_is_in_the_database_as_text() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    let invited = app.herald.team.new_link("test", "admin@shop.example").await.unwrap();
    let dump: String = app
        .sql("SELECT concat((SELECT json_agg(m) FROM team_members m), (SELECT json_agg(s) FROM sessions s), (SELECT json_agg(t) FROM team_tokens t), (SELECT json_agg(a) FROM audit_log a))")
        .await;
    for secret in [PASSWORD, &visitor.token().unwrap(), invited.expose_secret()] {
        assert!(!dump.contains(secret));
    }
    assert!(dump.contains("$argon2id$"));
}

#[tokio::test]
async fn a_member_who_knows_the_old_password_sets_a_new_one_and_is_logged_out_elsewhere() {
    let app = TestApp::start().await;
    let _admin = Visitor::with_role(&app, Role::Admin).await;
    let here = Visitor::with_role(&app, Role::Viewer).await;
    let elsewhere = Visitor::stranger(&app);
    elsewhere.log_in("viewer@shop.example", PASSWORD).await;
    let new = "five small words in a row";
    let form = |old: &'static str, new: &'static str, again: &'static str| {
        [("old", old), ("new", new), ("again", again)]
    };
    for (form, says) in [
        (form("not the old password", new, new), "The current password is wrong"),
        (form(PASSWORD, new, "five small words in a bow"), "new passwords do not match"),
        (form(PASSWORD, "short", "short"), "12 to 128 characters"),
    ] {
        let seen = here.post("/settings/password", &form).await;
        assert!(seen.status == 422 && seen.text.contains(says), "{}", seen.text);
    }
    assert_eq!(elsewhere.get("/").await.status, 200);
    assert_eq!(here.post("/settings/password", &form(PASSWORD, new, new)).await.status, 303);
    assert_eq!(here.get("/").await.status, 200, "the one who changed it stays");
    assert_eq!(elsewhere.get("/").await.location.as_deref(), Some("/log-in"));
    assert_eq!(elsewhere.log_in("viewer@shop.example", PASSWORD).await.status, 401);
    assert_eq!(elsewhere.log_in("viewer@shop.example", new).await.status, 303);
    assert!(app.sql::<i64>("SELECT count(*) FROM audit_log WHERE action = 'password_set'").await >= 2);
}

#[tokio::test]
async fn an_open_browser_is_no_way_to_guess_a_password() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Viewer).await;
    let new = "five small words in a row";
    let mut last = String::new();
    for _ in 0..12 {
        last = visitor
            .post("/settings/password", &[("old", "a wrong guess here"), ("new", new), ("again", new)])
            .await
            .text;
    }
    assert!(last.contains("Too many attempts"), "{last}");
    let form = [("old", PASSWORD), ("new", new), ("again", new)];
    assert_eq!(visitor.post("/settings/password", &form).await.status, 429, "not even the right one");
}
