//! Releases held deliveries: a person supplies missing values or another version.

use serde_json::Value;
use uuid::Uuid;

use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::id::DeliveryId;
use crate::domain::template::TemplateVersion;
use crate::domain::timing::{Schedule, schedule_at_provider_from};
use crate::pipeline::Pipeline;
use crate::pipeline::send::load::Loaded;
use crate::pipeline::send::record::{Transition, committed};
use crate::store::secrets::{delivery_place, insert_delivery_values};
use crate::store::{StoreError, commit, deliveries, queue};

/// What a person supplies with the release.
#[derive(Debug, Clone, Default)]
pub struct Release {
    /// Another version than the pinned one.
    pub version: Option<i32>,
    /// Values overlaid on the event's data.
    pub values: Option<Value>,
}

/// Why a delivery was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no such delivery.
    #[error("no such delivery")]
    NotFound,
    /// It is not held.
    #[error("it is {0}, not held")]
    NotHeld(String),
    /// The template has no such version, or none is live.
    #[error("template {template} has no {}", .number.map_or("live version".to_owned(), |n| format!("version {n}")))]
    NoVersion {
        /// The template.
        template: String,
        /// The version asked for.
        number: Option<i32>,
    },
    /// The template's copy needs approval, and this version was not approved.
    #[error("version {number} of template {template} is not approved")]
    NotApproved {
        /// The template.
        template: String,
        /// The version.
        number: i32,
    },
    /// It would be held again at once.
    #[error("{0}")]
    StillHeld(String),
    /// It has expired.
    #[error("it has expired")]
    Expired,
    /// The database is unavailable; retrying later helps.
    #[error("the database is unavailable")]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// Releases a held delivery on behalf of a key or a person: it is due now, or as soon as OneSignal accepts it.
    /// Nothing changes unless it can be sent.
    ///
    /// # Errors
    /// [`ReleaseError`].
    pub async fn release(&self, id: DeliveryId, release: Release, by: Uuid) -> Result<(), ReleaseError> {
        let now = self.clock.now();
        let mut loaded = self.load(&[id]).await?.remove(&id).ok_or(ReleaseError::NotFound)?;
        if loaded.row.expires_at <= now {
            return Err(ReleaseError::Expired);
        }
        let version = self.version_for(&loaded, release.version).await?;
        let (template, number) = (&version.version.template, version.version.number);
        if !self.store.may_reach_people(template, number).await? {
            return Err(ReleaseError::NotApproved { template: template.clone(), number });
        }
        let locale =
            version.version.choose_locale(loaded.row.locale.as_deref().or(loaded.event.locale.as_deref()));
        let locale = locale.to_owned();
        if let Some(values) = release.values.clone() {
            loaded.overlay(values);
        }
        self.compose(&version, &locale, loaded.data())
            .await
            .map_err(|hold| ReleaseError::StillHeld(hold.detail))?;
        let send_after = loaded.row.schedule.as_ref().and_then(Schedule::send_after);
        let due_at = send_after.map_or(now, |after| schedule_at_provider_from(after).max(now));
        let mut tx = self.store.begin().await?;
        let Some(claim) = queue::lock_held(&mut tx, id).await? else {
            return Err(ReleaseError::NotHeld(loaded.row.state.as_str().to_owned()));
        };
        if let Some(values) = &release.values {
            let plain = values.to_string();
            let sealed =
                self.store.vault().seal(&delivery_place(id), plain.as_bytes()).map_err(StoreError::from)?;
            insert_delivery_values(&mut tx, id, &sealed, by, now).await?;
        }
        deliveries::pin(&mut tx, id, (version.version.id, version.version.number), &locale).await?;
        let decision = decision(&version.version, &release).of_rule(&loaded.row.rule.1).of_delivery(id);
        let transition = Transition {
            after: claim.delivery.into_state(DeliveryState::Queued { due_at }),
            worker: None,
            epoch: claim.epoch,
            batch: None,
            crashed: false,
            event: loaded.event.id,
            decision: Some(decision),
        };
        self.write_transitions(&mut tx, &[transition], now).await?;
        committed(commit(tx).await)?;
        self.look.notify_one();
        Ok(())
    }

    async fn version_for(
        &self,
        loaded: &Loaded,
        number: Option<i32>,
    ) -> Result<std::sync::Arc<crate::pipeline::compiled::CompiledVersion>, ReleaseError> {
        let template = &loaded.row.template;
        let none = || ReleaseError::NoVersion { template: template.clone(), number };
        let id = match (number, loaded.row.version) {
            (Some(number), _) => {
                self.store.find_version_number(template, number).await?.ok_or_else(none)?.version.id
            }
            (None, Some((id, _))) => id,
            (None, None) => {
                self.catalog.warm(&self.store).await?;
                self.catalog.get(&self.store).await?.live_version(template).ok_or_else(none)?.version.id
            }
        };
        self.catalog.version(&self.store, id).await?.ok_or_else(none)
    }
}

fn decision(version: &TemplateVersion, release: &Release) -> Decision {
    let names: Vec<String> = release
        .values
        .as_ref()
        .and_then(Value::as_object)
        .map(|v| v.keys().cloned().collect())
        .unwrap_or_default();
    let detail = match names.as_slice() {
        [] => format!("a person released it with version {}", version.number),
        names => {
            format!("a person released it with version {} and supplied {}", version.number, names.join(", "))
        }
    };
    Decision::new(DecisionCode::Released, detail).with("version", version.number).with("values_given", names)
}
