//! Opts people out of a channel after a permanent bounce, a complaint or an unsubscription, also if another system sent the
//! message.

use std::collections::{BTreeMap, BTreeSet};

use super::Archive;
use super::join::{Joins, Match};
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TypedId, UserId};
use crate::domain::outcome::Report;
use crate::store::opt_outs::{self, OptOut};
use crate::store::outcome_reports::DueReport;
use crate::store::users::{self, Alias};
use crate::store::{StoreError, Tx};

impl Archive {
    /// Acts on reports that are read for the first time: one that was parked acted then, and the person may have opted
    /// in again since.
    pub(super) async fn opt_out(
        &self,
        tx: &mut Tx,
        reports: &[DueReport],
        joins: &Joins,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut wanted: BTreeMap<(Alias, Channel), &'static str> = BTreeMap::new();
        for due in reports.iter().filter(|due| !due.is_parked) {
            let Some((channel, reason)) = consequence(&due.report) else { continue };
            if let Some(alias) = alias_of(&due.report, joins) {
                wanted.insert((alias, channel), reason);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let aliases: BTreeSet<Alias> = wanted.keys().map(|(alias, _)| alias.clone()).collect();
        let people = users::ensure(tx, &aliases, || self.ids.next::<UserId>(now).uuid(), now).await?;
        let opt_outs: Vec<OptOut> = wanted
            .into_iter()
            .filter_map(|((alias, channel), reason)| {
                Some(OptOut { user: *people.get(&alias)?, channel, reason })
            })
            .collect();
        opt_outs::insert_all(tx, &opt_outs, now).await
    }
}

/// The channel that a report ends for its person, and why.
fn consequence(report: &Report) -> Option<(Channel, &'static str)> {
    let channel: Channel = report.channel.parse().ok()?;
    Some((channel, report.kind.ends_channel(channel)?))
}

/// The name of the person: the one that the delivery was sent to, or the one in the report.
fn alias_of(report: &Report, joins: &Joins) -> Option<Alias> {
    if let Match::Delivery(id) = joins.of(report)
        && let Some(to) = joins.sent(id).and_then(|sent| sent.recipient.as_ref())
    {
        return Some((to.label.as_str().to_owned(), to.id.clone()));
    }
    let ids = [("external_id", &report.external_id), ("onesignal_id", &report.onesignal_id)];
    let named = ids.into_iter().find(|(_, id)| !id.is_empty());
    named.map(|(label, id)| (label.to_owned(), id.clone()))
}
