//! What it costs to plan a statement.

use herald::store::SESSION;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Row};

/// How often each statement is planned; the quickest counts.
const ROUNDS: usize = 5;
/// How often that is repeated while the machine disturbs it.
const TRIES: usize = 60;

/// Planning of one statement.
#[derive(Clone, Copy)]
pub struct Cost {
    /// In milliseconds.
    pub planning: f64,
    /// Locks on relations.
    pub locks: i64,
}

/// A connection with Herald's settings.
pub struct Session(PgConnection);

/// Keeps this many days of history up to the newest.
pub async fn age(url: &str, days: i32) {
    let mut connection = PgConnection::connect(url).await.expect("connected");
    let newest: chrono::NaiveDate = sqlx::query_scalar(
        "SELECT max(right(relname, 8))::date FROM pg_class WHERE relname ~ '^events_[0-9]{8}$'",
    )
    .fetch_one(&mut connection)
    .await
    .expect("a day");
    // A few at a time: each transaction locks what it creates.
    for n in 0..days {
        let day = newest - chrono::TimeDelta::days(n.into());
        sqlx::query("SELECT create_day_partitions($1)")
            .bind(day)
            .execute(&mut connection)
            .await
            .expect("a day");
    }
}

impl Session {
    pub async fn of(url: &str) -> Self {
        let options = url.parse::<PgConnectOptions>().expect("an address").options(SESSION);
        let mut connection = PgConnection::connect_with(&options).await.expect("connected");
        // A plan for any value: what it does not rule out is planned for and locked sooner or later.
        connection.execute("SET plan_cache_mode = force_generic_plan").await.expect("set");
        Self(connection)
    }

    async fn prepare(&mut self, statement: &str) -> String {
        self.run(&format!("PREPARE s AS {statement}")).await;
        let parameters: i32 = sqlx::query_scalar(
            "SELECT coalesce(cardinality(parameter_types), 0) FROM pg_prepared_statements WHERE name = 's'",
        )
        .fetch_one(&mut self.0)
        .await
        .expect("it was prepared");
        let nulls = vec!["NULL"; usize::try_from(parameters).expect("a count")].join(", ");
        if nulls.is_empty() { "EXECUTE s".to_owned() } else { format!("EXECUTE s ({nulls})") }
    }

    async fn run(&mut self, statement: &str) {
        let done = self.0.execute(sqlx::AssertSqlSafe(statement.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{error}: {statement}"));
    }

    async fn plan(&mut self, execute: &str) -> f64 {
        self.run("DISCARD PLANS").await;
        let explain = format!("EXPLAIN (SUMMARY, COSTS OFF, FORMAT JSON) {execute}");
        let row = self.0.fetch_one(sqlx::AssertSqlSafe(explain)).await.expect("a plan");
        let plan: serde_json::Value = row.get(0);
        plan[0]["Planning Time"].as_f64().expect("a time")
    }

    async fn locks(&mut self, execute: &str) -> i64 {
        self.run("BEGIN").await;
        self.plan(execute).await;
        let locks = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'",
        )
        .fetch_one(&mut self.0)
        .await
        .expect("locks");
        self.run("ROLLBACK").await;
        locks
    }

    async fn cost(&mut self, statement: &str) -> Cost {
        let execute = self.prepare(statement).await;
        let locks = self.locks(&execute).await;
        let mut planning = f64::MAX;
        for _ in 0..ROUNDS {
            planning = planning.min(self.plan(&execute).await);
        }
        self.run("DEALLOCATE s").await;
        Cost { planning, locks }
    }
}

/// What a statement costs in a new and in an old installation.
pub async fn compare(
    new: &mut Session,
    old: &mut Session,
    statement: &str,
    most: f64,
    noise: f64,
) -> (Cost, Cost) {
    let (mut few, mut many) = (new.cost(statement).await, old.cost(statement).await);
    for _ in 0..TRIES {
        if many.planning <= few.planning * most + noise || few.locks != many.locks {
            break;
        }
        few.planning = few.planning.min(new.cost(statement).await.planning);
        many.planning = many.planning.min(old.cost(statement).await.planning);
    }
    (few, many)
}
