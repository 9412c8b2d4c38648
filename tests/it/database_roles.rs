//! The service's own role in Postgres: it serves, and it changes neither tables nor the audit log.

use std::time::Duration;

use herald::store::grants::GrantError;
use sqlx::{Connection, PgConnection};

use crate::support::app::{TestApp, Wanted, order_shipped};
use crate::support::database::Database;

/// Makes a role, and returns its name and the database's address for it.
async fn make_role(app: &TestApp) -> (String, String) {
    let mut url: url::Url = app.database.parse().expect("a URL");
    let role = format!("service_of{}", url.path().replace(['/', '-'], "_"));
    let mut owner = PgConnection::connect(&app.database).await.expect("connected");
    for statement in [format!("DROP ROLE IF EXISTS {role}"), format!("CREATE ROLE {role} LOGIN PASSWORD 'x'")]
    {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut owner).await.expect("made");
    }
    // A test server on a socket names its user in the address or in the query.
    if url.query().is_some_and(|query| query.contains("user=")) {
        let pairs: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| name != "user").collect();
        url.query_pairs_mut().clear().extend_pairs(pairs).append_pair("user", &role);
    } else {
        url.set_username(&role).expect("a user");
        url.set_password(Some("x")).expect("a password");
    }
    (role, url.to_string())
}

async fn drop_role(app: &TestApp, role: &str) {
    let mut owner = PgConnection::connect(&app.database).await.expect("connected");
    for statement in [format!("DROP OWNED BY {role}"), format!("DROP ROLE {role}")] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut owner).await.expect("dropped");
    }
}

#[tokio::test]
async fn a_role_with_the_service_s_rights_serves_and_can_t_change_what_was_recorded() {
    let app = TestApp::start().await;
    let (role, url) = make_role(&app).await;
    app.herald.store.grant_service(&role).await.expect("granted");
    app.herald.store.grant_service(&role).await.expect("granted again");
    let service = TestApp::start_with(Wanted {
        database: Some(Database::of_own_server(url.clone())),
        sandbox_url: Some(app.sandbox_url.clone()),
        without_catalog: true,
        seed: 5,
        ..Wanted::default()
    })
    .await;
    assert!(!service.herald.store.may_change_audit().await.expect("asked"));
    let accepted = service.accept(&order_shipped("o-1", "user-42")).await;
    service.run_until_idle().await;
    assert_eq!(service.delivery(&accepted, "order-shipped-push").await["state"], "accepted");
    // Days are made, and dropped once they are old.
    let days = "SELECT count(*) FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname = 'events'";
    let before: i64 = app.sql(days).await;
    service.advance(Duration::from_hours(200 * 24)).await;
    assert!(app.sql::<i64>(days).await <= before + 5, "old days went");
    let mut attacker = PgConnection::connect(&url).await.expect("connected");
    for attack in [
        "UPDATE audit_log SET actor = 'somebody else'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "DROP TABLE audit_log",
        "DROP TABLE events",
        "CREATE TABLE mine (x integer)",
        "UPDATE deployment SET namespace = '00000000-0000-4000-8000-000000000000'",
        "DELETE FROM _sqlx_migrations",
        "SELECT drop_day_partition('audit_log')",
        "SELECT drop_day_partition('event_keys_0')",
    ] {
        let refused = sqlx::query(attack).execute(&mut attacker).await;
        assert!(refused.is_err(), "{attack}");
    }
    drop(service);
    attacker.close().await.expect("closed");
    drop_role(&app, &role).await;
}

#[tokio::test]
async fn rights_are_given_to_roles_that_exist_and_from_which_something_can_be_kept() {
    let app = TestApp::start().await;
    let grant = async |role: &str| app.herald.store.grant_service(role).await;
    assert!(matches!(grant("nobody_at_all").await, Err(GrantError::UnknownRole(_))));
    assert!(matches!(grant("x\" TO PUBLIC; --").await, Err(GrantError::BadName(_))));
    let owner: String = app.sql("SELECT current_user::text").await;
    assert!(matches!(grant(&owner).await, Err(GrantError::Owner(_))));
}
