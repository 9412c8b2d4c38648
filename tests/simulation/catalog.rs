//! What the simulated sources post, and what the catalog makes of it: every priority, every channel, both modes, two apps,
//! people and audiences, a delay with cancellations, a link that a person has to fix, and a life longer than a key's memory.

use herald::catalog::files::Files;

/// One rule, as the oracle knows it without asking Herald.
#[derive(Debug)]
pub struct RuleSpec {
    pub key: &'static str,
    pub channel: &'static str,
    /// Seconds until it is due.
    pub delay_s: i64,
    /// Seconds that it is worth sending after that.
    pub life_s: i64,
    /// Whether it goes to a segment instead of the event's recipients.
    pub is_audience: bool,
}

/// One kind of event.
#[derive(Debug)]
pub struct EventSpec {
    pub name: &'static str,
    pub rules: &'static [RuleSpec],
    /// How often it is posted, among a hundred.
    pub weight: u32,
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

const fn rule(key: &'static str, channel: &'static str, delay_s: i64, life_s: i64) -> RuleSpec {
    RuleSpec { key, channel, delay_s, life_s, is_audience: false }
}

/// The segment that an audience stands for.
pub const SEGMENT: &str = "Everybody";

/// Every kind of event that is posted.
pub const EVENTS: [EventSpec; 8] = [
    EventSpec {
        name: "sim.note",
        rules: &[rule("note-mail", "email", 0, 3 * DAY), rule("note-push", "push", 0, 3 * DAY)],
        weight: 34,
    },
    EventSpec { name: "sim.code", rules: &[rule("code-sms", "sms", 0, 600)], weight: 20 },
    EventSpec { name: "sim.news", rules: &[rule("news-push", "push", 0, 3 * DAY)], weight: 18 },
    EventSpec {
        name: "sim.all",
        rules: &[RuleSpec { is_audience: true, ..rule("all-push", "push", 0, 3 * DAY) }],
        weight: 4,
    },
    EventSpec { name: "sim.later", rules: &[rule("later-push", "push", 600, 3 * DAY)], weight: 10 },
    EventSpec { name: "sim.stop", rules: &[], weight: 4 },
    EventSpec { name: "sim.hole", rules: &[rule("hole-mail", "email", 0, 3 * DAY)], weight: 4 },
    EventSpec { name: "sim.slow", rules: &[rule("slow-push", "push", 0, 60 * DAY)], weight: 6 },
];

/// The rule of this key.
pub fn rule_of(key: &str) -> Option<&'static RuleSpec> {
    EVENTS.iter().flat_map(|event| event.rules).find(|rule| rule.key == key)
}

const SCHEMA: &str = r#"{"type": "object", "properties": {"n": {"type": "string", "pattern": "\\S"},
    "code": {"type": "string", "pattern": "\\S"}, "x": {"type": "string", "pattern": "\\S"}, "stops": {"type": "string", "pattern": "\\S"}}, "required": ["n"]}"#;

/// The catalog as files.
pub fn files() -> Files {
    let mut files: Vec<(String, String)> = Vec::new();
    for event in &EVENTS {
        let mut about = "description = \"Simulated.\"\n".to_owned();
        if event.name == "sim.code" {
            about.push_str("sensitive = [\"/code\"]\ntime_to_live = \"10m\"\n");
        }
        files.push((format!("events/{}/event.toml", event.name), about));
        let required = match event.name {
            "sim.code" => SCHEMA.replace("[\"n\"]", "[\"n\", \"code\"]"),
            "sim.hole" => SCHEMA.replace("[\"n\"]", "[\"n\", \"x\"]"),
            "sim.stop" => SCHEMA.replace("[\"n\"]", "[\"n\", \"stops\"]"),
            _ => SCHEMA.to_owned(),
        };
        files.push((format!("events/{}/schema.json", event.name), required));
        let sample = r#"{"n": "zq0z", "code": "314159", "x": "https://shop.example/", "stops": "key"}"#;
        files.push((format!("events/{}/samples/one.json", event.name), sample.into()));
        for rule in event.rules {
            files.push((format!("rules/{}.toml", rule.key), rule_file(event.name, rule)));
            files.extend(template_files(rule));
        }
    }
    files.push(("rules/stop.toml".into(), "event = \"sim.stop\"\ncancel = \"data.stops\"\n".into()));
    files.into_iter().collect()
}

fn rule_file(event: &str, rule: &RuleSpec) -> String {
    let mut text = format!("event = \"{event}\"\ntemplate = \"{}\"\n", rule.key);
    text.push_str(match rule.key {
        "code-sms" => "priority = \"urgent\"\n",
        "news-push" => "priority = \"bulk\"\napp = \"second\"\n",
        "all-push" => "priority = \"bulk\"\nsegments = [\"Everybody\"]\n",
        "later-push" => "delay = \"10m\"\n",
        "slow-push" => "priority = \"bulk\"\nexpires_in = \"60days\"\n",
        _ => "",
    });
    text
}

fn template_files(rule: &RuleSpec) -> Vec<(String, String)> {
    let mode = if rule.key == "note-mail" { "mode = \"inline\"\n" } else { "" };
    let about = format!("channel = \"{}\"\ndescription = \"Simulated.\"\n{mode}", rule.channel);
    let copy = match rule.key {
        "code-sms" => "{{ data.n }}: your code is {{ data.code }}".to_owned(),
        "hole-mail" => {
            "+++\nsubject = \"{{ data.n }}\"\n+++\n<p><a href=\"{{ data.x }}\">{{ data.n }}</a></p>"
                .to_owned()
        }
        _ if rule.channel == "email" => {
            "+++\nsubject = \"{{ data.n }}\"\n+++\n<p>{{ data.n }}</p>".to_owned()
        }
        _ => "+++\nheadings = \"News\"\n+++\n{{ data.n }}".to_owned(),
    };
    vec![
        (format!("templates/{}/template.toml", rule.key), about),
        (format!("templates/{}/{}.en.liquid", rule.key, rule.channel), copy),
    ]
}
