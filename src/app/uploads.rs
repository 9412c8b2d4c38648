//! Adapter through which the pipeline has templates uploaded again by the catalog.

use std::sync::Arc;

use async_trait::async_trait;

use crate::catalog::Publisher;
use crate::domain::snapshot::UploadKey;
use crate::pipeline::TemplateUploads;

/// The catalog's publisher, behind the pipeline's port.
pub struct Uploads(pub Arc<Publisher>);

#[async_trait]
impl TemplateUploads for Uploads {
    async fn ensure(&self, key: &UploadKey) -> bool {
        match self.0.ensure_uploaded(key).await {
            Ok(()) => true,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(app.id = %key.app, cause, "a template could not be uploaded; retrying: {error}");
                false
            }
        }
    }
}
