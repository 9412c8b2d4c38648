//! What is known about recipients and decides whether and how messages are sent to them.

use std::collections::BTreeMap;

use serde::Deserialize;
use sqlx::Row;
use sqlx::types::Json;

use super::erasures::Digest;
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

/// Facts from rows, and from the hashes of those recipients who were erased.
pub(super) fn facts_of(
    rows: Option<Json<Vec<FactsRow>>>,
    erased: &[Vec<u8>],
    recipients: &[&Recipient],
    digests: &[Digest],
) -> Facts {
    let known = rows.map(|Json(rows)| rows).unwrap_or_default().into_iter().map(FactsRow::into_pair);
    let is_erased = |digest: &Digest| erased.iter().any(|each| each.as_slice() == digest);
    let gone = recipients.iter().zip(digests).filter(|(_, digest)| is_erased(digest));
    let gone = gone
        .map(|(each, _)| ((*each).clone(), RecipientFacts { is_erased: true, ..RecipientFacts::default() }));
    known.chain(gone).collect()
}

impl Store {
    /// What is known about these recipients.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn facts(&self, recipients: &[Recipient]) -> Result<Facts, StoreError> {
        let recipients: Vec<&Recipient> = recipients.iter().collect();
        let digests = self.recipient_digests(&recipients).await?;
        let row = sqlx::query(
            "SELECT (SELECT json_agg(json_build_object(
                'label', a.label, 'alias', a.alias, 'locale', u.locale, 'time_zone', u.time_zone,
                'is_erased', u.erased_at IS NOT NULL,
                'opted_out', coalesce((SELECT json_object_agg(o.channel, o.reason) FROM user_opt_outs o WHERE o.user_id = u.id), '{}')
             ))
             FROM unnest($1::text[], $2::text[]) AS r (label, alias)
             JOIN user_aliases a ON a.label = r.label AND a.alias = r.alias
             JOIN users u ON u.id = a.user_id) AS facts,
             ARRAY(SELECT e.digest FROM erased_identifiers e WHERE e.digest = ANY ($3)) AS erased",
        )
        .bind(recipients.iter().map(|r| r.label.as_str()).collect::<Vec<_>>())
        .bind(recipients.iter().map(|r| r.id.as_str()).collect::<Vec<_>>())
        .bind(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .fetch_one(self.pool())
        .await?;
        let erased: Vec<Vec<u8>> = row.try_get("erased")?;
        Ok(facts_of(row.try_get("facts")?, &erased, &recipients, &digests))
    }
}
