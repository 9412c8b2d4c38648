//! The Ruby engine as a process that lives as long as a test: one line in, one line out.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/liquid_reference/oracle.rb");

pub struct Oracle {
    process: Child,
    tasks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What the engine renders, by how it parses: forgivingly, as it does by default, and strictly.
#[derive(Debug)]
pub struct Answer {
    pub lax: Result<String, String>,
    pub strict: Result<String, String>,
}

impl Oracle {
    /// Starts it; says so if there is no Ruby with Liquid, which is a failure in CI.
    pub fn start() -> Option<Self> {
        let version = Command::new("ruby").args(["-rliquid", "-e", "print Liquid::VERSION"]).output();
        let found = version.ok().filter(|output| output.status.success());
        if found.is_none() {
            assert!(
                std::env::var_os("CI").is_none(),
                "the Liquid tests need Ruby's engine (Debian: ruby, ruby-liquid)"
            );
            eprintln!("skipped: Ruby's Liquid engine is missing (Debian: ruby, ruby-liquid)");
            return None;
        }
        let mut process = Command::new("ruby")
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ruby starts");
        let tasks = process.stdin.take().expect("its input is ours");
        let answers = BufReader::new(process.stdout.take().expect("its output is ours"));
        Some(Self { process, tasks, answers })
    }

    pub fn render(&mut self, source: &str, globals: &Value) -> Answer {
        writeln!(self.tasks, "{}", json!({"source": source, "globals": globals})).expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{source:?}: {error}"));
        let one = |mode: &str| match answer[mode]["text"].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(answer[mode]["error"].as_str().unwrap_or("no answer").to_owned()),
        };
        Answer { lax: one("lax"), strict: one("strict") }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
