//! Checks of a template's content in the context of the catalog, outside the async threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::CatalogProblem;
use super::checks::{check_copy, shape};
use super::publish::Publisher;
use super::templates::{Place, TemplateError};
use super::traffic::{Candidate, TrafficReport, report};
use crate::domain::budget::Budget;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::Content;
use crate::templating::check::EventShape;

impl Publisher {
    /// All problems of content for this template, and the check against the last `events` events.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`].
    pub async fn check_template(
        &self,
        key: &str,
        content: &Content,
        events: u32,
    ) -> Result<(Vec<CatalogProblem>, TrafficReport), TemplateError> {
        let snapshot = Arc::new(self.store.snapshot().await?);
        self.check_in_place(&snapshot, key, content, events).await
    }

    pub(super) async fn check_in_place(
        &self,
        snapshot: &Arc<CatalogSnapshot>,
        key: &str,
        content: &Content,
        events: u32,
    ) -> Result<(Vec<CatalogProblem>, TrafficReport), TemplateError> {
        let past = self.events_of(&Place::find(snapshot, key)?.types, events).await?;
        let (snapshot, key, content) = (Arc::clone(snapshot), key.to_owned(), content.clone());
        let check = move |budget: &Budget| {
            let place = Place::find(&snapshot, &key)?;
            let (channel, partials) = (place.template.channel, place.partials_for(&content));
            let draft = Candidate { channel, content: &content, partials: &partials };
            let traffic = report(draft, place.live, &place.types, (&past, budget));
            let observed = traffic.observed();
            let shapes: Vec<_> =
                place.types.iter().map(|entry| EventShape { observed, ..shape(entry) }).collect();
            let problems = check_copy(&key, channel, &content, &place.partials, (&shapes, budget));
            Ok((problems, traffic))
        };
        self.compute(check).await?
    }

    /// All problems of stored content, with its stored partials or the current ones.
    pub(super) async fn check_alone(
        &self,
        snapshot: &Arc<CatalogSnapshot>,
        key: &str,
        content: &Content,
        partials: Option<&BTreeMap<String, String>>,
    ) -> Result<Vec<CatalogProblem>, TemplateError> {
        let (snapshot, key, content) = (Arc::clone(snapshot), key.to_owned(), content.clone());
        let partials = partials.cloned();
        let check = move |budget: &Budget| {
            let place = Place::find(&snapshot, &key)?;
            let shapes: Vec<_> = place.types.iter().map(|entry| shape(entry)).collect();
            let partials = partials.as_ref().unwrap_or(&place.partials);
            Ok(check_copy(&key, place.template.channel, &content, partials, (&shapes, budget)))
        };
        self.compute(check).await?
    }
}
