//! Scopes, and the table of what each use of the API needs.

/// What a key may do.
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
    /// Read sources, and try their mappings.
    SourcesRead,
    /// Change sources, their secrets, and replay what they sent.
    SourcesWrite,
    /// Read the bodies that webhooks received: they may hold personal data.
    BodiesRead,
    /// Read metrics.
    MetricsRead,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 13] = [
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
    ];

    /// The word for it.
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
        }
    }

    /// Reads a scope's word.
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
    ReadDeliveries,
    ReleaseDelivery,
    ReplayDelivery,
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
    CancelWaiting,
    CancelDelivery,
    ManageKeys,
    ReadSources,
    ChangeSource,
    ReadBodies,
    ReadMetrics,
    EditDraft,
    Publish,
    ManageTeam,
    BeLoggedIn,
}

impl Use {
    /// Every use.
    pub const ALL: [Self; 26] = [
        Self::PostEvent,
        Self::ReadEvents,
        Self::ReadDeliveries,
        Self::ReleaseDelivery,
        Self::ReplayDelivery,
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
        Self::CancelWaiting,
        Self::CancelDelivery,
        Self::ManageKeys,
        Self::ReadSources,
        Self::ChangeSource,
        Self::ReadBodies,
        Self::ReadMetrics,
        Self::EditDraft,
        Self::Publish,
        Self::ManageTeam,
        Self::BeLoggedIn,
    ];

    /// The permission table for keys: the scope that each use needs. `Role::may` is the one for people.
    pub fn needs(self) -> Scope {
        match self {
            Self::PostEvent | Self::CancelWaiting => Scope::EventsWrite,
            Self::ReadEvents => Scope::EventsRead,
            Self::ReadDeliveries => Scope::DeliveriesRead,
            Self::ReleaseDelivery | Self::ReplayDelivery | Self::CancelDelivery => Scope::DeliveriesWrite,
            Self::ReadApps => Scope::AppsRead,
            Self::ChangeApp | Self::ChangeGate => Scope::AppsWrite,
            Self::ReadCatalog | Self::PlanCatalog => Scope::CatalogRead,
            Self::ApplyCatalog | Self::ChangeCatalog | Self::EditDraft | Self::Publish | Self::TestSend => {
                Scope::CatalogWrite
            }
            // Who may be reached by a test is decided by whoever hands out keys.
            // Nor does whoever writes copy decide that nobody else has to look at it.
            // The team is managed by people and at the database, never with a key.
            Self::ManageKeys
            | Self::ManageTestRecipients
            | Self::LiftApproval
            | Self::ManageTeam
            | Self::BeLoggedIn => Scope::KeysWrite,
            Self::ReadSources => Scope::SourcesRead,
            Self::ChangeSource => Scope::SourcesWrite,
            Self::ReadBodies => Scope::BodiesRead,
            Self::ReadMetrics => Scope::MetricsRead,
        }
    }
}
