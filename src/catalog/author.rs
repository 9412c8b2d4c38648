//! The author of a catalog change, and their additional rights.

use super::changes::Change;
use super::manifest::Document;
use super::preconditions::forbidden;
use super::publish::ApplyError;
use crate::domain::id::KeyId;
use crate::domain::snapshot::CatalogSnapshot;

/// The author of a catalog change, with the reason.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The name in the history.
    pub actor: &'a str,
    /// The author's note.
    pub note: &'a str,
    /// The key, if one was used.
    pub key: Option<KeyId>,
    /// The author's additional rights.
    pub rights: Rights,
}

impl<'a> By<'a> {
    /// Herald itself, or someone with shell access: everything is allowed.
    pub const fn unlimited(actor: &'a str, note: &'a str) -> Self {
        Self { actor, note, key: None, rights: Rights::ALL }
    }
}

/// Additional rights of a catalog change, each of which exceeds editing templates and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right of its own, and any of them go together")]
pub struct Rights {
    /// Change sources: their mappings create events.
    pub change_sources: bool,
    /// Change apps: which recipients an event can have.
    pub change_apps: bool,
    /// Send unapproved content where approval was required.
    pub lift_approval: bool,
    /// Make sensitive values public.
    pub unmask_values: bool,
}

impl Rights {
    /// All of them.
    pub const ALL: Self =
        Self { change_sources: true, change_apps: true, lift_approval: true, unmask_values: true };
}

/// Rejects changes that exceed the author's rights.
pub(super) fn permitted(
    changes: &[Change],
    (document, snapshot): (&Document, &CatalogSnapshot),
    rights: Rights,
) -> Result<(), ApplyError> {
    let problems = forbidden(changes, (document, snapshot), rights);
    if problems.is_empty() { Ok(()) } else { Err(ApplyError::NotPermitted(problems)) }
}
