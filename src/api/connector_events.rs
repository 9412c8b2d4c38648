//! Events of connectors: read and accepted as if their source had posted them.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::HeaderMap;
use serde_json::Value;

use super::event_fields;
use super::problem::Problem;
use crate::access::Identity;
use crate::domain::id::{ConnectorId, KeyId, TypedId};
use crate::people::connector::{EventIntake, Taken};
use crate::people::import::mapping::RowProblem;
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::{Accepted, IngestError};
use crate::store::Store;

/// Accepts events of connectors.
pub struct ConnectorEvents {
    /// Where they go.
    pub pipeline: Arc<Pipeline>,
    /// Reads.
    pub store: Store,
}

#[async_trait]
impl EventIntake for ConnectorEvents {
    async fn accept(
        &self,
        connector: ConnectorId,
        source: &str,
        events: Vec<Value>,
    ) -> Result<Vec<Taken>, String> {
        let found = self.store.find_source(source).await.map_err(|error| error.to_string())?;
        let source = found.ok_or_else(|| format!("there is no source `{source}`: create it first"))?;
        let identity = Identity::of_source(&source, KeyId::from_uuid(connector.uuid()), false).with_facts();
        let mut readable = Vec::with_capacity(events.len());
        let mut wrong: Vec<Option<RowProblem>> = Vec::with_capacity(events.len());
        for event in events {
            match event_fields::read(event, &identity, &HeaderMap::new()) {
                Ok(event) => {
                    readable.push(event);
                    wrong.push(None);
                }
                Err(problem) => wrong.push(Some(row_problem(&problem))),
            }
        }
        let mut accepted = self.pipeline.accept_batch(readable).await.into_iter();
        wrong
            .into_iter()
            .map(|problem| match problem {
                Some(problem) => Ok(Taken::Wrong(problem)),
                None => taken(accepted.next().unwrap_or(Err(IngestError::Unavailable))),
            })
            .collect()
    }
}

/// What became of an event; an error if events can't be accepted at present.
fn taken(result: Result<Accepted, IngestError>) -> Result<Taken, String> {
    match result {
        Ok(accepted) if accepted.is_duplicate => Ok(Taken::Repeated),
        Ok(_) => Ok(Taken::New),
        Err(error @ (IngestError::Busy | IngestError::Overloaded { .. } | IngestError::Unavailable)) => {
            Err(format!("events can't be accepted at present: {error}"))
        }
        Err(error) => Ok(Taken::Wrong(row_problem(&Problem::from(error)))),
    }
}

fn row_problem(problem: &Problem) -> RowProblem {
    RowProblem { column: String::new(), reason: problem.body().detail }
}
