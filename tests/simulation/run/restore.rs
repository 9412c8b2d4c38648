//! The database is restored from a backup, and the sources post again what it had lost.

use std::time::Duration;

use herald::domain::clock::Timestamp;
use rand::RngExt;

use super::Run;
use crate::replica::Kind;

/// A copy of everything, and what was known outside when it was made.
pub struct Backup {
    /// In true time.
    at: Timestamp,
    /// How often each event had been acknowledged.
    acknowledged: Vec<usize>,
    opt_outs: usize,
}

/// What was committed between two moments of true time is gone.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    pub copied_at: Timestamp,
    pub at: Timestamp,
}

impl Restored {
    /// Whether what happened at this time was lost.
    pub fn lost(&self, at: Timestamp) -> bool {
        self.copied_at <= at && at < self.at
    }
}

impl Run<'_> {
    pub(super) async fn copy_database(&mut self) {
        // So that no moment of true time is on both sides of the copy.
        self.advance(Duration::from_millis(1)).await;
        self.world.execute(include_str!("backup.sql")).await;
        let acknowledged = self.posted.iter().map(|posted| posted.acknowledged.len()).collect();
        let opt_outs = self.opt_outs.len();
        self.backup = Some(Backup { at: self.true_now(), acknowledged, opt_outs });
    }

    /// Everything is stopped, the backup is put back, and everything starts again.
    pub(super) async fn restore_database(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        self.report.fault("restore");
        for replica in &mut self.replicas {
            replica.die();
        }
        self.end_outage();
        self.world.end_idle_transactions().await;
        // It takes longer than OneSignal works on a call that was in progress.
        let minutes = self.random.random_range(2..20);
        self.advance(Duration::from_mins(minutes)).await;
        self.world.execute(include_str!("restore.sql")).await;
        self.restored = Some(Restored { copied_at: backup.at, at: self.true_now() });
        self.opt_outs.truncate(backup.opt_outs);
        let mut lost = Vec::new();
        for (number, posted) in self.posted.iter_mut().enumerate() {
            let kept = backup.acknowledged.get(number).copied().unwrap_or_default();
            if kept == 0 && !posted.acknowledged.is_empty() {
                lost.push(number);
            }
            posted.acknowledged.truncate(kept);
        }
        self.post_lost(&lost).await;
    }

    /// Sources post again what they had been answered, all at once.
    async fn post_lost(&mut self, lost: &[usize]) {
        for _ in 0..3 {
            for slot in 0..self.replicas.len() {
                if self.replicas[slot].pipeline.is_none() {
                    self.revive(slot).await;
                }
            }
            for number in lost {
                if self.posted[*number].acknowledged.is_empty() && !self.posted[*number].is_refused {
                    self.post(*number).await;
                }
            }
            for slot in 0..self.replicas.len() {
                self.begin(slot, Kind::Commit).await;
            }
        }
    }
}
