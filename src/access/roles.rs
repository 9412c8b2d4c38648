//! Roles and their permission table.

use super::scopes::Use;

/// A member's role. The names are used by the database and the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Read-only.
    Viewer,
    /// Edits drafts, without publishing.
    Editor,
    /// Publishes, and changes rules and event types.
    Publisher,
    /// Operates: releases, cancels, replays, pauses.
    Operator,
    /// Full access, including team management.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Viewer, Self::Editor, Self::Publisher, Self::Operator, Self::Admin];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Publisher => "publisher",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Parses a role.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// A short description.
    pub fn about(self) -> &'static str {
        match self {
            Self::Viewer => "views everything except secrets",
            Self::Editor => "edits drafts and sends tests",
            Self::Publisher => "publishes, and changes rules and event types",
            Self::Operator => "releases, cancels, replays, and pauses sending",
            Self::Admin => "full access, including team management",
        }
    }

    /// The permission table for people; [`Use::needs`] is the one for keys.
    pub fn may(self, what: Use) -> bool {
        match what {
            Use::ReadEvents
            | Use::InferSchemas
            | Use::ReadDeliveries
            | Use::ReadOverviews
            | Use::ReadApps
            | Use::ReadCatalog
            | Use::PlanCatalog
            | Use::ReadSources
            | Use::ReadMetrics
            | Use::ReadUsers
            | Use::BeLoggedIn => true,
            Use::EditDraft | Use::TestSend => matches!(self, Self::Editor | Self::Publisher | Self::Admin),
            Use::ChangeCatalog | Use::ApplyCatalog | Use::Publish => {
                matches!(self, Self::Publisher | Self::Admin)
            }
            Use::ReleaseDelivery
            | Use::ReplayDelivery
            | Use::ReplayMany
            | Use::RepairStats
            | Use::CancelDelivery
            | Use::CancelWaiting
            | Use::ChangeGate
            | Use::ChangeUsers
            | Use::ReadBodies => matches!(self, Self::Operator | Self::Admin),
            Use::PostEvent
            | Use::ChangeApp
            | Use::ChangeSource
            | Use::RevokeSecret
            | Use::LiftApproval
            | Use::UnmaskValues
            | Use::ManageTestRecipients
            | Use::ManageKeys
            | Use::ExportUsers
            | Use::EraseUsers
            | Use::ManageTeam => self == Self::Admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_everything_and_a_viewer_changes_nothing() {
        for what in Use::ALL {
            assert!(Role::Admin.may(what), "{what:?}");
        }
        let looks: Vec<Use> = Use::ALL.into_iter().filter(|what| Role::Viewer.may(*what)).collect();
        assert!(
            looks.iter().all(|what| format!("{what:?}").starts_with("Read")
                || matches!(what, Use::PlanCatalog | Use::InferSchemas | Use::BeLoggedIn)),
            "{looks:?}"
        );
    }

    #[test]
    fn who_writes_copy_does_not_decide_what_goes_out_and_who_keeps_it_going_does_not_write_it() {
        assert!(Role::Editor.may(Use::EditDraft) && !Role::Editor.may(Use::Publish));
        assert!(Role::Operator.may(Use::ReplayDelivery) && !Role::Operator.may(Use::EditDraft));
        assert!(Role::Publisher.may(Use::Publish) && !Role::Publisher.may(Use::ReplayDelivery));
        assert!(Role::ALL.into_iter().filter(|role| role.may(Use::ManageTeam)).eq([Role::Admin]));
    }

    #[test]
    fn every_role_is_found_by_its_word() {
        assert!(Role::ALL.into_iter().all(|role| Role::find(role.as_str()) == Some(role)));
        assert_eq!(Role::find("root"), None);
    }
}
