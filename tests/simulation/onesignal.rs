//! OneSignal as its contract has it: what it remembers, what it does, and what it says, in simulated time.
//!
//! A key is remembered for 30 days from when its message was taken. While OneSignal still works on a call, a second one
//! with the same key is not recognised (urgent ones are: a conflict): that is what the ambiguous gap is for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use herald::domain::clock::{Clock, TestClock, Timestamp};
use herald::provider::onesignal::classify::RawAnswer;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::faults::{Plan, plan_for};
use crate::report::Report;

/// How long a key is remembered.
const MEMORY: TimeDelta = TimeDelta::days(30);

/// Whom one message reached: the event's mark, the channel, and the person or segment.
pub type Reached = (String, String, String);

/// What the caller knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing that it could rely on, or that it was accepted.
    Nothing,
    /// It was never sent, or certainly had no effect.
    NotSent,
    /// Its key is being worked on.
    Conflict,
}

/// One call that arrived here, or was on its way.
#[derive(Debug, Clone)]
pub struct Post {
    pub app: String,
    pub key: String,
    /// The body without `ttl` and key.
    pub body: Value,
    pub targets: Vec<String>,
    pub marks: BTreeSet<String>,
    pub started_at: Timestamp,
    pub is_urgent: bool,
    /// Whether an attempt stood in the books when it began.
    pub is_in_the_books: bool,
    /// The caller was stalled between its last look at the clock and the call: no one can keep it from that, and the
    /// idempotency key alone guards against its doing harm.
    pub left_late: bool,
    pub known: Known,
    /// The id that it was answered with.
    pub message: Option<String>,
}

/// How a call ends for the caller.
#[derive(Debug, Clone)]
pub enum Reply {
    Http(RawAnswer),
    NotConnected,
    Broken(&'static str),
}

/// A call as it stands here.
struct Call {
    post: usize,
    works_until: Option<Timestamp>,
    reply: Option<Reply>,
    times_out_at: Timestamp,
}

struct Kept {
    answer: Value,
    at: Timestamp,
}

/// Everything here.
pub struct OneSignal {
    clock: Arc<TestClock>,
    state: Mutex<State>,
}

struct State {
    seed: u64,
    has_faults: bool,
    calls: BTreeMap<u64, Call>,
    posts: Vec<Post>,
    posts_of_key: HashMap<String, u64>,
    memory: HashMap<(String, String), Kept>,
    /// Urgent keys that are being worked on.
    in_work: HashSet<String>,
    effects: BTreeMap<Reached, Vec<(Timestamp, String)>>,
    templates: BTreeMap<String, (String, String)>,
    /// Apps whose key is refused until then.
    refused_until: HashMap<String, Timestamp>,
    made: u64,
    report: Report,
}

impl OneSignal {
    pub fn new(
        seed: u64,
        clock: Arc<TestClock>,
        templates: BTreeMap<String, (String, String)>,
        has_faults: bool,
    ) -> Self {
        let state = State {
            seed,
            has_faults,
            calls: BTreeMap::new(),
            posts: Vec::new(),
            posts_of_key: HashMap::new(),
            memory: HashMap::new(),
            in_work: HashSet::new(),
            effects: BTreeMap::new(),
            templates,
            refused_until: HashMap::new(),
            made: 0,
            report: Report::default(),
        };
        Self { clock, state: Mutex::new(state) }
    }

    /// Begins a call: what it comes to is decided by the seed, its key and how often that was posted.
    pub fn begin(
        &self,
        body: &Value,
        left_late: bool,
        (is_urgent, timeout): (bool, Duration),
        is_in_the_books: bool,
    ) -> u64 {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut post = read_post(body, now, is_urgent, is_in_the_books);
        post.left_late = left_late;
        let nth = state.posts_of_key.entry(post.key.clone()).or_default();
        *nth += 1;
        let plan = if state.has_faults {
            plan_for(state.seed, &post.marks, state.posts_of_key[&post.key])
        } else {
            Plan::Fine
        };
        let id = state.posts.len() as u64;
        state.posts.push(post);
        let place = state.posts.len() - 1;
        let times_out_at = now + TimeDelta::from_std(timeout).expect("a timeout");
        state.calls.insert(id, Call { post: place, works_until: None, reply: None, times_out_at });
        if plan != Plan::Fine {
            state.report.fault(plan.name());
        }
        state.arrive(id, plan, now);
        id
    }

    /// What a call came back with by now.
    pub fn reply(&self, call: u64) -> Option<Reply> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let one = state.calls.get(&call)?;
        let reply = match &one.reply {
            Some(reply) => reply.clone(),
            None if one.times_out_at <= now => Reply::Broken("no answer in time"),
            None => return None,
        };
        if one.works_until.is_none() {
            state.calls.remove(&call);
        }
        Some(reply)
    }

    /// When the next call times out or is done with.
    pub fn next_moment(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        state.calls.values().filter_map(|c| c.works_until).min()
    }

    /// Finishes what was worked on until now.
    pub fn advance(&self) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let done: Vec<(u64, Timestamp)> = state
            .calls
            .iter()
            .filter_map(|(id, call)| Some((*id, call.works_until.filter(|until| *until <= now)?)))
            .collect();
        for (id, until) in done {
            let post = state.calls[&id].post;
            state.take(post, until);
            let key = state.posts[post].key.clone();
            state.in_work.remove(&key);
            if let Some(call) = state.calls.get_mut(&id) {
                call.works_until = None;
            }
        }
    }

    /// No more faults from now on.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        state.has_faults = false;
        state.refused_until.clear();
    }

    /// Notes what the caller knows.
    pub fn note(&self, call: u64, known: Known) {
        let place = usize::try_from(call).expect("a place");
        self.state.lock().posts[place].known = known;
    }

    /// A key that no one has used.
    pub fn fresh_key(&self) -> uuid::Uuid {
        let mut state = self.state.lock();
        state.made += 1;
        uuid::Uuid::from_u128((0xf4e5_u128 << 100) | u128::from(state.made))
    }

    pub fn posts(&self) -> Vec<Post> {
        self.state.lock().posts.clone()
    }

    pub fn effects(&self) -> BTreeMap<Reached, Vec<(Timestamp, String)>> {
        self.state.lock().effects.clone()
    }

    pub fn take_report(&self) -> Report {
        std::mem::take(&mut self.state.lock().report)
    }

    pub fn create_template(&self, app: &str, name: &str) -> String {
        let mut state = self.state.lock();
        state.made += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}", state.seed & 0xffff_ffff, state.made);
        state.templates.insert(id.clone(), (app.to_owned(), name.to_owned()));
        id
    }

    pub fn find_template(&self, app: &str, name: &str) -> Option<String> {
        let state = self.state.lock();
        let mut found = state.templates.iter().filter(|(_, (a, n))| a == app && n == name);
        found.next().map(|(id, _)| id.clone())
    }

    pub fn has_template(&self, id: &str) -> bool {
        self.state.lock().templates.contains_key(id)
    }

    pub fn templates(&self) -> BTreeMap<String, (String, String)> {
        self.state.lock().templates.clone()
    }
}

impl State {
    /// A call arrives and is dealt with, or begins to be.
    fn arrive(&mut self, id: u64, plan: Plan, now: Timestamp) {
        if plan == Plan::NoConnection {
            return self.answer(id, Reply::NotConnected);
        }
        let place = self.calls[&id].post;
        let post = self.posts[place].clone();
        if plan == Plan::LostOnTheWay {
            return;
        }
        let memory_key = (post.app.clone(), post.key.clone());
        if let Some(kept) = self.memory.get(&memory_key).filter(|kept| kept.at + MEMORY > now) {
            let answer = kept.answer.clone();
            return self.say(id, plan, 200, &answer, true);
        }
        if self.in_work.contains(&post.key) {
            return self.say(id, Plan::Fine, 409, &Value::Null, false);
        }
        if let Some((status, body)) = self.refusal(&post, plan, now) {
            return self.say(id, plan, status, &body, false);
        }
        match plan {
            Plan::Late(seconds) => {
                if post.is_urgent {
                    self.in_work.insert(post.key.clone());
                }
                if let Some(call) = self.calls.get_mut(&id) {
                    call.works_until = Some(now + TimeDelta::seconds(seconds));
                }
            }
            Plan::ErrorWithout(status) => self.say(id, plan, status, &Value::Null, false),
            _ => {
                let answer = self.take(place, now);
                self.say(id, plan, 200, &answer, false);
            }
        }
    }

    /// Why OneSignal does nothing, if it does nothing.
    fn refusal(&mut self, post: &Post, plan: Plan, now: Timestamp) -> Option<(u16, Value)> {
        let error = |status, text: &str| Some((status, json!({ "errors": [text] })));
        if let Plan::KeyRefused(seconds) = plan {
            let until = now + TimeDelta::seconds(seconds);
            self.refused_until.insert(post.app.clone(), until);
        }
        if self.refused_until.get(&post.app).is_some_and(|until| *until > now) {
            let status = if post.key.as_bytes()[0].is_multiple_of(2) { 401 } else { 403 };
            return error(status, "Access denied.  Please include a valid API key");
        }
        if plan == Plan::TemplateLost
            && let Some(id) = post.body["template_id"].as_str()
        {
            self.templates.remove(id);
        }
        if post.body["template_id"].as_str().is_some_and(|id| !self.templates.contains_key(id)) {
            return error(404, "template not found");
        }
        if post.targets.iter().any(|target| target.starts_with("poison")) {
            return error(400, "Incorrect external_id");
        }
        match plan {
            Plan::RateLimited(_) => error(429, "API rate limit exceeded"),
            Plan::Conflict => Some((409, Value::Null)),
            Plan::NobodyYet => {
                Some((200, json!({"id": "", "errors": ["All included players are not subscribed"]})))
            }
            _ if post.targets.iter().all(|target| target.starts_with("lapsed")) => {
                Some((200, json!({"id": "", "errors": ["All included players are not subscribed"]})))
            }
            _ => None,
        }
    }

    /// Takes a message: everyone who can be reached is reached.
    fn take(&mut self, place: usize, at: Timestamp) -> Value {
        let post = self.posts[place].clone();
        self.made += 1;
        let id = format!("message-{}", self.made);
        let (lapsed, reached): (Vec<&String>, Vec<&String>) =
            post.targets.iter().partition(|target| target.starts_with("lapsed"));
        for target in reached {
            let reached = (mark_of(&post.body, target), channel_of(&post.body), target.clone());
            self.effects.entry(reached).or_default().push((at, post.key.clone()));
        }
        let answer = if lapsed.is_empty() {
            json!({"id": id, "external_id": post.key})
        } else {
            // An id may repeat.
            let twice: Vec<&String> = lapsed.iter().chain(&lapsed).copied().collect();
            json!({"id": id, "external_id": null, "errors": {"invalid_aliases": {"external_id": twice}}})
        };
        self.memory.insert((post.app, post.key), Kept { answer: answer.clone(), at });
        answer
    }

    fn answer(&mut self, id: u64, reply: Reply) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.reply = Some(reply);
        }
    }

    /// Says something, unless the plan has it lost or spoilt.
    fn say(&mut self, id: u64, plan: Plan, status: u16, body: &Value, is_replay: bool) {
        let text = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let whole = |status, retry_after, body| {
            Reply::Http(RawAnswer { status, retry_after, is_replay, body: Ok(body) })
        };
        if let Some(message) = body["id"].as_str().filter(|message| !message.is_empty()) {
            let place = self.calls[&id].post;
            self.posts[place].message = Some(message.to_owned());
        }
        let reply = match plan {
            Plan::Silent => return,
            Plan::Reset => Reply::Broken("connection reset"),
            Plan::CutShort if text.len() > 4 => {
                let half = text[..text.len() / 2].to_vec();
                whole(status, None, half)
            }
            Plan::CutOff => Reply::Http(RawAnswer {
                status,
                retry_after: None,
                is_replay,
                body: Err("connection closed before message completed".into()),
            }),
            Plan::ErrorWith(error) | Plan::ErrorWithout(error) => {
                whole(error, None, b"<html><body>Bad gateway</body></html>".to_vec())
            }
            Plan::RateLimited(wait) => whole(status, wait.map(Duration::from_secs), text),
            _ => whole(status, None, text),
        };
        self.answer(id, reply);
    }
}

fn read_post(body: &Value, now: Timestamp, is_urgent: bool, is_in_the_books: bool) -> Post {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let listed = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut targets = listed(&body["included_segments"]);
    for ids in body["include_aliases"].as_object().into_iter().flat_map(|aliases| aliases.values()) {
        targets.extend(listed(ids));
    }
    let mut content = body.clone();
    if let Some(content) = content.as_object_mut() {
        content.remove("ttl");
        content.remove("idempotency_key");
    }
    Post {
        app: text("app_id"),
        key: text("idempotency_key"),
        marks: targets.iter().map(|target| mark_of(body, target)).collect(),
        body: content,
        targets,
        started_at: now,
        is_urgent,
        is_in_the_books,
        left_late: false,
        known: Known::Nothing,
        message: None,
    }
}

fn channel_of(body: &Value) -> String {
    body["target_channel"].as_str().unwrap_or_default().to_owned()
}

/// The mark of an event in a message: `zq`, a number, `z`.
fn mark_of(body: &Value, target: &str) -> String {
    let own = &body["custom_data"]["users"][target];
    let place = if own.is_null() { body } else { own };
    let text = place.to_string();
    let Some(start) = text.find("zq") else { return String::new() };
    let digits: String = text[start + 2..].chars().take_while(char::is_ascii_digit).collect();
    format!("zq{digits}z")
}

/// A source of choices that depends on these numbers and nothing else.
pub fn dice(seed: u64, parts: &[&str], nth: u64) -> StdRng {
    let mut mixed = seed ^ 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(nth + 1);
    for byte in parts.iter().flat_map(|part| part.bytes()) {
        mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut random = StdRng::seed_from_u64(mixed);
    let _: u32 = random.random();
    random
}
