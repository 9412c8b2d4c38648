//! The data file: one JSON object a line, written before a call is answered.
//!
//! A line that a crash cut off at the end is dropped: its call was never answered. A line that is damaged further up
//! is an error, because something else wrote into the file. Lines reach the operating system before the answer goes
//! out, so they survive a killed sandbox; they are not forced to the disk.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::actions::Act;
use super::message::{Channel, Message, Reached};
use super::people::{Name, Person};
use super::segments::Segment;
use super::state::Remembered;
use super::streams::Stream;
use super::templates::Template;
use crate::domain::clock::Timestamp;

/// Why the data file can't be used. Retrying never helps.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The file system said no.
    #[error("can't {action} {path}")]
    Io {
        /// The action.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another sandbox has it open.
    #[error("{path} is in use by another sandbox")]
    InUse {
        /// The data file.
        path: PathBuf,
    },
    /// It contains invalid data.
    #[error("{path}, line {line}: invalid sandbox data; move the file away to start empty")]
    Damaged {
        /// The data file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A journal entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Template(Arc<Template>),
    TemplateDeleted {
        id: Uuid,
    },
    Person(Arc<Person>),
    /// Users changed atomically: a moved token never belongs to both, or to none.
    People(Vec<Arc<Person>>),
    /// Deleted users, with all their names.
    Gone {
        app_id: Uuid,
        names: Vec<Name>,
    },
    Segment(Segment),
    SegmentDeleted {
        id: Uuid,
    },
    Stream(Stream),
    StreamDeleted {
        id: Uuid,
    },
    Act(Act),
    /// An app was disabled or enabled.
    App {
        app_id: Uuid,
        disabled: bool,
    },
    /// The part of a scheduled message that was due by then has gone out.
    Sent {
        sequence: u64,
        until: Timestamp,
    },
    /// Recipients skipped because of the frequency cap.
    Capped {
        sequence: u64,
        recipients: Vec<usize>,
    },
    Message(Box<StoredMessage>),
    Key(Remembered),
    Canceled {
        id: Uuid,
    },
    /// The sum of all steps of the clock.
    Advanced {
        microseconds: u64,
    },
    /// A reset; message sequences continue after this one.
    Cleared {
        newest: u64,
    },
}

/// A message in the journal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredMessage {
    sequence: u64,
    id: Uuid,
    app_id: Uuid,
    channel: Channel,
    /// The template and its revision.
    template: Option<(Uuid, u32)>,
    received_at: Timestamp,
    send_after: Option<Timestamp>,
    request: Value,
    reached: Reached,
    recipients: usize,
    notes: Vec<String>,
    canceled: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    paced: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    capped: Vec<usize>,
    idempotency_key: Option<Uuid>,
    /// What its key is remembered with.
    first_answer: Option<(String, Value)>,
}

impl StoredMessage {
    pub(super) fn of(message: &Message, remembered: Option<&Remembered>) -> Self {
        Self {
            sequence: message.sequence,
            id: message.id,
            app_id: message.app_id,
            channel: message.channel,
            template: message.template.as_ref().map(|template| (template.id, template.revision)),
            received_at: message.received_at,
            send_after: message.send_after,
            request: Value::Object(message.request()),
            reached: message.reached.clone(),
            recipients: message.recipients,
            notes: message.notes.clone(),
            canceled: message.canceled,
            paced: message.paced,
            capped: message.capped.clone(),
            idempotency_key: message.idempotency_key,
            first_answer: remembered.map(|first| (first.digest.clone(), first.answer.clone())),
        }
    }

    /// The message, with its template out of `revisions`, and what its key is remembered with.
    pub(super) fn into_parts(
        self,
        revisions: &HashMap<(Uuid, u32), Arc<Template>>,
    ) -> (Message, Option<Remembered>) {
        let remembered = self.idempotency_key.zip(self.first_answer).map(|(key, (digest, answer))| {
            Remembered { app_id: self.app_id, key, at: self.received_at, digest, answer }
        });
        let message = Message {
            sequence: self.sequence,
            id: self.id,
            app_id: self.app_id,
            idempotency_key: self.idempotency_key,
            channel: self.channel,
            template: self.template.and_then(|name| revisions.get(&name)).cloned(),
            received_at: self.received_at,
            send_after: self.send_after,
            request: self.request.to_string().into_boxed_str(),
            reached: self.reached,
            recipients: self.recipients,
            notes: self.notes,
            canceled: self.canceled,
            paced: self.paced,
            capped: self.capped,
        };
        (message, remembered)
    }
}

/// The open data file, if there is one.
#[derive(Debug)]
pub(super) struct Journal(Option<OpenFile>);

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
    /// How much of the file is whole lines.
    length: u64,
    /// Held so that no second sandbox writes into the file.
    _lock: File,
}

impl Journal {
    /// Opens or creates the file, and reads it.
    pub(super) fn open(path: Option<&Path>) -> Result<(Self, Vec<Line>), SandboxError> {
        let Some(path) = path else { return Ok((Self(None), Vec::new())) };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed("create the folder", folder))?;
        }
        let lock = lock(path)?;
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.map_err(failed("open", path))?;
        let lines = read(path, &file)?;
        Ok((Self(Some(OpenFile { path: path.to_owned(), file, length: 0, _lock: lock })), lines))
    }

    /// Whether there is a file.
    pub(super) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Appends a line atomically.
    pub(super) fn write(&mut self, line: &Line) -> Result<(), SandboxError> {
        let Some(open) = &mut self.0 else { return Ok(()) };
        let bytes = to_bytes(line, &open.path)?;
        if let Err(error) = open.file.write_all(&bytes) {
            // A partial line must not precede the next one.
            let _ = open.file.set_len(open.length);
            return Err(failed("write to", &open.path)(error));
        }
        open.length += bytes.len() as u64;
        Ok(())
    }

    /// Replaces the content with `lines` atomically.
    pub(super) fn rewrite(&mut self, lines: Vec<Line>) -> Result<(), SandboxError> {
        let Some(open) = &mut self.0 else { return Ok(()) };
        let fresh_path = beside(&open.path, "new");
        // Messages contain personal data: only the sandbox's user may read them.
        let fresh = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh_path)
            .map_err(failed("make", &fresh_path))?;
        let mut writer = BufWriter::new(fresh);
        let mut length = 0;
        for line in lines {
            let bytes = to_bytes(&line, &open.path)?;
            writer.write_all(&bytes).map_err(failed("write to", &fresh_path))?;
            length += bytes.len() as u64;
        }
        let fresh =
            writer.into_inner().map_err(|error| failed("write to", &fresh_path)(error.into_error()))?;
        fresh.sync_all().map_err(failed("write to", &fresh_path))?;
        fs::rename(&fresh_path, &open.path).map_err(failed("replace", &open.path))?;
        drop(fresh);
        let appending = File::options().append(true).open(&open.path);
        open.file = appending.map_err(failed("open", &open.path))?;
        open.length = length;
        Ok(())
    }
}

fn read(path: &Path, file: &File) -> Result<Vec<Line>, SandboxError> {
    let mut reader = BufReader::new(file);
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        reader.read_until(b'\n', &mut bytes).map_err(failed("read", path))?;
        if !bytes.ends_with(b"\n") {
            // The end, or a line that a crash cut off.
            return Ok(lines);
        }
        let line = serde_json::from_slice(&bytes);
        let number = lines.len() + 1;
        lines.push(line.map_err(|source| SandboxError::Damaged {
            path: path.to_owned(),
            line: number,
            source,
        })?);
    }
}

fn lock(path: &Path) -> Result<File, SandboxError> {
    let lock_path = beside(path, "lock");
    let file = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let file = file.map_err(failed("open", &lock_path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SandboxError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed("lock", &lock_path)(error)),
    }
}

fn to_bytes(line: &Line, path: &Path) -> Result<Vec<u8>, SandboxError> {
    let mut bytes = serde_json::to_vec(line).map_err(|error| failed("write to", path)(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    let path = path.to_owned();
    move |source| SandboxError::Io { action, path, source }
}
