//! Issues: who is in it, the same as a file, and what is done about a group.

use super::*;

/// Has events of this type taken without a value that their copy needs.
async fn lets_everything_in(app: &TestApp) {
    app.execute("UPDATE event_types SET schema = '{\"type\": \"object\"}' WHERE name = 'order.shipped'")
        .await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
}

/// Posts an order without one of its values.
async fn hold(app: &TestApp, id: &str, user: &str, without: &str) {
    let mut event = order_shipped(id, user);
    event["data"].as_object_mut().expect("an object").remove(without);
    app.accept(&event).await;
}

/// The address of what can be done about the held ones that lack the carrier.
fn of_carrier(action: &str) -> String {
    let detail = "`data.carrier` is missing in the event, and `contents` of order-shipped-push version 1 has no default for it";
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("state", "held"),
            ("code", "missing_value"),
            ("rule", "order-shipped-push"),
            ("template", "order-shipped-push"),
            ("detail", detail),
        ])
        .finish();
    format!("/issues/{action}?{query}")
}

#[tokio::test]
async fn a_group_of_held_ones_is_released_at_once_and_counted_first() {
    let app = TestApp::start().await;
    app.execute("UPDATE event_types SET schema = '{\"type\": \"object\"}' WHERE name = 'order.shipped'")
        .await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    for n in 0..3 {
        let mut event = order_shipped(&format!("order-{n}"), "user-7");
        event["data"].as_object_mut().unwrap().remove("carrier");
        app.accept(&event).await;
    }
    let operator = Visitor::with_role(&app, Role::Operator).await;
    let plan = "/issues/release?code=missing_value&rule=order-shipped-push&template=order-shipped-push";
    assert!(operator.get(plan).await.text.contains("Release 3 deliveries"));
    let form = [
        ("code", "missing_value"),
        ("rule", "order-shipped-push"),
        ("template", "order-shipped-push"),
        ("values", "{\"carrier\": \"UPS\"}"),
    ];
    assert_eq!(operator.post("/issues/release", &form).await.status, 303);
    assert!(operator.get("/issues").await.text.contains("Released 3 deliveries."));
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 3);
    assert!(operator.get(plan).await.text.contains("This issue is resolved"));
}

#[tokio::test]
async fn what_is_missing_sets_groups_apart_and_each_is_shown_and_released_alone() {
    let app = TestApp::start().await;
    lets_everything_in(&app).await;
    for n in 0..2 {
        hold(&app, &format!("carrier-{n}"), &format!("c{n}"), "carrier").await;
    }
    hold(&app, "order-9", "other", "order_id").await;
    let operator = Visitor::with_role(&app, Role::Admin).await;
    let issues = operator.get("/issues").await.text;
    assert!(issues.contains(&of_carrier("group").replace('&', "&amp;")), "{issues}");
    let page = operator.get(&of_carrier("group")).await.text;
    assert!(page.contains("carrier-0") && page.contains("carrier-1") && !page.contains("order-9"), "{page}");
    assert!(page.contains("Add a default"), "{page}");
    assert!(operator.get(&of_carrier("release")).await.text.contains("Release 2 deliveries"));
    let detail = "`data.carrier` is missing in the event, and `contents` of order-shipped-push version 1 has no default for it";
    let form = [
        ("state", "held"),
        ("code", "missing_value"),
        ("rule", "order-shipped-push"),
        ("template", "order-shipped-push"),
        ("detail", detail),
        ("values", "{\"carrier\": \"UPS\"}"),
    ];
    assert_eq!(operator.post("/issues/release", &form).await.status, 303);
    assert!(operator.get("/issues").await.text.contains("Released 2 deliveries."));
    app.run_until_idle().await;
    assert!(operator.get(&of_carrier("group")).await.text.contains("This issue is resolved"));
    assert!(operator.get("/issues").await.text.contains("order_id"), "the other one is still held");
}

#[tokio::test]
async fn a_group_comes_as_a_file_whose_cells_no_spreadsheet_runs() {
    let app = TestApp::start().await;
    lets_everything_in(&app).await;
    hold(&app, "=cmd|'/C'!A0", "=HYPERLINK(\"https://evil.example\")", "carrier").await;
    hold(&app, "order,with\"quotes\"", "user-2", "carrier").await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    let file = viewer.get(&of_carrier("export")).await;
    assert_eq!(file.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(file.headers["content-disposition"], "attachment; filename=\"held-order-shipped-push.csv\"");
    let mut reader = csv::Reader::from_reader(file.text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    let mut cells: Vec<(&str, &str)> = rows.iter().map(|row| (&row[4], &row[10])).collect();
    cells.sort_unstable();
    let formula = ("'=HYPERLINK(\"https://evil.example\")", "'=cmd|'/C'!A0");
    assert_eq!(cells, [formula, ("user-2", "order,with\"quotes\"")]);
}

#[tokio::test]
async fn refused_ones_of_one_reason_are_replayed_and_those_of_another_are_not() {
    let app = TestApp::start().await;
    for (n, words) in ["Message Notifications must have English", "icon is too large"].into_iter().enumerate()
    {
        app.fault(serde_json::json!({"endpoint": "notifications", "kind": "status", "status": 400, "body": {"errors": [words]}, "times": 2}))
            .await;
        app.accept(&order_shipped(&format!("order-{n}"), &format!("user-{n}"))).await;
        app.run_until_idle().await;
        app.clear_faults().await;
    }
    let operator = Visitor::with_role(&app, Role::Operator).await;
    let issues = operator.get("/issues").await.text;
    let start = issues.find("/issues/replay?").expect("a button");
    let address = issues[start..].split('"').next().unwrap().replace("&amp;", "&");
    assert!(address.contains("detail="), "{address}");
    let plan = operator.get(&address).await.text;
    assert!(plan.contains("<strong>1 delivery</strong> will be replayed"), "{plan}");
}
