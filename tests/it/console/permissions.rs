//! The permission table, checked against every route of the console.

use herald::access::Use;
use herald::console::table;

use super::*;

/// A path with something in its places.
fn filled(path: &str) -> String {
    path.replace("{label}", "external_id")
        .replace("{id}", "x")
        .replace("{key}", "order-shipped-push")
        .replace("{name}", "order.shipped")
}

#[tokio::test]
async fn every_route_lets_in_the_roles_of_the_permission_table_and_no_other() {
    let app = TestApp::start().await;
    let mut checked = 0;
    for role in Role::ALL {
        let visitor = Visitor::with_role(&app, role).await;
        for route in table() {
            let Some(needs) = route.needs else { continue };
            if needs == Use::BeLoggedIn && route.path == "/log-out" {
                continue;
            }
            let path = filled(route.path);
            // An empty form changes nothing: a permitted caller gets a form error, or that there is no such entry.
            let seen =
                if route.method == "GET" { visitor.get(&path).await } else { visitor.post(&path, &[]).await };
            let is_refused = seen.status == 403;
            assert_eq!(
                is_refused,
                !role.may(needs),
                "{} {path} as {}: {}",
                route.method,
                role.as_str(),
                seen.status
            );
            assert!(!seen.status.is_server_error(), "{} {path}: {}", route.method, seen.text);
            checked += 1;
        }
    }
    assert!(checked > 200, "{checked}");
}

#[tokio::test]
async fn a_stranger_gets_in_nowhere_but_at_the_log_in() {
    let app = TestApp::start().await;
    let _admin = Visitor::with_role(&app, Role::Admin).await;
    let stranger = Visitor::stranger(&app);
    for route in table().into_iter().filter(|route| route.needs.is_some()) {
        let path = filled(route.path);
        let seen =
            if route.method == "GET" { stranger.get(&path).await } else { stranger.post(&path, &[]).await };
        assert_eq!(seen.status, 303, "{} {path}", route.method);
        assert!(seen.location.unwrap().starts_with("/log-in"));
    }
}

#[tokio::test]
async fn a_forged_post_from_another_site_is_refused_with_and_without_its_headers() {
    let app = TestApp::start().await;
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let form = [("what", "app all"), ("reason", "forged")];
    for headers in [
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![],
    ] {
        let seen = admin.post_from("/issues/switches/close", &form, &headers).await;
        assert_eq!(seen.status, 403, "{headers:?}");
    }
    assert!(app.get("/v1/gates").await.as_array().unwrap().is_empty());
    let own = app.url.clone();
    assert_eq!(admin.post_from("/issues/switches/close", &form, &[("origin", &own)]).await.status, 303);
    assert_eq!(app.get("/v1/gates").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_page_forbids_what_does_not_come_with_the_binary() {
    let app = TestApp::start().await;
    let visitor = Visitor::with_role(&app, Role::Admin).await;
    for path in ["/", "/log-in", "/templates/order-shipped-push", "/nothing-here"] {
        let seen = visitor.get(path).await;
        let policy = seen.headers.get("content-security-policy").expect(path).to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        for part in ["style=\"", " onclick", "<script>"] {
            assert!(!seen.text.contains(part), "{path} has {part}");
        }
    }
}
