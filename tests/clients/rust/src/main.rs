//! OneSignal's Rust client against a sandbox; the first argument is its address.

use onesignal_rust_api::apis::Error;
use onesignal_rust_api::apis::configuration::Configuration;
use onesignal_rust_api::apis::default_api as api;
use onesignal_rust_api::models::{
    CreateTemplateRequest, CustomEvent, CustomEventsRequest, LanguageStringMap, Notification, User,
};
use serde_json::json;

const APP: &str = "5a0d0000-0000-4000-8000-000000000001";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).expect("the sandbox's address");
    let configuration = Configuration {
        base_path: address,
        rest_api_key_token: Some("os_v2_app_sandbox".to_owned()),
        ..Configuration::new()
    };
    users(&configuration).await;
    messages(&configuration).await;
    println!("the Rust client finished its run");
}

async fn users(client: &Configuration) {
    let person: User = serde_json::from_value(json!({
        "identity": {"external_id": "rust-1"},
        "properties": {"tags": {"plan": "gold"}, "language": "de"},
        "subscriptions": [{"type": "Email", "token": "rust@shop.example"}],
    }))
    .expect("a user");
    api::create_user(client, APP, person).await.expect("a user is made");
    let seen = api::get_user(client, APP, "external_id", "rust-1").await.expect("the user");
    assert_eq!(json!(seen.properties.expect("properties").tags), json!({"plan": "gold"}));
    let mut event = CustomEvent::new("bought".to_owned());
    event.external_id = Some("rust-1".to_owned());
    api::create_custom_events(client, APP, CustomEventsRequest::new(vec![event])).await.expect("an event");
    api::delete_user(client, APP, "external_id", "rust-1").await.expect("the user goes");
    let gone = api::get_user(client, APP, "external_id", "rust-1").await;
    assert!(matches!(gone, Err(Error::ResponseError(answer)) if answer.status == 404));
}

async fn messages(client: &Configuration) {
    let text = |text: &str| LanguageStringMap { en: Some(text.to_owned()), ..LanguageStringMap::new() };
    let wanted = CreateTemplateRequest::new(APP.to_owned(), "rust".to_owned(), text("Hi"));
    let template = api::create_template(client, wanted).await.expect("a template").id.expect("its id");
    let message: Notification = serde_json::from_value(json!({
        "app_id": APP, "template_id": template, "target_channel": "push",
        "include_aliases": {"external_id": ["rust-2"]}, "custom_data": {"order": {"id": "1001"}},
    }))
    .expect("a message");
    let sent = api::create_notification(client, message).await.expect("an answer").id.expect("its id");
    let seen = api::get_notification(client, APP, &sent).await.expect("the message");
    assert_eq!(json!(seen.successful), json!(1));
    let cancelled = api::cancel_notification(client, APP, &sent).await;
    assert!(matches!(cancelled, Err(Error::ResponseError(answer)) if answer.status == 400), "it was sent");
    let outcomes = api::get_outcomes(client, APP, "os__click.count", None, None, None, None).await;
    assert_eq!(outcomes.expect("outcomes").outcomes.expect("a list").len(), 1);
    api::delete_template(client, &template, APP).await.expect("the template goes");
}
