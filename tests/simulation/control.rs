//! Controls one replica: where its steps stall, where it dies, and which database faults it gets.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use async_trait::async_trait;
use herald::pipeline::Pipeline;
use herald::store::fault_injection::{Fate, Faults, Place};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::report::Report;

/// What a replica that dies in the middle of a step panics with.
pub struct Death;

/// How likely a fault is at each step to the database, in ten thousand.
#[derive(Debug, Clone, Copy)]
pub struct Odds {
    pub pause: u32,
    pub death: u32,
    pub away: u32,
    pub reply_lost: u32,
    pub refused: u32,
}

impl Odds {
    pub const NONE: Self = Self { pause: 0, death: 0, away: 0, reply_lost: 0, refused: 0 };
}

/// The controls of one replica.
pub struct Control {
    state: Mutex<State>,
    parked: AtomicBool,
}

struct State {
    random: StdRng,
    odds: Odds,
    /// The process that is driven now.
    pipeline: Weak<Pipeline>,
    /// The database is unavailable for this replica.
    is_cut_off: bool,
    report: Report,
}

impl Control {
    pub fn new(seed: u64, odds: Odds) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            odds,
            pipeline: Weak::new(),
            is_cut_off: false,
            report: Report::default(),
        };
        Self { state: Mutex::new(state), parked: AtomicBool::new(false) }
    }

    /// No more faults from now on.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        state.odds = Odds::NONE;
        state.is_cut_off = false;
    }

    pub fn cut_off(&self, is_cut_off: bool) {
        self.state.lock().is_cut_off = is_cut_off;
    }

    pub fn belongs_to(&self, pipeline: &Arc<Pipeline>) {
        self.state.lock().pipeline = Arc::downgrade(pipeline);
    }

    pub fn take_report(&self) -> Report {
        std::mem::take(&mut self.state.lock().report)
    }

    /// Notes that the current step is stalled; its driver stops there.
    pub fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
    }

    /// Whether the current step is stalled.
    pub fn take_parked(&self) -> bool {
        self.parked.swap(false, Ordering::SeqCst)
    }

    /// Throws the dice for one place; the names are those of the report.
    fn throw(&self, place: Place, is_after: bool) -> Thrown {
        let mut state = self.state.lock();
        if state.is_cut_off && !is_after {
            return Thrown::Fate(Fate::Away);
        }
        let odds = state.odds;
        let number: u32 = state.random.random_range(0..10_000);
        let mut below = 0;
        let mut is = |odds: u32| {
            below += odds;
            number < below
        };
        // Who is stalled while reading the catalog would have the others of its process wait for ever.
        let may_pause = state.pipeline.upgrade().is_none_or(|pipeline| !pipeline.is_reading_catalog());
        let (thrown, kind) = if is(odds.pause) {
            if !may_pause {
                return Thrown::Fate(Fate::GoOn);
            }
            (Thrown::Pause, if is_after { "standstill after" } else { "standstill before" })
        } else if is(odds.death) {
            (Thrown::Death, if is_after { "death after" } else { "death before" })
        } else if is_after {
            return Thrown::Fate(Fate::GoOn);
        } else if is(odds.away) {
            (Thrown::Fate(Fate::Away), "database away")
        } else if is(odds.reply_lost) && place != Place::Begin {
            (Thrown::Fate(Fate::ReplyLost), "database reply lost")
        } else if is(odds.refused) && place != Place::Begin {
            (Thrown::Fate(Fate::Refused), "serialization failure")
        } else {
            return Thrown::Fate(Fate::GoOn);
        };
        state.report.fault(kind);
        thrown
    }
}

enum Thrown {
    Fate(Fate),
    Pause,
    Death,
}

fn die() -> ! {
    std::panic::panic_any(Death)
}

#[async_trait]
impl Faults for Control {
    async fn before(&self, place: Place) -> Fate {
        loop {
            match self.throw(place, false) {
                Thrown::Fate(fate) => return fate,
                Thrown::Pause => Pause { control: self, is_over: false }.await,
                Thrown::Death => die(),
            }
        }
    }

    async fn after(&self, place: Place) {
        match self.throw(place, true) {
            Thrown::Fate(_) => {}
            Thrown::Pause => Pause { control: self, is_over: false }.await,
            Thrown::Death => die(),
        }
    }

    fn pass(&self, _point: &'static str) {
        let mut state = self.state.lock();
        let odds = state.odds.death * 2;
        if state.random.random_range(0..10_000) < odds {
            state.report.fault("death at a crash point");
            drop(state);
            die();
        }
    }
}

/// Stalls once; continues when it is driven again.
struct Pause<'a> {
    control: &'a Control,
    is_over: bool,
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        self.is_over = true;
        self.control.park();
        Poll::Pending
    }
}
