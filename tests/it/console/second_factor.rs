//! The second factor: set up, asked for, lost, required.

use std::time::Duration;

use herald::domain::clock::Clock;
use totp_rs::{Builder, Secret, Totp};

use super::visitor::PASSWORD;
use super::*;

/// An authenticator app.
pub struct Authenticator(Totp);

impl Authenticator {
    /// Reads the key from the page that shows it.
    fn reading(page: &str) -> Self {
        let key = page.split("Or enter the key manually</summary>").nth(1).expect("the key");
        let key = key.split("<code>").nth(1).and_then(|rest| rest.split("</code>").next()).expect("the key");
        let secret = Secret::try_from_base32(key.replace(' ', "")).expect("base32");
        Self(Builder::new().with_secret(secret).build().expect("rules"))
    }

    /// The code that it shows at the clock's moment.
    pub fn code(&self, app: &TestApp) -> String {
        let now = u64::try_from(app.clock.now().timestamp()).expect("after 1970");
        self.0.generate(now).to_string()
    }
}

/// Sets a second factor up; returns the authenticator and the recovery codes.
pub async fn set_up(app: &TestApp, visitor: &Visitor) -> (Authenticator, Vec<String>) {
    let here = "/settings/second-factor";
    assert_eq!(visitor.post(here, &[]).await.location.as_deref(), Some(here));
    let page = visitor.get(here).await.text;
    assert!(page.contains("<svg"), "{page}");
    let authenticator = Authenticator::reading(&page);
    let code = authenticator.code(app);
    let seen = visitor.post("/settings/second-factor/activate", &[("code", &code)]).await;
    assert_eq!(seen.status, 200, "{}", seen.text);
    let codes = seen.text.split("<pre><code>").nth(1).and_then(|rest| rest.split("</code>").next());
    (authenticator, codes.expect("codes").lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn a_log_in_asks_for_the_code_and_lets_nobody_in_without_it() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Editor).await;
    let (authenticator, codes) = set_up(&app, &visitor).await;
    assert_eq!(codes.len(), 10);
    app.clock.advance(Duration::from_mins(1));
    let other = Visitor::stranger(&app);
    let form = [("email", "editor@shop.example"), ("password", PASSWORD), ("next", "/rules")];
    let seen = other.post("/log-in", &form).await;
    assert_eq!(seen.location.as_deref(), Some("/log-in/code?next=%2Frules"));
    assert!(other.token().is_none());
    assert_eq!(other.get("/").await.status, 303);
    assert!(other.get("/log-in/code?next=/rules").await.text.contains("six digits"));
    assert_eq!(other.post("/log-in/code", &[("code", "000000")]).await.status, 401);
    let code = authenticator.code(&app);
    let seen = other.post("/log-in/code", &[("code", &code), ("next", "/rules")]).await;
    assert_eq!(seen.location.as_deref(), Some("/rules"));
    assert_eq!(other.get("/").await.status, 200);
}

#[tokio::test]
async fn a_recovery_code_replaces_the_authenticator_once() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Editor).await;
    let (_, codes) = set_up(&app, &visitor).await;
    let lost = codes[3].to_uppercase();
    for expected in [303, 401] {
        let other = Visitor::stranger(&app);
        other.log_in("editor@shop.example", PASSWORD).await;
        assert_eq!(other.post("/log-in/code", &[("code", &lost)]).await.status, expected);
    }
    assert!(visitor.get("/settings/second-factor").await.text.contains("9 of 10 left"));
    let anew = visitor.post("/settings/second-factor/codes", &[]).await.text;
    assert!(!anew.contains(&codes[4]));
    let other = Visitor::stranger(&app);
    other.log_in("editor@shop.example", PASSWORD).await;
    assert_eq!(other.post("/log-in/code", &[("code", &codes[4])]).await.status, 401, "the old ones are gone");
}

#[tokio::test]
async fn codes_and_secrets_are_in_the_database_in_no_form_that_can_be_read() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Editor).await;
    visitor.post("/settings/second-factor", &[]).await;
    let page = visitor.get("/settings/second-factor").await.text;
    let secret = Authenticator::reading(&page).0.secret().clone();
    let code = Authenticator::reading(&page).code(&app);
    let codes = visitor.post("/settings/second-factor/activate", &[("code", &code)]).await.text;
    let first = codes.split("<pre><code>").nth(1).unwrap().lines().next().unwrap().to_owned();
    let dump = app.dump().await;
    // As Postgres writes bytes.
    let hex = secret.as_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    for text in [&first, &first.replace('-', ""), &hex, &secret.to_base32()] {
        assert!(!dump.contains(text.as_str()), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_first_code_turns_nothing_on() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Editor).await;
    visitor.post("/settings/second-factor", &[]).await;
    let seen = visitor.post("/settings/second-factor/activate", &[("code", "123456")]).await;
    assert!(seen.status == 422 && seen.text.contains("Wrong code"), "{}", seen.text);
    let other = Visitor::stranger(&app);
    assert_eq!(other.log_in("editor@shop.example", PASSWORD).await.location.as_deref(), Some("/"));
}

#[tokio::test]
async fn a_code_of_the_authenticator_confirms_who_it_is() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let (authenticator, _) = set_up(&app, &admin).await;
    app.clock.advance(Duration::from_mins(11));
    assert_eq!(admin.get("/settings/keys").await.status, 303);
    assert!(admin.get("/confirm?next=/settings/keys").await.text.contains("Authenticator code"));
    let form = [("code", authenticator.code(&app)), ("next", "/settings/keys".to_owned())];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(admin.post("/confirm", &form).await.location.as_deref(), Some("/settings/keys"));
    assert_eq!(admin.get("/settings/keys").await.status, 200);
}

#[tokio::test]
async fn an_admin_resets_a_lost_one_which_is_on_record_and_ends_the_member_s_sessions() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let editor = Visitor::with_role(&app, Role::Editor).await;
    set_up(&app, &editor).await;
    assert!(admin.get("/settings/team").await.text.contains("second factor on"));
    let form = [("email", "Editor@shop.example ")];
    assert_eq!(admin.post("/settings/team/reset-second-factor", &form).await.status, 303);
    assert_eq!(editor.get("/").await.status, 303);
    assert_eq!(editor.log_in("editor@shop.example", PASSWORD).await.location.as_deref(), Some("/"));
    let actor: String = app.sql("SELECT actor FROM audit_log WHERE action = 'second_factor_reset'").await;
    assert_eq!(actor, "admin@shop.example");
    assert_eq!(admin.post("/settings/team/reset-second-factor", &form).await.status, 409);
}

#[tokio::test]
async fn who_removes_it_is_asked_for_a_password_alone() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Editor).await;
    set_up(&app, &visitor).await;
    assert_eq!(visitor.post("/settings/second-factor", &[]).await.status, 409, "one at a time");
    assert_eq!(visitor.post("/settings/second-factor/remove", &[]).await.status, 303);
    let other = Visitor::stranger(&app);
    assert_eq!(other.log_in("editor@shop.example", PASSWORD).await.location.as_deref(), Some("/"));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM recovery_codes").await, 0);
}

#[tokio::test]
async fn where_it_is_required_nothing_else_opens_before_it_is_set_up() {
    let wanted = crate::support::app::Wanted {
        settings: vec![("HERALD_CONSOLE__REQUIRE_SECOND_FACTOR", "true".to_owned())],
        ..Default::default()
    };
    let app = TestApp::start_with(wanted).await;
    let visitor = Visitor::with_role(&app, Role::Editor).await;
    for path in ["/", "/rules", "/settings"] {
        assert_eq!(visitor.get(path).await.location.as_deref(), Some("/settings/second-factor"), "{path}");
    }
    set_up(&app, &visitor).await;
    assert_eq!(visitor.get("/").await.status, 200);
}
