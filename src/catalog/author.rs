//! Who changes the catalog, and what they may do besides writing copy and rules.

use super::changes::Change;
use super::manifest::Document;
use super::preconditions::forbidden;
use super::publish::ApplyError;
use crate::domain::id::KeyId;
use crate::domain::snapshot::CatalogSnapshot;

/// Who changes the catalog, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The name in the history.
    pub actor: &'a str,
    /// In the person's words.
    pub note: &'a str,
    /// The key, if one was used.
    pub key: Option<KeyId>,
    /// What the change may do besides changing the catalog.
    pub rights: Rights,
}

impl<'a> By<'a> {
    /// Herald itself, or somebody at its shell: nothing is forbidden.
    pub const fn unlimited(actor: &'a str, note: &'a str) -> Self {
        Self { actor, note, key: None, rights: Rights::ALL }
    }
}

/// What a change of the catalog may do besides: each of these is more than writing copy and rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a right of its own, and any of them go together")]
pub struct Rights {
    /// Change sources: their mappings make events.
    pub change_sources: bool,
    /// Change apps: who can be named in an event.
    pub change_apps: bool,
    /// Send what no second person has to approve where until now somebody had to.
    pub lift_approval: bool,
    /// Store and show values in clear that were sensitive until now.
    pub unmask_values: bool,
}

impl Rights {
    /// All of them.
    pub const ALL: Self =
        Self { change_sources: true, change_apps: true, lift_approval: true, unmask_values: true };
}

/// Refuses what the author's rights don't cover.
pub(super) fn permitted(
    changes: &[Change],
    (document, snapshot): (&Document, &CatalogSnapshot),
    rights: Rights,
) -> Result<(), ApplyError> {
    let problems = forbidden(changes, (document, snapshot), rights);
    if problems.is_empty() { Ok(()) } else { Err(ApplyError::NotPermitted(problems)) }
}
