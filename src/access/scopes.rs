//! Scopes, and the permission table of the API.

/// A scope of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Post events.
    EventsWrite,
    /// Read events.
    EventsRead,
    /// Read deliveries with their traces.
    DeliveriesRead,
    /// Release, cancel and replay deliveries.
    DeliveriesWrite,
    /// Read the catalog.
    CatalogRead,
    /// Change the catalog.
    CatalogWrite,
    /// Make, list and revoke keys.
    KeysWrite,
    /// Read apps and gates.
    AppsRead,
    /// Change apps and their keys, and close and open gates.
    AppsWrite,
    /// Read sources, and test their mappings.
    SourcesRead,
    /// Change sources and their secrets, and reprocess bodies; requires `events:write` as well, since mappings and
    /// secrets can create events.
    SourcesWrite,
    /// Read received webhook bodies, which may contain personal data.
    BodiesRead,
    /// Read metrics.
    MetricsRead,
    /// Read users.
    UsersRead,
    /// Change users, and import them.
    UsersWrite,
    /// Export everything about a user.
    UsersExport,
    /// Erase users.
    UsersErase,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 17] = [
        Self::EventsWrite,
        Self::EventsRead,
        Self::DeliveriesRead,
        Self::DeliveriesWrite,
        Self::CatalogRead,
        Self::CatalogWrite,
        Self::KeysWrite,
        Self::AppsRead,
        Self::AppsWrite,
        Self::SourcesRead,
        Self::SourcesWrite,
        Self::BodiesRead,
        Self::MetricsRead,
        Self::UsersRead,
        Self::UsersWrite,
        Self::UsersExport,
        Self::UsersErase,
    ];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventsWrite => "events:write",
            Self::EventsRead => "events:read",
            Self::DeliveriesRead => "deliveries:read",
            Self::DeliveriesWrite => "deliveries:write",
            Self::CatalogRead => "catalog:read",
            Self::CatalogWrite => "catalog:write",
            Self::KeysWrite => "keys:write",
            Self::AppsRead => "apps:read",
            Self::AppsWrite => "apps:write",
            Self::SourcesRead => "sources:read",
            Self::SourcesWrite => "sources:write",
            Self::BodiesRead => "bodies:read",
            Self::MetricsRead => "metrics:read",
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::UsersExport => "users:export",
            Self::UsersErase => "users:erase",
        }
    }

    /// Parses a scope.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// One use of the API: a route and method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table in `needs` says what each is")]
pub enum Use {
    PostEvent,
    ReadEvents,
    InferSchemas,
    ReadDeliveries,
    ReadOverviews,
    ReleaseDelivery,
    ReplayDelivery,
    ReplayMany,
    RepairStats,
    ReadApps,
    ChangeApp,
    ChangeGate,
    ReadCatalog,
    PlanCatalog,
    ApplyCatalog,
    ChangeCatalog,
    TestSend,
    ManageTestRecipients,
    LiftApproval,
    UnmaskValues,
    CancelWaiting,
    CancelDelivery,
    ManageKeys,
    ReadSources,
    ChangeSource,
    RevokeSecret,
    ReadBodies,
    ReadMetrics,
    ReadUsers,
    ChangeUsers,
    ExportUsers,
    EraseUsers,
    EditDraft,
    Publish,
    ManageTeam,
    BeLoggedIn,
}

impl Use {
    /// Every use.
    pub const ALL: [Self; 36] = [
        Self::PostEvent,
        Self::ReadEvents,
        Self::InferSchemas,
        Self::ReadDeliveries,
        Self::ReadOverviews,
        Self::ReleaseDelivery,
        Self::ReplayDelivery,
        Self::ReplayMany,
        Self::RepairStats,
        Self::ReadApps,
        Self::ChangeApp,
        Self::ChangeGate,
        Self::ReadCatalog,
        Self::PlanCatalog,
        Self::ApplyCatalog,
        Self::ChangeCatalog,
        Self::TestSend,
        Self::ManageTestRecipients,
        Self::LiftApproval,
        Self::UnmaskValues,
        Self::CancelWaiting,
        Self::CancelDelivery,
        Self::ManageKeys,
        Self::ReadSources,
        Self::ChangeSource,
        Self::RevokeSecret,
        Self::ReadBodies,
        Self::ReadMetrics,
        Self::ReadUsers,
        Self::ChangeUsers,
        Self::ExportUsers,
        Self::EraseUsers,
        Self::EditDraft,
        Self::Publish,
        Self::ManageTeam,
        Self::BeLoggedIn,
    ];

    /// The permission table for keys: all scopes that each use requires. `Role::may` is the one for people.
    pub fn needs(self) -> &'static [Scope] {
        match self {
            Self::PostEvent | Self::CancelWaiting => &[Scope::EventsWrite],
            Self::ReadEvents | Self::InferSchemas => &[Scope::EventsRead],
            Self::ReadDeliveries | Self::ReadOverviews => &[Scope::DeliveriesRead],
            Self::ReleaseDelivery
            | Self::ReplayDelivery
            | Self::ReplayMany
            | Self::CancelDelivery
            | Self::RepairStats => &[Scope::DeliveriesWrite],
            Self::ReadApps => &[Scope::AppsRead],
            Self::ChangeApp | Self::ChangeGate => &[Scope::AppsWrite],
            Self::ReadCatalog | Self::PlanCatalog => &[Scope::CatalogRead],
            Self::ApplyCatalog | Self::ChangeCatalog | Self::EditDraft | Self::Publish | Self::TestSend => {
                &[Scope::CatalogWrite]
            }
            // Who hands out keys decides whom tests may reach, that copy needs no second person, and that a value is
            // no longer sensitive: who writes copy does not. The team is managed by people and at the database, never
            // with a key.
            Self::ManageKeys
            | Self::ManageTestRecipients
            | Self::LiftApproval
            | Self::UnmaskValues
            | Self::ManageTeam
            | Self::BeLoggedIn => &[Scope::KeysWrite],
            Self::ReadSources => &[Scope::SourcesRead],
            // A source's secret or mapping is as good as a key that posts its events.
            Self::ChangeSource => &[Scope::SourcesWrite, Scope::EventsWrite],
            Self::RevokeSecret => &[Scope::SourcesWrite],
            Self::ReadBodies => &[Scope::BodiesRead],
            Self::ReadMetrics => &[Scope::MetricsRead],
            Self::ReadUsers => &[Scope::UsersRead],
            Self::ChangeUsers => &[Scope::UsersWrite],
            Self::ExportUsers => &[Scope::UsersExport],
            Self::EraseUsers => &[Scope::UsersErase],
        }
    }
}

/// What a restricted key may do with a use of the API: a test key while live apps exist, or a key limited to the
/// events of some sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NarrowUse {
    /// Everything: it neither shows nor affects others' events. What a test key posts or sends is marked as a test, and
    /// reaches sandbox apps only.
    Allowed,
    /// Only for the events that the key may access: those posted with a test key, or by its sources.
    OwnEvents,
    /// Nothing: it shows or changes what is common to all events.
    Refused,
}

impl Use {
    /// The table for test keys while live apps exist.
    pub fn by_test_key(self) -> NarrowUse {
        match self {
            Self::PostEvent
            | Self::ReadApps
            | Self::ReadCatalog
            | Self::PlanCatalog
            | Self::ReadSources
            | Self::ReadMetrics
            | Self::TestSend => NarrowUse::Allowed,
            Self::ReadEvents
            | Self::ReadDeliveries
            | Self::ReleaseDelivery
            | Self::ReplayDelivery
            | Self::CancelWaiting
            | Self::CancelDelivery => NarrowUse::OwnEvents,
            Self::InferSchemas
            | Self::ReadOverviews
            | Self::ReplayMany
            | Self::RepairStats
            | Self::ChangeApp
            | Self::ChangeGate
            | Self::ApplyCatalog
            | Self::ChangeCatalog
            | Self::ManageTestRecipients
            | Self::LiftApproval
            | Self::UnmaskValues
            | Self::ManageKeys
            | Self::ChangeSource
            | Self::RevokeSecret
            | Self::ReadBodies
            | Self::ReadUsers
            | Self::ChangeUsers
            | Self::ExportUsers
            | Self::EraseUsers
            | Self::EditDraft
            | Self::Publish
            | Self::ManageTeam
            | Self::BeLoggedIn => NarrowUse::Refused,
        }
    }

    /// The table for keys limited to the events of some sources. Refused uses would show or affect the
    /// events of others.
    pub fn by_limited_key(self) -> NarrowUse {
        match self {
            Self::PostEvent
            | Self::ReadApps
            | Self::ReadCatalog
            | Self::PlanCatalog
            | Self::ReadSources
            | Self::ReadMetrics
            | Self::ApplyCatalog
            | Self::ChangeCatalog
            | Self::EditDraft
            | Self::Publish
            | Self::TestSend
            | Self::CancelWaiting => NarrowUse::Allowed,
            Self::ReadEvents
            | Self::ReadDeliveries
            | Self::ReleaseDelivery
            | Self::ReplayDelivery
            | Self::CancelDelivery => NarrowUse::OwnEvents,
            Self::InferSchemas
            | Self::ReadOverviews
            | Self::ReplayMany
            | Self::RepairStats
            | Self::ChangeApp
            | Self::ChangeGate
            | Self::ManageTestRecipients
            | Self::LiftApproval
            | Self::UnmaskValues
            | Self::ManageKeys
            | Self::ChangeSource
            | Self::RevokeSecret
            | Self::ReadBodies
            | Self::ReadUsers
            | Self::ChangeUsers
            | Self::ExportUsers
            | Self::EraseUsers
            | Self::ManageTeam
            | Self::BeLoggedIn => NarrowUse::Refused,
        }
    }
}
