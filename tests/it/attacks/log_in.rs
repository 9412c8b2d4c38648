//! Guessing, replaying and outliving passwords, links and sessions.

use std::net::IpAddr;
use std::time::Duration;

use herald::access::{Client, LogInError, Role};
use secrecy::{ExposeSecret, SecretString};

use super::logs;
use crate::console::second_factor::set_up;
use crate::console::visitor::{PASSWORD, Visitor};
use crate::support::app::{TestApp, Wanted};

const NEW: &str = "five small words in a row";

/// A Herald behind a proxy on this machine.
async fn behind_a_proxy() -> TestApp {
    let settings = vec![("HERALD_CONSOLE__TRUSTED_PROXIES", "127.0.0.0/8".to_owned())];
    TestApp::start_with(Wanted { settings, ..Wanted::default() }).await
}

async fn opens(app: &TestApp, token: &SecretString) -> bool {
    let form = [("token", token.expose_secret()), ("password", NEW)];
    Visitor::stranger(app).post("/welcome", &form).await.status == 303
}

#[tokio::test]
async fn a_link_made_before_a_password_change_opens_nothing() {
    let app = TestApp::start().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    let link = app.herald.team.new_link("test", "viewer@shop.example").await.unwrap();
    let form =
        [("old", PASSWORD), ("new", "another four small words"), ("again", "another four small words")];
    assert_eq!(owner.post("/settings/password", &form).await.status, 303);
    assert!(!opens(&app, &link).await);
}

#[tokio::test]
async fn a_link_made_before_a_deactivation_opens_nothing_after_it() {
    let app = TestApp::start().await;
    let _owner = Visitor::with_role(&app, Role::Viewer).await;
    let team = &app.herald.team;
    let link = team.new_link("test", "viewer@shop.example").await.unwrap();
    team.change("test", "viewer@shop.example", None, Some(true)).await.unwrap();
    team.change("test", "viewer@shop.example", None, Some(false)).await.unwrap();
    assert!(!opens(&app, &link).await);
}

#[tokio::test]
async fn a_link_made_for_a_viewer_makes_no_admin() {
    let app = TestApp::start().await;
    let _owner = Visitor::with_role(&app, Role::Viewer).await;
    let team = &app.herald.team;
    let link = team.new_link("test", "viewer@shop.example").await.unwrap();
    team.change("test", "viewer@shop.example", Some(Role::Admin), None).await.unwrap();
    assert!(!opens(&app, &link).await);
}

#[tokio::test]
async fn a_link_does_not_go_around_the_second_factor() {
    let app = TestApp::start().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    set_up(&app, &owner).await;
    let link = app.herald.team.new_link("test", "viewer@shop.example").await.unwrap();
    let thief = Visitor::stranger(&app);
    let seen = thief.post("/welcome", &[("token", link.expose_secret()), ("password", NEW)]).await;
    assert_eq!(seen.location.as_deref(), Some("/log-in/code?next=%2F"));
    assert!(thief.token().is_none());
}

#[tokio::test]
async fn guesses_from_sixty_addresses_do_not_lock_the_owner_out_of_their_browser() {
    let app = behind_a_proxy().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    for n in 0..70 {
        let guesser = Visitor::stranger(&app).sending("x-forwarded-for", &format!("203.0.113.{n}"));
        guesser.log_in("viewer@shop.example", "a guess of somebody").await;
    }
    let stranger = Visitor::stranger(&app).sending("x-forwarded-for", "198.51.100.1");
    assert_eq!(stranger.log_in("viewer@shop.example", PASSWORD).await.status, 429, "the account is closed");
    assert_eq!(owner.log_in("viewer@shop.example", PASSWORD).await.status, 303, "but not to its owner");
}

#[tokio::test]
async fn a_browser_s_own_count_is_no_way_to_guess() {
    let app = TestApp::start().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    for _ in 0..10 {
        assert_eq!(owner.log_in("viewer@shop.example", "a guess of somebody").await.status, 401);
    }
    assert_eq!(owner.log_in("viewer@shop.example", PASSWORD).await.status, 429);
}

#[tokio::test]
async fn a_browser_known_to_one_member_gives_no_guesses_at_another() {
    let app = behind_a_proxy().await;
    let _victim = Visitor::with_role(&app, Role::Admin).await;
    let insider = Visitor::with_role(&app, Role::Viewer).await.sending("x-forwarded-for", "198.51.100.1");
    for _ in 0..10 {
        insider.log_in("admin@shop.example", "a guess of somebody").await;
    }
    assert_eq!(insider.log_in("admin@shop.example", "a guess of somebody").await.status, 429);
}

#[tokio::test]
async fn behind_a_proxy_one_client_s_guesses_throttle_no_other_client() {
    let app = behind_a_proxy().await;
    let email = Visitor::member(&app, Role::Viewer).await;
    let guesser = Visitor::stranger(&app).sending("x-forwarded-for", "203.0.113.9");
    for _ in 0..11 {
        guesser.log_in(&email, "a guess of somebody").await;
    }
    assert_eq!(guesser.log_in(&email, PASSWORD).await.status, 429);
    let other = Visitor::stranger(&app).sending("x-forwarded-for", "198.51.100.1");
    assert_eq!(other.log_in(&email, PASSWORD).await.status, 303);
}

#[tokio::test]
async fn an_invented_forwarded_address_gives_no_fresh_guesses() {
    for app in [TestApp::start().await, behind_a_proxy().await] {
        let email = Visitor::member(&app, Role::Viewer).await;
        let mut last = 0;
        for n in 0..12 {
            // What a client writes itself stands left of what the proxy adds.
            let invented = format!("10.9.8.{n}, 203.0.113.9");
            let guesser = Visitor::stranger(&app).sending("x-forwarded-for", &invented);
            last = guesser.log_in(&email, "a guess of somebody").await.status.as_u16();
        }
        assert_eq!(last, 429);
    }
}

#[tokio::test]
async fn one_address_guesses_at_a_hundred_accounts_and_no_more() {
    let app = TestApp::start().await;
    let from = Client::at(IpAddr::from([203, 0, 113, 9]));
    let mut refused = 0;
    for n in 0..130 {
        let guess = SecretString::from("a guess of somebody");
        let email = format!("nobody{n}@shop.example");
        if let Err(LogInError::Throttled { .. }) = app.herald.team.log_in(&email, guess, &from).await {
            refused += 1;
        }
    }
    assert_eq!(refused, 30);
    let rows: i64 = app.sql("SELECT count(*) FROM log_in_attempts").await;
    assert!(rows <= 201, "what is refused adds no rows: {rows}");
}

#[tokio::test]
async fn of_many_log_ins_at_once_fifty_wait_and_the_rest_is_sent_away() {
    let app = TestApp::start().await;
    let _member = Visitor::member(&app, Role::Viewer).await;
    let log_ins = (0..150_u8).map(|n| {
        let team = app.herald.team.clone();
        async move {
            let from = Client::at(IpAddr::from([203, 0, 113, n]));
            team.log_in(&format!("nobody{n}@shop.example"), SecretString::from("a guess"), &from).await
        }
    });
    let done = futures_util::future::join_all(log_ins).await;
    let sent_away = done.iter().filter(|one| matches!(one, Err(LogInError::Busy { .. }))).count();
    assert_eq!(sent_away, 98);
}

#[tokio::test]
async fn too_many_tries_are_answered_with_when_to_come_back() {
    let app = TestApp::start().await;
    let email = Visitor::member(&app, Role::Viewer).await;
    let visitor = Visitor::stranger(&app);
    for _ in 0..10 {
        visitor.log_in(&email, "a guess of somebody").await;
    }
    let seen = visitor.log_in(&email, "a guess of somebody").await;
    assert_eq!((seen.status.as_u16(), &seen.headers["retry-after"]), (429, &"900".parse().unwrap()));
}

#[tokio::test]
async fn wrong_tokens_of_one_address_close_welcome_to_it_alone() {
    let app = behind_a_proxy().await;
    let guesser = Visitor::stranger(&app).sending("x-forwarded-for", "203.0.113.9");
    let wrong = [("token", "0000"), ("password", NEW)];
    for _ in 0..30 {
        assert_eq!(guesser.post("/welcome", &wrong).await.status, 422);
    }
    let seen = guesser.post("/welcome", &wrong).await;
    assert_eq!((seen.status.as_u16(), seen.headers.contains_key("retry-after")), (429, true));
    let other = Visitor::stranger(&app).sending("x-forwarded-for", "198.51.100.1");
    assert_eq!(other.post("/welcome", &wrong).await.status, 422);
}

#[tokio::test]
async fn passwords_that_are_tried_first_are_not_taken() {
    let app = TestApp::start().await;
    let _admin = Visitor::with_role(&app, Role::Admin).await;
    for bad in [
        "Summer2026!!",
        "qazwsxedcrfv",
        "P@ssw0rd2026",
        "1234567890ab",
        "abc123abc123",
        "manchester1234",
        "Welcome2026!!",
        "viewer2026!!!",
    ] {
        let new = herald::access::NewMember { email: "v@shop.example", name: "V", role: Role::Viewer };
        let token = app.herald.team.invite("test", new).await;
        let token = match token {
            Ok(token) => token,
            Err(_) => app.herald.team.new_link("test", "v@shop.example").await.unwrap(),
        };
        let form = [("token", token.expose_secret()), ("password", bad)];
        let seen = Visitor::stranger(&app).post("/welcome", &form).await;
        assert!(seen.status == 422 && seen.text.contains("unrelated words"), "{bad}: {}", seen.text);
        // The many tries come from one address.
        app.clock.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn a_code_is_good_once() {
    let app = TestApp::start().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    let (authenticator, _) = set_up(&app, &owner).await;
    let used = authenticator.code(&app);
    let thief = Visitor::stranger(&app);
    thief.log_in("viewer@shop.example", PASSWORD).await;
    let seen = thief.post("/log-in/code", &[("code", &used)]).await;
    assert_eq!(seen.status, 401, "it turned the second factor on");
    app.clock.advance(Duration::from_secs(30));
    let code = authenticator.code(&app);
    assert_eq!(thief.post("/log-in/code", &[("code", &code)]).await.status, 303);
    let second = Visitor::stranger(&app);
    second.log_in("viewer@shop.example", PASSWORD).await;
    assert_eq!(second.post("/log-in/code", &[("code", &code)]).await.status, 401, "it let somebody in");
}

#[tokio::test]
async fn codes_are_guessed_at_ten_times_and_no_more() {
    let app = behind_a_proxy().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    let (authenticator, _) = set_up(&app, &owner).await;
    app.clock.advance(Duration::from_mins(1));
    let mut statuses = Vec::new();
    for n in 0..12 {
        let thief = Visitor::stranger(&app).sending("x-forwarded-for", &format!("203.0.113.{n}"));
        thief.log_in("viewer@shop.example", PASSWORD).await;
        statuses.push(thief.post("/log-in/code", &[("code", "000000")]).await.status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 10, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 2, "{statuses:?}");
    owner.log_in("viewer@shop.example", PASSWORD).await;
    let code = authenticator.code(&app);
    assert_eq!(
        owner.post("/log-in/code", &[("code", &code)]).await.status,
        303,
        "the owner's browser is let in"
    );
}

#[tokio::test]
async fn a_pending_log_in_is_no_session_and_ends_after_ten_minutes() {
    let app = TestApp::start().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    let (authenticator, _) = set_up(&app, &owner).await;
    let late = Visitor::stranger(&app);
    late.log_in("viewer@shop.example", PASSWORD).await;
    let pending = late.cookie("herald_pending").unwrap();
    late.keep("herald", &pending);
    assert_eq!(late.get("/").await.status, 303);
    app.clock.advance(Duration::from_mins(11));
    let code = authenticator.code(&app);
    let seen = late.post("/log-in/code", &[("code", &code)]).await;
    assert_eq!(seen.location.as_deref(), Some("/log-in"));
}

#[tokio::test]
async fn a_deactivated_member_s_pending_log_in_leads_nowhere() {
    let app = TestApp::start().await;
    let owner = Visitor::with_role(&app, Role::Viewer).await;
    let (authenticator, _) = set_up(&app, &owner).await;
    app.clock.advance(Duration::from_mins(1));
    owner.log_in("viewer@shop.example", PASSWORD).await;
    app.herald.team.change("test", "viewer@shop.example", None, Some(true)).await.unwrap();
    let code = authenticator.code(&app);
    assert_eq!(owner.post("/log-in/code", &[("code", &code)]).await.location.as_deref(), Some("/log-in"));
}

#[tokio::test]
async fn control_characters_in_next_lose_no_session() {
    let app = TestApp::start().await;
    let email = Visitor::member(&app, Role::Viewer).await;
    for next in ["/\u{1}", "/\u{b}", "/x\u{7f}"] {
        let visitor = Visitor::stranger(&app);
        let form = [("email", email.as_str()), ("password", PASSWORD), ("next", next)];
        let seen = visitor.post("/log-in", &form).await;
        assert_eq!((seen.status.as_u16(), seen.location.as_deref()), (303, Some("/")), "{next:?}");
        assert!(visitor.token().is_some());
    }
}

#[tokio::test]
async fn nobody_deactivates_themselves_by_another_spelling() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let other = herald::access::NewMember { email: "b@shop.example", name: "B", role: Role::Admin };
    let token = app.herald.team.invite("test", other).await.unwrap();
    assert!(opens(&app, &token).await);
    for spelling in ["admin@shop.example", " ADMIN@shop.example ", "Admin@Shop.Example"] {
        let form = [("email", spelling), ("is_disabled", "yes")];
        assert_eq!(admin.post("/settings/team/change", &form).await.status, 409, "{spelling}");
    }
    assert_eq!(admin.get("/").await.status, 200);
}

#[tokio::test]
async fn failed_log_ins_are_logged_with_account_address_and_count_and_no_secret() {
    let (log, _guard) = logs::captured();
    let app = TestApp::start().await;
    let email = Visitor::member(&app, Role::Viewer).await;
    let visitor = Visitor::stranger(&app);
    for _ in 0..3 {
        visitor.log_in(&email, "a-secret-guess").await;
    }
    visitor.log_in("other@shop.example", "a-secret-guess").await;
    let log = log.text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a login failed")).collect();
    assert_eq!(lines.len(), 4, "{log}");
    let hash = |line: &str| line.split("account.hash=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert_eq!(hash(lines[0]), hash(lines[2]));
    assert_ne!(hash(lines[0]), hash(lines[3]));
    assert!(lines[2].contains("client.address=127.0.0.1") && lines[2].contains("tries=3"), "{}", lines[2]);
    for secret in ["a-secret-guess", "viewer@", "other@"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn refused_pages_are_logged_with_member_permission_and_route_and_a_burst_is_counted() {
    let (log, _guard) = logs::captured();
    let app = TestApp::start().await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    for _ in 0..5 {
        assert_eq!(viewer.get("/settings/keys").await.status, 403);
    }
    let summary = log.wait_for("4 more requests were denied").await;
    let first: Vec<&str> = summary.lines().filter(|line| line.contains("was denied to")).collect();
    assert_eq!(first.len(), 1, "{summary}");
    for part in ["permission=ManageKeys", "/settings/keys", "member.id=mem_"] {
        assert!(first[0].contains(part), "{part}: {}", first[0]);
    }
}
