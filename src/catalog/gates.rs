//! Pausing and resuming: an app, a rule, a template version, or everything.

use serde_json::json;

use super::author::By;
use super::publish::Publisher;
use crate::domain::gate::GateSubject;
use crate::store::StoreError;

impl Publisher {
    /// Closes the gates of this name until they are opened; `false` if there is no such subject. Calls in progress are
    /// not
    /// aborted.
    ///
    /// # Errors
    /// [`StoreError`]; a retry closes the rest.
    pub async fn close_gate(&self, scope: &str, name: &str, by: By<'_>) -> Result<bool, StoreError> {
        let subjects = self.store.find_gate_subjects(scope, name).await?;
        if subjects.is_empty() {
            return Ok(false);
        }
        let detail = format!("{}: {}", by.actor, by.note);
        for subject in subjects {
            match subject {
                GateSubject::App(app) => {
                    self.store.pause_app(app.0, Some(&detail), self.clock.now()).await?;
                }
                GateSubject::Rule(_) | GateSubject::Version(_) => {
                    self.store.pause(subject, &detail, self.clock.now()).await?;
                }
            }
        }
        let after = json!({"reason": by.note});
        self.record_change(("gate", &format!("{scope} {name}")), "closed", Some(after), by).await?;
        Ok(true)
    }

    /// Opens the gates of this name, no matter who closed them; `false` if there is no such subject.
    ///
    /// # Errors
    /// [`StoreError`]; a retry opens the rest.
    pub async fn open_gate(&self, scope: &str, name: &str, by: By<'_>) -> Result<bool, StoreError> {
        let subjects = self.store.find_gate_subjects(scope, name).await?;
        if subjects.is_empty() {
            return Ok(false);
        }
        for subject in subjects {
            if let GateSubject::App(app) = subject {
                self.store.pause_app(app.0, None, self.clock.now()).await?;
            }
            self.store.resume(subject).await?;
        }
        self.record_change(("gate", &format!("{scope} {name}")), "opened", None, by).await?;
        Ok(true)
    }
}
