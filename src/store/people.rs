//! What is known about recipients and decides whether and how messages are sent to them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Store, StoreError};
use crate::domain::channel::Channel;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::facts::{Facts, OptOutReason, RecipientFacts};

/// One recipient's facts as `claim_keys.sql` returns them.
#[derive(Debug, Deserialize)]
pub(super) struct FactsRow {
    label: String,
    alias: String,
    locale: Option<String>,
    time_zone: Option<String>,
    is_erased: bool,
    opted_out: BTreeMap<Channel, OptOutReason>,
}

impl FactsRow {
    pub(super) fn into_pair(self) -> (Recipient, RecipientFacts) {
        let recipient = Recipient { label: RecipientLabel::from_label(&self.label), id: self.alias };
        let facts = RecipientFacts {
            locale: self.locale,
            time_zone: self.time_zone,
            opted_out: self.opted_out,
            is_erased: self.is_erased,
        };
        (recipient, facts)
    }
}

impl Store {
    /// What is known about these recipients.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn facts(&self, recipients: &[Recipient]) -> Result<Facts, StoreError> {
        let rows: Option<sqlx::types::Json<Vec<FactsRow>>> = sqlx::query_scalar(
            "SELECT json_agg(json_build_object(
                'label', a.label, 'alias', a.alias, 'locale', u.locale, 'time_zone', u.time_zone,
                'is_erased', u.erased_at IS NOT NULL,
                'opted_out', coalesce((SELECT json_object_agg(o.channel, o.reason) FROM user_opt_outs o WHERE o.user_id = u.id), '{}')
             ))
             FROM unnest($1::text[], $2::text[]) AS r (label, alias)
             JOIN user_aliases a ON a.label = r.label AND a.alias = r.alias
             JOIN users u ON u.id = a.user_id",
        )
        .bind(recipients.iter().map(|r| r.label.as_str()).collect::<Vec<_>>())
        .bind(recipients.iter().map(|r| r.id.as_str()).collect::<Vec<_>>())
        .fetch_one(self.pool())
        .await?;
        Ok(rows.map(|rows| rows.0.into_iter().map(FactsRow::into_pair).collect()).unwrap_or_default())
    }
}
