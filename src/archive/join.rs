//! Joins reports to deliveries: by OneSignal's message id to the batch, and by the person to one of its members.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{BatchId, DeliveryId, TypedId};
use crate::domain::outcome::Report;
use crate::store::outcome_reports::DueReport;
use crate::store::outcomes::{self, SentDelivery};
use crate::store::{StoreError, Tx, provider_messages, recipients};

/// What a report belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// This delivery.
    Delivery(DeliveryId),
    /// A delivery whose result is not recorded yet.
    Open,
    /// A message of Herald's, but none of its people.
    Nobody,
    /// A message that Herald does not know (yet).
    UnknownMessage,
}

/// What the reports of a round are joined with.
pub(super) struct Joins {
    batches: HashMap<String, BatchId>,
    members: HashMap<BatchId, Vec<Uuid>>,
    sent: HashMap<DeliveryId, SentDelivery>,
    by_person: HashMap<(BatchId, Recipient), DeliveryId>,
    aliases: HashMap<String, Vec<Recipient>>,
}

impl Joins {
    /// Reads what these reports may belong to.
    pub(super) async fn load(tx: &mut Tx, reports: &[DueReport]) -> Result<Self, StoreError> {
        let messages: BTreeSet<&str> = reports.iter().map(|due| due.report.message.as_str()).collect();
        let batches = provider_messages::find(tx, &messages.into_iter().collect::<Vec<_>>()).await?;
        let wanted: BTreeSet<BatchId> = batches.values().copied().collect();
        let members = provider_messages::members(tx, &wanted.into_iter().collect::<Vec<_>>()).await?;
        let alone = members.values().filter(|members| members.len() == 1).flatten().copied();
        let mut sent = outcomes::sent_deliveries(tx, alone.collect::<Vec<_>>()).await?;
        let in_company: BTreeSet<Uuid> =
            members.values().filter(|m| m.len() > 1).flatten().copied().collect();
        let mut aliases = HashMap::new();
        if !in_company.is_empty() {
            let external: BTreeSet<&str> =
                reports.iter().map(|due| due.report.external_id.as_str()).collect();
            aliases =
                recipients::aliases_of_external_ids(tx, &external.into_iter().collect::<Vec<_>>()).await?;
            let mut ids: BTreeSet<&str> = reports.iter().flat_map(|due| own_ids(&due.report)).collect();
            ids.extend(aliases.values().flatten().map(|alias| alias.id.as_str()));
            ids.remove("");
            let ids: Vec<&str> = ids.into_iter().collect();
            sent.extend(outcomes::sent_to(tx, &in_company, &ids).await?);
        }
        let mut by_person = HashMap::new();
        for (batch, members) in &members {
            for id in members.iter().map(|id| DeliveryId::from_uuid(*id)) {
                if let Some(to) = sent.get(&id).and_then(|sent| sent.recipient.clone()) {
                    by_person.insert((*batch, to), id);
                }
            }
        }
        Ok(Self { batches, members, sent, by_person, aliases })
    }

    /// A delivery that reports were joined to.
    pub(super) fn sent(&self, id: DeliveryId) -> Option<&SentDelivery> {
        self.sent.get(&id)
    }

    /// What a report belongs to.
    pub(super) fn of(&self, report: &Report) -> Match {
        let Some(batch) = self.batches.get(&report.message) else { return Match::UnknownMessage };
        let delivery = match self.members.get(batch).map(Vec::as_slice) {
            Some([only]) => Some(DeliveryId::from_uuid(*only)),
            Some(_) => self.member(*batch, report),
            // Its day is no longer kept.
            None => None,
        };
        match delivery.and_then(|id| self.sent.get(&id)) {
            Some(sent) if sent.sent_at.is_some() => Match::Delivery(sent.id),
            Some(_) => Match::Open,
            None => Match::Nobody,
        }
    }

    fn member(&self, batch: BatchId, report: &Report) -> Option<DeliveryId> {
        let own = [
            (RecipientLabel::ExternalId, &report.external_id),
            (RecipientLabel::OnesignalId, &report.onesignal_id),
            (RecipientLabel::SubscriptionId, &report.subscription),
        ];
        let own = own.into_iter().map(|(label, id)| Recipient { label, id: id.clone() });
        let others = self.aliases.get(&report.external_id).into_iter().flatten().cloned();
        own.chain(others).find_map(|person| self.by_person.get(&(batch, person)).copied())
    }
}

fn own_ids(report: &Report) -> [&str; 3] {
    [&report.external_id, &report.onesignal_id, &report.subscription]
}
