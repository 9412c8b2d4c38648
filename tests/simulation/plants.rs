//! Bugs that are planted from outside, each of which the oracle must find.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use herald::domain::clock::{Clock, Timestamp};
use herald::pipeline::PipelineLimits;

use crate::run::DatabasePlan;
use crate::run::clock::DatabaseClock;

/// How a provider's adapter could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    FreshKeys,
    LostReplyIsNoConnection,
    EmptyIdIsAccepted,
    InvalidAliasesSwallowed,
}

/// A bug.
#[expect(clippy::struct_excessive_bools, reason = "each is a bug of its own")]
pub struct Plant {
    pub name: &'static str,
    /// What plants it in the database, and what takes it out.
    pub sql: &'static str,
    pub undo: &'static str,
    pub tamper: Option<Tamper>,
    pub set: fn(&mut PipelineLimits),
    /// How far each replica's clock is off, in seconds.
    pub skews: [i64; 3],
    pub namespace_differs: bool,
    pub changes_event_keys: bool,
    pub heartbeat_is_unfenced: bool,
    pub renews_without_end: bool,
    pub never_watches: bool,
    /// Seeds in which it can show.
    pub shows_in: fn(&DatabasePlan) -> bool,
    /// Invariants, one of which must be found broken.
    pub catches: &'static [&'static str],
}

/// No bug at all.
pub const NONE: Plant = Plant {
    name: "none",
    sql: "",
    undo: "",
    tamper: None,
    set: |_| {},
    skews: [0; 3],
    namespace_differs: false,
    changes_event_keys: false,
    heartbeat_is_unfenced: false,
    renews_without_end: false,
    never_watches: false,
    shows_in: |_| true,
    catches: &[],
};

/// A trigger that changes or drops rows: `$when` such as `BEFORE UPDATE ON queue`, and what it does before `RETURN NEW`.
macro_rules! trigger {
    ($when:literal, $body:literal) => {
        concat!(
            "CREATE FUNCTION plant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ",
            $body,
            " IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$; CREATE TRIGGER aa_plant ",
            $when,
            " FOR EACH ROW EXECUTE FUNCTION plant()"
        )
    };
}

/// A bug in the database.
const fn in_database(name: &'static str, sql: &'static str, catches: &'static [&'static str]) -> Plant {
    Plant { name, sql, undo: "DROP FUNCTION plant() CASCADE", catches, ..NONE }
}

/// A bug in the provider's adapter.
const fn in_adapter(name: &'static str, tamper: Tamper, catches: &'static [&'static str]) -> Plant {
    Plant { name, tamper: Some(tamper), catches, ..NONE }
}

/// A bug in a setting.
const fn in_setting(
    name: &'static str,
    set: fn(&mut PipelineLimits),
    catches: &'static [&'static str],
) -> Plant {
    Plant { name, set, catches, ..NONE }
}

const KEPT: &str = "O1 acknowledged is kept";
const EFFECTS: &str = "O2 effects fit states";
const BOOKS: &str = "O4 the books are the provider's log";
const BODY: &str = "O5 one key, one body";
const SECRETS: &str = "O7 secrets stay secret";
const IN_TIME: &str = "O8 no call after its time";
const EPOCH: &str = "a claim's epoch only rises";
const EXPIRY: &str = "an expiry never moves";
const COUNTS: &str = "counts only rise";
const DOUBT: &str = "what may have been sent keeps its batch";
const GAP: &str = "the gap after a doubtful call";
const STUCK: &str = "nothing is stuck";
const LEASE: &str = "a lease that is over is not renewed";
const TAKEN: &str = "no good event is refused";
const REASON: &str = "every end has its reason";
const CLOCK: &str = "nothing waits for the clock";

/// Seeds that found a bug before, which none of the first ones finds: they are tried first.
pub const FOUND_BY: &[(&str, u64)] = &[
    ("a doubt is never noted", 7),
    ("a doubtful call is made again at once", 12),
    ("tries are not counted", 6),
    ("what could not be settled counts as rejected", 5),
    ("sensitive values stay", 3),
    ("a lost reply counts as no connection", 20),
    ("no gap after a doubtful call", 12),
    ("what was due waits for the clock", 37),
    ("what is posted again after a restore shares calls", 1_611),
];

/// Every planted bug.
pub const PLANTS: &[Plant] = &[
    in_database(
        "an epoch is not raised",
        trigger!("BEFORE UPDATE ON queue", "NEW.claim_epoch := OLD.claim_epoch;"),
        &[EPOCH],
    ),
    in_database(
        "an epoch is reset when a row goes back",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF NEW.state = 'queued' AND OLD.claim_epoch > 1 THEN NEW.claim_epoch := 0; END IF;"
        ),
        &[EPOCH],
    ),
    in_database(
        "a doubt is forgotten",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF OLD.first_ambiguous_at IS NOT NULL THEN NEW.first_ambiguous_at := NULL; END IF;"
        ),
        &[DOUBT],
    ),
    in_database(
        "a doubt is never noted",
        trigger!("BEFORE UPDATE ON queue", "NEW.first_ambiguous_at := NULL;"),
        &[EFFECTS],
    ),
    in_database(
        "what may have been sent is packed anew",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF NEW.state = 'retrying' THEN NEW.state := 'queued'; NEW.batch_id := NULL; END IF;"
        ),
        &[DOUBT, EFFECTS],
    ),
    in_database(
        "the generation is raised after a doubt",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF OLD.first_ambiguous_at IS NOT NULL THEN NEW.generation := OLD.generation + 1; END IF;"
        ),
        &[DOUBT],
    ),
    in_database(
        "a life is prolonged",
        trigger!("BEFORE UPDATE ON queue", "NEW.expires_at := OLD.expires_at + interval '1 hour';"),
        &[EXPIRY],
    ),
    in_database(
        "a doubtful call is made again at once",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF NEW.state = 'retrying' THEN NEW.due_at := least(NEW.due_at, OLD.due_at); END IF;"
        ),
        &[GAP],
    ),
    in_database(
        "tries are not counted",
        trigger!("BEFORE UPDATE ON queue", "NEW.attempts := OLD.attempts;"),
        &[BOOKS],
    ),
    in_database(
        "tries are counted anew",
        trigger!("BEFORE UPDATE ON queue", "IF OLD.attempts > 0 THEN NEW.attempts := 0; END IF;"),
        &[COUNTS],
    ),
    in_database(
        "a row stays when its delivery is over",
        trigger!("BEFORE DELETE ON queue", "RETURN NULL;"),
        &[STUCK, EFFECTS, REASON],
    ),
    in_database(
        "a delivery gets no row in the queue",
        trigger!("BEFORE INSERT ON queue", "IF random() < 0.2 THEN RETURN NULL; END IF;"),
        &[REASON],
    ),
    in_database(
        "a delivery is not stored",
        trigger!("BEFORE INSERT ON deliveries", "IF random() < 0.2 THEN RETURN NULL; END IF;"),
        &[KEPT],
    ),
    in_database(
        "an event is not stored",
        trigger!("BEFORE INSERT ON events", "IF random() < 0.2 THEN RETURN NULL; END IF;"),
        &[KEPT],
    ),
    in_database(
        "an event's key guards against nothing",
        trigger!(
            "AFTER INSERT ON event_keys",
            "DELETE FROM event_keys WHERE source_id = NEW.source_id AND key_digest = NEW.key_digest;"
        ),
        &[KEPT, EFFECTS, TAKEN],
    ),
    in_database(
        "a batch is stored under another key",
        trigger!("BEFORE INSERT ON batches", "NEW.idempotency_key := gen_random_uuid();"),
        &[BOOKS],
    ),
    in_database(
        "a batch forgets a member",
        trigger!(
            "BEFORE INSERT ON batches",
            "IF cardinality(NEW.members) > 1 THEN NEW.members := trim_array(NEW.members, 1); END IF;"
        ),
        &[BOOKS],
    ),
    in_database(
        "a batch's members change places",
        trigger!(
            "BEFORE INSERT ON batches",
            "NEW.members := (SELECT array_agg(m ORDER BY n DESC) FROM unnest(NEW.members) WITH ORDINALITY AS u (m, n));"
        ),
        &[BOOKS],
    ),
    in_database(
        "a call is made before its attempt is stored",
        trigger!("BEFORE INSERT ON attempts", "RETURN NULL;"),
        &[BOOKS],
    ),
    in_database(
        "whom nobody could reach counts as reached",
        trigger!(
            "BEFORE UPDATE ON deliveries",
            "IF NEW.state = 'unreachable' THEN NEW.state := 'accepted'; END IF;"
        ),
        &[EFFECTS],
    ),
    in_database(
        "what could not be settled counts as rejected",
        trigger!(
            "BEFORE UPDATE ON deliveries",
            "IF NEW.state = 'unknown' THEN NEW.state := 'rejected'; END IF;"
        ),
        &[EFFECTS],
    ),
    in_database("reasons are not kept", trigger!("BEFORE INSERT ON decisions", "RETURN NULL;"), &[REASON]),
    in_database(
        "sensitive values stay",
        trigger!("BEFORE DELETE ON event_secrets", "RETURN NULL;"),
        &[SECRETS],
    ),
    in_database(
        "a rescue by time alone raises no epoch",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF NEW.crashes > OLD.crashes THEN NEW.claim_epoch := OLD.claim_epoch; END IF;"
        ),
        &[EPOCH],
    ),
    in_database(
        "a worker keeps its name when it starts again",
        trigger!(
            "AFTER INSERT ON workers",
            "UPDATE queue SET worker_id = NEW.id
                WHERE worker_id IN (SELECT w.id FROM workers w WHERE w.host = NEW.host AND w.id <> NEW.id);"
        ),
        &[EPOCH],
    ),
    in_adapter("each call has a key of its own", Tamper::FreshKeys, &[BOOKS, BODY]),
    in_adapter("a lost reply counts as no connection", Tamper::LostReplyIsNoConnection, &[EFFECTS]),
    in_adapter("an empty id counts as accepted", Tamper::EmptyIdIsAccepted, &[EFFECTS, BOOKS]),
    in_adapter("invalid aliases are overlooked", Tamper::InvalidAliasesSwallowed, &[EFFECTS]),
    Plant {
        name: "a repeat gets a key of its own",
        changes_event_keys: true,
        catches: &[KEPT, EFFECTS],
        ..NONE
    },
    in_setting("no gap after a doubtful call", |limits| limits.retry.ambiguous_gap = Duration::ZERO, &[GAP]),
    Plant {
        name: "a replica's clock is an hour off",
        skews: [0, 3_600, 0],
        catches: &[IN_TIME, GAP, STUCK, EFFECTS],
        ..NONE
    },
    Plant {
        name: "a heartbeat asks nobody whether the lease stands",
        heartbeat_is_unfenced: true,
        catches: &[LEASE],
        ..NONE
    },
    in_database(
        "what was due waits for the clock",
        trigger!(
            "BEFORE UPDATE ON queue",
            "IF OLD.state = NEW.state AND OLD.claim_epoch = NEW.claim_epoch AND NEW.due_at < OLD.due_at THEN
                NEW.due_at := OLD.due_at; END IF;"
        ),
        &[CLOCK, STUCK],
    ),
    Plant {
        name: "nobody looks at the database's clock",
        never_watches: true,
        catches: &[CLOCK, STUCK],
        ..NONE
    },
    Plant {
        shows_in: |plan| plan.restored.is_some(),
        ..in_setting(
            "what is posted again after a restore shares calls",
            |limits| limits.restored_window = Duration::ZERO,
            &[EFFECTS],
        )
    },
    Plant { name: "a lease is renewed without end", renews_without_end: true, catches: &[STUCK], ..NONE },
];

impl Plant {
    /// The clock that a replica reads.
    pub fn clock_of(&self, slot: usize, clock: &Arc<DatabaseClock>) -> Arc<dyn Clock> {
        match self.skews[slot] {
            0 => Arc::clone(clock) as Arc<dyn Clock>,
            off => Arc::new(Skewed { clock: Arc::clone(clock), by: TimeDelta::seconds(off) }),
        }
    }
}

struct Skewed {
    clock: Arc<DatabaseClock>,
    by: TimeDelta,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.clock.now() + self.by
    }
}
