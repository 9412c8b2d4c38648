//! A test send of the draft or live version to one test recipient.

use axum::body::Body;
use axum::extract::Path;
use maud::html;

use super::super::components::empty;
use super::super::event::path_segment;
use super::super::failure::Failure;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::Known;
use super::editor::samples;
use super::fields::Sent;
use super::preview::example;
use crate::catalog::preview_data::types_of;
use crate::domain::event::Recipient;
use crate::domain::id::{KeyId, TypedId};
use crate::pipeline::ingest::IngestError;
use crate::pipeline::operator::test_send::{TestSend, TestSendError};

/// The source of test sends from the console.
const SOURCE: &str = "console";

pub(in super::super) async fn page(view: View, Path(key): Path<String>) -> Shown {
    let known = Known::find(&view, &key).await?;
    let people = view.console.store.test_recipients().await?;
    let base = format!("/templates/{}", path_segment(&key));
    let body = html! {
        h1 { "Test send of " (key) }
        @if people.is_empty() {
            (empty("No test recipients", &html! {
                p { "Test sends only go to registered test recipients, so that no customer gets one by mistake. Someone with permission to manage keys can add one:" }
                pre { code { "curl -X POST …/v1/test-recipients -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' -d '{\"recipient\": {\"external_id\": \"user-42\"}, \"note\": \"Anna, shop team\"}'" } }
            }))
        } @else {
            form.stack method="post" action={ (base) "/test" } {
                label { "To"
                    select name="to" {
                        @for (person, note) in &people { option value={ (person.label.as_str()) "=" (person.id) } { (person.id) @if !note.is_empty() { " – " (note) } } }
                    }
                }
                label { "Locale"
                    select name="locale" {
                        option value="" { "default" }
                        @for locale in locales(&known) { option value=(locale) { (locale) } }
                    }
                }
                (samples(&view, &known).await?)
                div.actions { button.primary { "Send the test" } a.button href=(base) { "Back to the editor" } }
                p.soft { "The draft is sent if there is one, else the live version." }
            }
        }
    };
    let editor = base.clone();
    view.page(
        Place::Templates,
        &[Crumb::to("Templates", "/templates"), Crumb::to(&key, &editor), Crumb::here("Test send")],
        body,
    )
    .await
}

fn locales(known: &Known) -> Vec<&str> {
    known.live().map(|live| live.content.contents.keys().map(String::as_str).collect()).unwrap_or_default()
}

pub(in super::super) async fn send(view: View, Path(key): Path<String>, body: Body) -> Shown {
    let known = Known::find(&view, &key).await?;
    let sent = Sent::read(body).await?;
    let (label, id) = sent.text("to").split_once('=').unwrap_or_default();
    let recipient = Recipient::parse(label, id).map_err(|error| Failure::Invalid(format!("{error}.")))?;
    view.console.pipeline.check_listed(&recipient).await?;
    let data = example(&view, &known, &sent).await?.map_err(Failure::Invalid)?;
    let event_type = types_of(&known.snapshot, &key).first().map(|entry| entry.name.clone());
    let event_type = event_type.ok_or_else(|| {
        Failure::Invalid("No rule sends this template yet, so its fields are unknown.".to_owned())
    })?;
    let draft = view.console.store.find_draft(known.template.id).await?;
    let publisher = &view.console.publisher;
    let version = match (draft, known.live()) {
        (Some(draft), _) => {
            publisher.version_for_test(&key, draft.content, view.by("created for a test send")).await?
        }
        (None, Some(live)) => publisher.uploaded_version(&key, live.number).await?,
        (None, None) => {
            return Err(Failure::Invalid(
                "Nothing to send: there is neither a draft nor a live version.".to_owned(),
            ));
        }
    };
    let now = view.now();
    let source = view.console.store.find_or_insert_source(view.console.ids.next(now), SOURCE, now).await?;
    let locale = Some(sent.text("locale").to_owned()).filter(|locale| !locale.is_empty());
    let test = TestSend {
        by: (source, KeyId::from_uuid(view.person.id.uuid())),
        is_test: false,
        event_type,
        data,
        locale,
        version: version.id,
        recipient,
    };
    let accepted = view.console.pipeline.test_send(test).await?;
    Ok(done(&format!("/events/{}", accepted.event), "Test message is being sent."))
}

impl From<TestSendError> for Failure {
    fn from(error: TestSendError) -> Self {
        match error {
            TestSendError::Ingest(IngestError::Unavailable) => Self::Unavailable,
            TestSendError::Ingest(IngestError::Busy) => Self::Busy,
            TestSendError::Ingest(IngestError::Failed) => Self::Internal,
            other => Self::Invalid(super::super::login::sentence(&other)),
        }
    }
}
