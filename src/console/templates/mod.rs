//! Templates: the list, the editor with its preview, publishing, the history.

mod diff_view;
mod editor;
mod fields;
mod history;
mod list;
mod preview;
mod publish;
mod test_send;
mod version_comparison;

pub(super) use editor::{discard, page as editor_page, save};
pub(super) use fields::Sent;
pub(super) use history::{page as history_page, roll_back};
pub(super) use list::{create, page as list_page};
pub(super) use preview::show as preview;
pub(super) use preview::walk;
pub(super) use publish::{approve, page as publish_page, publish};
pub(super) use test_send::{page as test_page, send as send_test};
pub(super) use version_comparison::clicks;

use super::failure::Failure;
use super::page_context::View;
use crate::catalog::templates::TemplateError;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Template, TemplateVersion};

/// A template with its live version.
struct Known {
    snapshot: CatalogSnapshot,
    template: Template,
}

impl Known {
    async fn find(view: &View, key: &str) -> Result<Self, Failure> {
        let snapshot = view.console.store.snapshot().await?;
        let template = snapshot.templates.iter().find(|template| template.key == key).cloned();
        let template = template.ok_or_else(|| Failure::NotFound(format!("There is no template {key}.")))?;
        Ok(Self { snapshot, template })
    }

    fn live(&self) -> Option<&TemplateVersion> {
        self.snapshot.versions.iter().find(|version| Some(version.id) == self.template.live)
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        let words = super::login::sentence(&error);
        match error {
            TemplateError::Compute(error) => error.into(),
            TemplateError::Store(error) => error.into(),
            TemplateError::NotFound(_) => Self::NotFound(words),
            TemplateError::Invalid(..) | TemplateError::Problems(_) | TemplateError::WouldHold(_) => {
                Self::Invalid(words)
            }
            TemplateError::Upload(error) => {
                Self::Invalid(format!("OneSignal rejected it: {error}. The live version is unchanged."))
            }
            _ => Self::Conflict(words),
        }
    }
}
