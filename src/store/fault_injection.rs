//! Faults that a simulation injects between Herald and the database: debug builds only.
//!
//! A test that drives the pipeline step by step puts a [`Faults`] around each step. It is called before and after every
//! begin, statement and commit, and may return an error, wait (a stalled process) or panic (a process that dies there).
//! Without it, this module does nothing.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, Postgres, SqlStr};

use super::{Committed, StoreError, Tx};

/// The kind of database operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Begin of a transaction.
    Begin,
    /// A statement without a transaction.
    Statement,
    /// Commit of a transaction.
    Commit,
}

/// The result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing special.
    GoOn,
    /// The connection breaks before the server receives it.
    Away,
    /// It is done, but the response is lost.
    ReplyLost,
    /// It conflicts with another transaction: the server rolls it back and reports it (40001).
    Refused,
}

/// Decides the result of each database operation.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Called before it is done.
    async fn before(&self, place: Place) -> Fate;
    /// Called once it is done.
    async fn after(&self, place: Place);
    /// Called when a named crash point is passed.
    fn pass(&self, point: &'static str);
}

tokio::task_local! {
    static AROUND: Arc<dyn Faults>;
}

/// Runs `step` with these faults around it.
pub async fn around<F: Future>(faults: Arc<dyn Faults>, step: F) -> F::Output {
    AROUND.scope(faults, step).await
}

/// Passes a named crash point.
pub fn pass(point: &'static str) {
    if let Ok(faults) = AROUND.try_with(Arc::clone) {
        faults.pass(point);
    }
}

async fn before(place: Place) -> Fate {
    match AROUND.try_with(Arc::clone) {
        Ok(faults) => faults.before(place).await,
        Err(_) => Fate::GoOn,
    }
}

async fn after(place: Place) {
    if let Ok(faults) = AROUND.try_with(Arc::clone) {
        faults.after(place).await;
    }
}

/// The error of a connection that broke.
fn broken() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())
}

/// Begins a transaction, if allowed.
pub(super) async fn begin(pool: &PgPool) -> Result<Tx, StoreError> {
    match before(Place::Begin).await {
        Fate::GoOn => {}
        Fate::Away | Fate::ReplyLost | Fate::Refused => return Err(broken().into()),
    }
    let tx = super::begin_on(pool).await?;
    after(Place::Begin).await;
    Ok(tx)
}

/// Commits, or injects the fault.
pub(super) async fn commit(mut tx: Tx) -> Committed {
    match before(Place::Commit).await {
        Fate::GoOn => {
            let committed = super::commits::commit_now(tx).await;
            after(Place::Commit).await;
            committed
        }
        Fate::Away => match tx.rollback().await {
            Ok(()) => Committed::Unclear(broken().into()),
            Err(error) => Committed::Unclear(error.into()),
        },
        Fate::ReplyLost => match super::commits::commit_now(tx).await {
            Committed::Yes => Committed::Unclear(broken().into()),
            other => other,
        },
        Fate::Refused => match refuse(&mut *tx).await {
            Ok(_) => Committed::Unclear(broken().into()),
            Err(error) => Committed::No(error.into()),
        },
    }
}

/// Makes the server report a conflict between transactions.
async fn refuse<'e>(executor: impl Executor<'e, Database = Postgres>) -> Result<PgQueryResult, sqlx::Error> {
    sqlx::raw_sql("DO $$ BEGIN RAISE serialization_failure; END $$").execute(executor).await
}

/// The pool for statements without a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statements<'p>(pub &'p PgPool);

impl std::ops::Deref for Statements<'_> {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        self.0
    }
}

/// Everything that a statement returns.
type Outcome = Vec<Either<PgQueryResult, PgRow>>;

/// Runs a statement, or injects the fault.
async fn run<'q>(pool: PgPool, query: impl Execute<'q, Postgres> + 'q) -> Result<Outcome, sqlx::Error> {
    let fate = before(Place::Statement).await;
    match fate {
        Fate::GoOn | Fate::ReplyLost => {}
        Fate::Away => return Err(broken()),
        Fate::Refused => {
            refuse(&pool).await?;
        }
    }
    let outcome = pool.fetch_many(query).try_collect().await?;
    if fate == Fate::ReplyLost {
        return Err(broken());
    }
    after(Place::Statement).await;
    Ok(outcome)
}

impl<'p> Executor<'p> for Statements<'p> {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let outcome = run(self.0.clone(), query);
        stream::once(outcome).map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let outcome = run(self.0.clone(), query);
        Box::pin(async move { Ok(outcome.await?.into_iter().find_map(Either::right)) })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        self.0.prepare_with(sql, parameters)
    }
}
