//! The interface to a source: what another kind of database has to implement.
//!
//! A reader belongs to one poll. `begin` says where the poll starts, and fixes what it may read; `page` returns the next
//! rows in order, each with the position after it. Only positions that Herald has stored count: a poll that dies is
//! repeated from there. No transaction stays open at the source between two calls.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;

/// A row of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// What identifies it in the source.
    pub id: String,
    /// Whose row it is: a later row of the same key replaces it.
    pub key: String,
    /// Its watermark.
    pub changed_at: Option<Timestamp>,
    /// Whether it is marked as deleted.
    pub is_deleted: bool,
    /// Its columns.
    pub cells: Map<String, Value>,
}

/// What holds a reader back: an open transaction at the source that may still commit older rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// Who: `pid 4711`, or the name of a prepared transaction.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

/// The beginning of a poll.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The source's time.
    pub now: Timestamp,
    /// Rows are read up to this time only.
    pub until: Timestamp,
    /// What is older than the last seconds and holds it back.
    pub held_back: Option<HeldBack>,
    /// Whether the source shows all open transactions, so that no row can be missed.
    pub sees_transactions: bool,
    /// Where the poll starts, to be stored if nothing was stored before.
    pub position: Option<Value>,
}

/// Rows in the source's order.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<SourceRow>,
    /// The position after them; `None` if the source has none.
    pub position: Option<Value>,
    /// Rows of this time and later are read again by the next poll.
    pub read_again_from: Option<Timestamp>,
    /// Whether there are no more.
    pub is_last: bool,
}

/// Numbers of rows in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCount {
    /// Rows that are not marked as deleted.
    pub rows: i64,
    /// Rows without a watermark, which are never read.
    pub without_watermark: i64,
}

/// What a look at a source found.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// The columns with their types.
    pub columns: Vec<(String, String)>,
    /// The first rows.
    pub rows: Vec<SourceRow>,
    /// Numbers of rows.
    pub count: Option<SourceCount>,
    /// Which guarantee holds.
    pub guarantee: String,
    /// What should be changed at the source.
    pub warnings: Vec<String>,
}

/// Why a source can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A source during one poll.
#[async_trait]
pub trait Reader: Send {
    /// Begins a poll at the stored position.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn begin(&mut self, position: Option<&Value>) -> Result<Begun, SourceError>;

    /// The next rows, without those with an id in `without`.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn page(&mut self, without: &[String], limit: i64) -> Result<Page, SourceError>;

    /// The present content of rows, in the source's order; those that are gone are missing.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn rows(&mut self, ids: &[String]) -> Result<Vec<SourceRow>, SourceError>;

    /// Counts the rows; `None` for a source that is consumed.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn count(&mut self) -> Result<Option<SourceCount>, SourceError>;

    /// Deletes rows that are done with. Sources that are only read do nothing.
    ///
    /// # Errors
    /// [`SourceError`]; it is repeated then.
    async fn remove(&mut self, ids: &[String]) -> Result<(), SourceError>;

    /// Looks at the source without reading anything for good.
    ///
    /// # Errors
    /// [`SourceError`].
    async fn inspect(&mut self) -> Result<Inspection, SourceError>;
}
