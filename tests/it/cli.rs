//! The commands as people and scripts use them: what they print, how they end, and what they refuse in one clear line.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::database;
use crate::support::processes::{KEY, Processes, free_port, herald, run, scratch};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&out(output)).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

/// What a command that refuses says: one line, and it ends with failure.
fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    let text = err(output);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("herald:")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_owned()
}

#[tokio::test]
async fn serve_refuses_to_start_with_one_clear_line() {
    let database = database::fresh().await;
    let empty = database::empty().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let (listen, taken_port) = (listen.as_str(), port.to_string());
    let db = ("HERALD_DATABASE_URL", &*database);
    let secret = ("HERALD_SECRET_KEY", database::SECRET_KEY);
    let risky = ("HERALD_ALLOW_UNSAFE_POSTGRES", "true");
    let at = ("HERALD_LISTEN", listen);
    for (variables, words) in [
        (vec![at], "no database: set `database_url`"),
        (vec![at, db], "no secret key: set HERALD_SECRET_KEY"),
        (vec![at, db, ("HERALD_SECRET_KEY", "short")], "32"),
        (vec![at, db, secret], "`fsync` is off"),
        (vec![at, ("HERALD_DATABASE_URL", &*empty), secret, risky], "run `herald migrate`"),
        (
            vec![at, ("HERALD_DATABASE_URL", "postgres://nobody@127.0.0.1:1/x"), secret, risky],
            "database is unreachable",
        ),
        (
            vec![at, ("HERALD_DATABASE_URL", "mysql://x"), secret, risky],
            "`database_url` is not a valid Postgres address",
        ),
        (vec![("HERALD_LISTEN", taken_port.as_str()), db, secret, risky], "is in use by another program"),
        (vec![at, db, secret, ("HERALD_DELIVERY__LAESE", "2s")], "did you mean `delivery.lease`?"),
        (vec![at, db, secret, ("HERALD_DELIVERY__LEASE", "9s")], "at least twice `delivery.lease_renewal`"),
        (vec![at, db, secret, ("HERALD_DELIVERY__LEASE", "soon")], "delivery.lease"),
        (vec![at, db, secret, risky, ("HERALD_ONESIGNAL__APP_ID", "x")], "onesignal.app_id is not a UUID"),
        (vec![at, db, secret, risky, ("HERALD_DEV_KEY", "hk_test_short")], "invalid dev_key"),
        (vec![at, db, secret, risky, ("HERALD_DEV_KEY", KEY)], "the default app is not a sandbox"),
    ] {
        let line = refusal(&run(&["serve"], &variables).await);
        assert!(line.contains(words), "{variables:?}: {line}");
        assert!(!line.contains(database::SECRET_KEY) && !line.contains(KEY), "{line}");
    }
}

#[tokio::test]
async fn the_schema_is_brought_up_to_date_once_and_the_first_key_is_made_in_the_database() {
    let database = database::empty().await;
    let variables = [("HERALD_DATABASE_URL", &*database), ("HERALD_SECRET_KEY", database::SECRET_KEY)];
    assert!(
        refusal(&run(&["keys", "create", "--source", "shop"], &variables).await).contains("herald migrate")
    );
    assert!(out(&run(&["migrate"], &variables).await).starts_with("applied "));
    assert_eq!(out(&run(&["migrate"], &variables).await), "the schema is up to date\n");
    let bad = ["keys", "create", "--source", "shop", "--scope", "everything"];
    assert!(refusal(&run(&bad, &variables).await).contains("scopes are events:write"));
    let made = run(&["keys", "create", "--source", "shop"], &variables).await;
    let key = out(&made);
    assert!(made.status.success() && key.starts_with("hk_live_") && key.trim().len() > 40, "{made:?}");
    assert_eq!(key.lines().count(), 1, "a script takes it as it is");
    // The next one needs a key, and a service to ask.
    let next = refusal(&run(&["keys", "create", "--source", "shop"], &variables).await);
    assert!(next.contains("no API key: set HERALD_KEY"), "{next}");
}

#[tokio::test]
async fn clients_say_what_is_missing() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let url = ("HERALD_URL", nobody.as_str());
    assert!(refusal(&run(&["why", "evt_x"], &[url]).await).contains("set HERALD_KEY"));
    let line = refusal(&run(&["why", "evt_x"], &[url, ("HERALD_KEY", KEY)]).await);
    assert!(line.contains("no response from") && line.contains("HERALD_URL"), "{line}");
    assert!(
        refusal(&run(&["why", "order-1"], &[url, ("HERALD_KEY", KEY)]).await).contains("neither an event")
    );
    assert!(
        refusal(&run(&["events", "send"], &[url, ("HERALD_KEY", KEY)]).await).contains("nothing to send")
    );
    assert!(refusal(&run(&["healthcheck"], &[url]).await).contains("no response"));
    assert!(!run(&["no-such-command"], &[]).await.status.success());
}

#[tokio::test]
async fn a_catalog_is_checked_without_any_service() {
    let folder = scratch("catalog");
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    for (path, text) in herald::catalog::sample::files() {
        write(&path, &text);
    }
    write("README.md", "read by people alone");
    let dir = folder.to_str().unwrap();
    let good = run(&["catalog", "check", dir], &[]).await;
    assert_eq!((good.status.code(), out(&good).as_str()), (Some(0), "no problems found\n"));
    write("templates/payment-failed-sms/sms.en.liquid", "{{ data.invoice | upcas }}");
    let bad = run(&["catalog", "check", dir], &[]).await;
    assert_eq!(bad.status.code(), Some(2));
    assert!(out(&bad).starts_with("error: templates/payment-failed-sms/sms.en.liquid:1:"), "{}", out(&bad));
    let machine = run(&["catalog", "check", dir, "--json"], &[]).await;
    let problems: Value = serde_json::from_str(&out(&machine)).unwrap();
    assert_eq!(problems[0]["code"], "liquid_syntax");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_sent_and_explained_and_its_catalog_applied_from_the_shell() {
    let processes = Processes::start(&[]).await;
    let sent = processes.client(&["events", "send", "--sample", "--id", "shell-1", "--wait"]).await;
    let story = out(&sent);
    assert!(sent.status.success() && story.matches("ACCEPTED").count() == 2, "{story}");
    let dry = processes
        .client(&[
            "events",
            "send",
            "--type",
            "order.shipped",
            "--recipient",
            "external_id=u",
            "--dry-run",
            "--data",
            r#"{"order_id":"1","carrier":"DHL","eta":"2030-01-01"}"#,
        ])
        .await;
    assert!(out(&dry).starts_with("would be accepted"), "{dry:?}");
    let again = processes.client(&["events", "send", "--type", "order.shiped", "--id", "x"]).await;
    assert!(!again.status.success() && err(&again).contains("did you mean `order.shipped`?"), "{again:?}");
    let event = json_of(
        &processes
            .client(&[
                "events",
                "send",
                "--type",
                "payment.failed",
                "--id",
                "shell-2",
                "--recipient",
                "external_id=user-9",
                "--data",
                r#"{"invoice":"7","amount":"2 EUR","pay_url":"https://a.example"}"#,
                "--json",
            ])
            .await,
    );
    processes.wait_until_drained().await;
    let id = event["id"].as_str().unwrap();
    assert!(out(&processes.client(&["why", id]).await).contains("shell-2"));
    assert!(
        out(&processes.client(&["why", "--recipient", "external_id=user-9"]).await)
            .contains("payment-failed-sms")
    );
    let delivery = event["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(json_of(&processes.client(&["why", delivery, "--json"]).await)["state"], "accepted");
    assert!(!processes.client(&["why", "dlv_00000000000000000000000000"]).await.status.success());

    let folder = scratch("change");
    std::fs::create_dir_all(folder.join("events/parcel.lost")).unwrap();
    std::fs::write(folder.join("events/parcel.lost/schema.json"), "{}").unwrap();
    let dir = folder.to_str().unwrap();
    assert_eq!(
        processes.client(&["catalog", "plan", dir]).await.status.code(),
        Some(2),
        "changes are pending"
    );
    assert!(out(&processes.client(&["catalog", "apply", dir]).await).contains("1 change applied"));
    assert_eq!(processes.client(&["catalog", "plan", dir]).await.status.code(), Some(0), "it says the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_from_a_file_reports_which_events_were_rejected() {
    let processes = Processes::start(&[]).await;
    let event = |id: &str, kind: &str| {
        json!({"id": id, "type": kind, "recipient": {"external_id": "u"},
            "data": {"invoice": id, "amount": "2 EUR", "pay_url": "https://a.example"}})
    };
    let path = scratch("batch");
    let path_text = path.to_str().unwrap();
    std::fs::write(
        &path,
        json!([event("b-1", "payment.failed"), event("b-2", "payment.fialed")]).to_string(),
    )
    .unwrap();
    let sent = processes.client(&["events", "send", path_text]).await;
    assert!(!sent.status.success() && out(&sent).starts_with("1 accepted, 1 rejected"), "{sent:?}");
    assert!(out(&sent).contains("event 1: "), "{}", out(&sent));
    std::fs::write(&path, "{").unwrap();
    assert!(refusal(&processes.client(&["events", "send", path_text]).await).contains("is not JSON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_listed_and_revoked_from_the_shell() {
    let processes = Processes::start(&[]).await;
    let made =
        json_of(&processes.client(&["keys", "create", "--source", "billing", "--test", "--json"]).await);
    assert!(made["key"].as_str().unwrap().starts_with("hk_test_"));
    let id = made["id"].as_str().unwrap();
    assert!(out(&processes.client(&["keys", "list"]).await).contains(id));
    assert!(processes.client(&["keys", "revoke", id]).await.status.success());
    assert!(!processes.client(&["keys", "revoke", id]).await.status.success());
    assert!(out(&processes.client(&["keys", "list"]).await).contains("revoked"));
}

#[tokio::test]
async fn the_team_is_made_from_the_shell_and_the_last_admin_stays() {
    let database = database::fresh().await;
    let variables = [("HERALD_DATABASE_URL", &*database), ("HERALD_SECRET_KEY", database::SECRET_KEY)];
    let team = async |arguments: &[&str]| run(&[&["team"], arguments].concat(), &variables).await;
    assert!(out(&team(&["list"]).await).contains("no members yet"));
    assert_eq!(out(&team(&["set-up"]).await).trim().len(), 64);
    let invited = team(&["invite", "Anna@Shop.example", "--name", "Anna", "--role", "editor"]).await;
    assert!(out(&invited).starts_with("http://127.0.0.1:8080/welcome#"), "{}", err(&invited));
    assert!(
        refusal(&team(&["invite", "anna@shop.example", "--name", "A"]).await).contains("already a member")
    );
    assert!(refusal(&team(&["role", "anna@shop.example", "boss"]).await).contains("publisher (publishes"));
    assert!(refusal(&team(&["disable", "nobody@shop.example"]).await).contains("there is no member"));
    assert!(out(&team(&["role", "anna@shop.example", "publisher"]).await).contains("is now publisher"));
    let none = team(&["reset-second-factor", "anna@shop.example"]).await;
    assert!(refusal(&none).contains("no second factor"));
    let listed = json_of(&team(&["list", "--json"]).await);
    assert_eq!(listed[0]["has_second_factor"], false);
    assert_eq!((&listed[0]["email"], &listed[0]["role"]), (&json!("anna@shop.example"), &json!("publisher")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_connected_from_the_shell() {
    let processes = Processes::start(&[]).await;
    let folder = scratch("webhook");
    std::fs::create_dir_all(folder.join("sources")).unwrap();
    let mapping = r#"
        [webhook]
        auth = "bearer"
        [[mapping]]
        type = "order.shipped"
        id = "body.id"
        recipient = {external_id = "body.user"}
        data = {order_id = "string(body.id)", carrier = "'DHL'", eta = "body.eta"}
    "#;
    let (file, body) = (folder.join("sources/webshop.toml"), scratch("webhook-body"));
    std::fs::write(&file, mapping).unwrap();
    std::fs::write(&body, r#"{"id": 7, "user": 42, "eta": "2026-11-25"}"#).unwrap();
    let (folder, file, body) = (folder.to_str().unwrap(), file.to_str().unwrap(), body.to_str().unwrap());
    let tried = processes.client(&["sources", "test", "webshop", body, "--mapping", file]).await;
    assert!(tried.status.success() && out(&tried).contains("would be accepted"), "{tried:?}");
    assert!(out(&processes.client(&["catalog", "apply", folder]).await).contains("source webshop"));
    let made = json_of(&processes.client(&["sources", "secret", "add", "webshop", "--json"]).await);
    let own = "the sender's own secret";
    for arguments in [&["--stdin"][..], &["--stdin", "--json"]] {
        let add = [&["sources", "secret", "add", "webshop"], arguments].concat();
        let added = processes.client_reading(&add, own).await;
        let said = format!("{}{}", out(&added), String::from_utf8_lossy(&added.stderr));
        assert!(added.status.success() && said.contains("whs_") && !said.contains(own), "{said}");
    }
    let shown = out(&processes.client(&["sources", "show", "webshop"]).await);
    assert!(
        shown.contains("/v1/hooks/webshop") && shown.contains("active") && shown.contains("body.user"),
        "{shown}"
    );
    let url = format!("http://127.0.0.1:{}/v1/hooks/webshop", processes.port);
    let send = async |text: &'static str| {
        let request = reqwest::Client::new().post(&url).bearer_auth(made["secret"].as_str().unwrap());
        request.body(text).send().await.unwrap().json::<Value>().await.unwrap()
    };
    assert_eq!(send(r#"{"id": 7, "user": 42, "eta": "2026-11-25"}"#).await["state"], "accepted");
    assert_eq!(send(r#"{"id": 8, "user": 42}"#).await["state"], "refused");
    let kept =
        json_of(&processes.client(&["sources", "bodies", "webshop", "--state", "refused", "--json"]).await);
    let replay =
        processes.client(&["sources", "replay", "webshop", kept["data"][0]["id"].as_str().unwrap()]).await;
    assert_eq!((replay.status.code(), out(&replay).contains("still refused")), (Some(2), true));
    let id = made["id"].as_str().unwrap();
    assert!(processes.client(&["sources", "secret", "revoke", "webshop", id]).await.status.success());
    assert_eq!(send("{}").await["code"], "bad_signature");
    let shown = out(&processes.client(&["sources", "show", "webshop"]).await);
    assert!(shown.contains("1 call was rejected") && shown.contains("(wrong_signature)"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_waits_ends_with_two_where_a_delivery_was_not_accepted() {
    let processes = Processes::start(&[]).await;
    let refused = json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0});
    processes.fault(&refused).await;
    let sent = processes.client(&["events", "send", "--sample", "--id", "shell-3", "--wait"]).await;
    assert_eq!(sent.status.code(), Some(2), "{sent:?}");
    assert!(out(&sent).contains("REJECTED"), "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_from_lists_and_lines_whatever_wrote_the_file() {
    let processes = Processes::start(&[]).await;
    let event = |id: &str| crate::support::app::payment_failed(id, "u").to_string();
    for (input, count) in [
        (format!("\u{feff}[{}]", event("l-1")), 1),
        (format!("{}\r\n\r\n{}\n", event("l-2"), event("l-3")), 2),
    ] {
        let sent = processes.client_reading(&["events", "send", "-"], &input).await;
        assert_eq!(out(&sent), format!("{count} accepted, 0 rejected\n"), "{sent:?}");
    }
    let broken = format!("{}\n{}\n{{\"id\": }}\n", event("l-4"), event("l-5"));
    let sent = processes.client_reading(&["events", "send", "-"], &broken).await;
    assert!(err(&sent).contains("line 3 is not a JSON object"), "{sent:?}");
    let sent = processes.client_reading(&["events", "send", "-"], "id;type\n1;x\n").await;
    assert!(err(&sent).contains("one event, a list of events, or one event per line"), "{sent:?}");
    assert_eq!(processes.count("SELECT count(*) FROM events").await, 3, "nothing is half sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_not_complete_while_a_process_seals_with_the_earlier_key() {
    let processes = Processes::start(&[]).await;
    let present = [
        ("HERALD_DATABASE_URL", &*processes.database),
        ("HERALD_SECRET_KEY", "the next secret key, long enough for one"),
        ("HERALD_PREVIOUS_SECRET_KEYS", database::SECRET_KEY),
    ];
    let rotated = run(&["keys", "rotate-secret"], &present).await;
    assert_eq!(rotated.status.code(), Some(1), "{rotated:?}");
    assert!(err(&rotated).contains("still encrypts with a previous key: restart it"), "{rotated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_tries_the_key_of_the_settings_although_the_database_knows_another() {
    let processes = Processes::start(&[]).await;
    let sandbox = format!("http://127.0.0.1:{}", processes.sandbox_port);
    let settings = |key: &'static str| {
        [
            ("HERALD_DATABASE_URL", (*processes.database).to_owned()),
            ("HERALD_SECRET_KEY", database::SECRET_KEY.to_owned()),
            ("HERALD_ONESIGNAL__APP_ID", "5a0d0000-0000-4000-8000-000000000001".to_owned()),
            ("HERALD_ONESIGNAL__API_KEY", key.to_owned()),
            ("HERALD_ONESIGNAL__BASE_URL", sandbox.clone()),
            ("HERALD_ALLOW_UNSAFE_POSTGRES", "true".to_owned()),
        ]
    };
    let examined = async |key| {
        let settings = settings(key);
        let variables: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        out(&run(&["doctor"], &variables).await)
    };
    let well = examined("os_v2_app_sandbox").await;
    assert!(well.contains("ok   app default"), "{well}");
    let ill = examined("os_v2_app_sandbox_of_another_app").await;
    assert!(ill.contains("FAIL app default"), "{ill}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_healthcheck_say_what_is_ill_and_what_helps() {
    let mut processes = Processes::start(&[]).await;
    let sandbox = format!("http://127.0.0.1:{}", processes.sandbox_port);
    let base = [
        ("HERALD_DATABASE_URL", &*processes.database),
        ("HERALD_SECRET_KEY", database::SECRET_KEY),
        ("HERALD_ONESIGNAL__BASE_URL", sandbox.as_str()),
        ("HERALD_ALLOW_UNSAFE_POSTGRES", "true"),
    ];
    let well = run(&["doctor"], &base).await;
    assert!(well.status.success() && !out(&well).contains("FAIL"), "{}", out(&well));
    assert!(out(&well).contains("ok   app default"), "{}", out(&well));
    processes.post(&crate::support::app::payment_failed("p-1", "u")).await.expect("accepted");
    processes.wait_until_drained().await;
    let report = run(&["doctor", "--consistency"], &base).await;
    assert!(report.status.success(), "{}", out(&report));
    assert!(out(&report).contains("everything is accounted for"), "{}", out(&report));
    processes.count("WITH gone AS (DELETE FROM attempts RETURNING 1) SELECT count(*) FROM gone").await;
    let wrong = run(&["doctor", "--consistency", "--json"], &base).await;
    let wrong_lines: Value = serde_json::from_str(&out(&wrong)).unwrap();
    assert_eq!((wrong.status.code(), &wrong_lines["is_well"]), (Some(1), &json!(false)), "{wrong_lines}");
    let strict = run(&["doctor", "--json"], &base[..3]).await;
    let findings: Value = serde_json::from_str(&out(&strict)).unwrap();
    let durability = findings.as_array().unwrap().iter().find(|f| f["check"] == "durability").unwrap();
    assert_eq!((strict.status.code(), &durability["is_well"]), (Some(1), &json!(false)));
    let lost =
        run(&["doctor"], &[base[0], ("HERALD_SECRET_KEY", "another secret key of the right length")]).await;
    assert!(!lost.status.success() && out(&lost).contains("previous_secret_keys"), "{}", out(&lost));
    let nowhere = run(&["doctor"], &[("HERALD_DATABASE_URL", "postgres://x@127.0.0.1:1/x"), base[1]]).await;
    assert!(!nowhere.status.success() && out(&nowhere).contains("check `database_url`"), "{}", out(&nowhere));
    assert_eq!(out(&processes.client(&["healthcheck"]).await), "ready\n");
    processes.kill();
    assert!(!processes.client(&["healthcheck"]).await.status.success());
}

#[tokio::test]
async fn help_names_every_command_and_no_secret_is_taken_as_an_argument() {
    let help = out(&run(&["--help"], &[]).await);
    for command in
        ["dev", "serve", "migrate", "sandbox", "doctor", "healthcheck", "keys", "events", "why", "catalog"]
    {
        assert!(help.contains(&format!("  {command} ")), "{command}: {help}");
        let own = run(&[command, "--help"], &[]).await;
        assert!(own.status.success() && !out(&own).contains("--secret"), "{command}");
    }
    let version = herald().arg("--version").output().unwrap();
    assert_eq!(out(&version), concat!("herald ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[tokio::test]
async fn what_to_enter_in_onesignal_is_printed_and_its_secret_only_on_request() {
    let secret = "a-secret-of-event-streams-0123456789abcdef";
    let set = [("HERALD_EVENT_STREAMS__SECRET", secret)];
    let shown = run(&["onesignal", "stream-config", "--url", "https://herald.example.com/"], &set).await;
    let text = out(&shown);
    assert!(text.contains("URL      https://herald.example.com/v1/onesignal/events\n"), "{text}");
    assert!(
        text.contains("Authorization: Bearer <event_streams.secret>") && !text.contains(secret),
        "{text}"
    );
    let config = json_of(&run(&["onesignal", "stream-config", "--show-secret", "--json"], &set).await);
    assert_eq!(config["headers"]["Authorization"], format!("Bearer {secret}"));
    assert!(
        config["body"].as_str().is_some_and(|body| body.contains("{{ event.data.failure_reason }}")),
        "{config}"
    );
    let without = run(&["onesignal", "stream-config"], &[]).await;
    assert!(err(&without).contains("set HERALD_EVENT_STREAMS__SECRET"), "{without:?}");
}
