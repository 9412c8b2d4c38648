//! Test recipients: every change is recorded.

use serde_json::json;

use super::author::By;
use super::changes::Change;
use super::publish::Publisher;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::store::{StoreError, Tx, audit, test_recipients};

impl Publisher {
    /// Adds a test recipient; `by.note` is the display name.
    ///
    /// # Errors
    /// [`StoreError`]; retrying helps.
    pub async fn add_test_recipient(&self, recipient: &Recipient, by: By<'_>) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        test_recipients::add(&mut tx, recipient, by.note).await?;
        self.note_test_recipient(tx, recipient, true, by).await
    }

    /// Removes a test recipient; `false` if there was none.
    ///
    /// # Errors
    /// [`StoreError`]; retrying helps.
    pub async fn remove_test_recipient(&self, recipient: &Recipient, by: By<'_>) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        if !test_recipients::remove(&mut tx, recipient).await? {
            return Ok(false);
        }
        self.note_test_recipient(tx, recipient, false, by).await?;
        Ok(true)
    }

    async fn note_test_recipient(
        &self,
        mut tx: Tx,
        recipient: &Recipient,
        is_listed: bool,
        by: By<'_>,
    ) -> Result<(), StoreError> {
        let Recipient { label, id } = recipient;
        let listed = json!({ label.as_str(): id });
        let (before, after) = if is_listed { (None, Some(listed)) } else { (Some(listed), None) };
        let subject = format!("{} {}", label.as_str(), hinted(label, id));
        let change = Change::new("test_recipient", &subject, before, after);
        audit::append(&mut tx, &[self.entry(&change, by, self.clock.now())]).await?;
        Ok(tx.commit().await?)
    }
}

/// How the append-only audit log identifies a person: only a hint of an address or a number.
fn hinted(label: &RecipientLabel, id: &str) -> String {
    let tail: String = id.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    match label {
        RecipientLabel::Email | RecipientLabel::Phone => format!("…{tail}"),
        RecipientLabel::ExternalId
        | RecipientLabel::OnesignalId
        | RecipientLabel::SubscriptionId
        | RecipientLabel::Alias(_) => id.to_owned(),
    }
}
