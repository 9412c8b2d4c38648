//! All pages and actions with their permissions. A route that is not listed here does not exist.

use std::sync::Arc;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use super::failure::Failure;
use super::guard::{self, Gate};
use super::{
    Console, assets, confirm, connectors, delivery, devices, event, event_feed, event_types, health, imports,
    issues, login, outcomes, palette, provider, recipients, rules, second_step, settings, templates,
};
use crate::access::Use;

/// Maximum pages rendered concurrently. Further requests are rejected immediately: users reload slow pages, which makes
/// an overload worse.
const PAGES_AT_ONCE: usize = 32;

/// One method of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteInfo {
    /// The method.
    pub method: Method,
    /// The path, with `{names}`.
    pub path: &'static str,
    /// The required permission; `None` if no login is required.
    pub needs: Option<Use>,
}

/// Builds the routes.
pub(super) struct Routes<'a> {
    console: Option<&'a Arc<Console>>,
    router: Router<Arc<Console>>,
    table: Vec<RouteInfo>,
    at_once: GlobalConcurrencyLimitLayer,
}

impl Routes<'_> {
    /// A page that is read.
    pub fn get<H, T>(self, path: &'static str, needs: Use, handler: H) -> Self
    where
        H: Handler<T, Arc<Console>>,
        T: 'static,
    {
        self.add((Method::GET, MethodFilter::GET), path, Some(needs), handler)
    }

    /// An action.
    pub fn post<H, T>(self, path: &'static str, needs: Use, handler: H) -> Self
    where
        H: Handler<T, Arc<Console>>,
        T: 'static,
    {
        self.add((Method::POST, MethodFilter::POST), path, Some(needs), handler)
    }

    /// A page without a login.
    pub fn open_get<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Console>>,
        T: 'static,
    {
        self.add((Method::GET, MethodFilter::GET), path, None, handler)
    }

    /// An action without a login.
    pub fn open_post<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Console>>,
        T: 'static,
    {
        self.add((Method::POST, MethodFilter::POST), path, None, handler)
    }

    fn add<H, T>(
        mut self,
        (method, filter): (Method, MethodFilter),
        path: &'static str,
        needs: Option<Use>,
        handler: H,
    ) -> Self
    where
        H: Handler<T, Arc<Console>>,
        T: 'static,
    {
        self.table.push(RouteInfo { method, path, needs });
        if let Some(console) = self.console {
            let gate = Gate { console: Arc::clone(console), path, needs };
            let mut guarded = on(filter, handler).route_layer(from_fn_with_state(gate, guard::guard));
            if needs.is_some() {
                let limits = ServiceBuilder::new()
                    .layer(HandleErrorLayer::new(async |_| Failure::Busy))
                    .layer(LoadShedLayer::new())
                    .layer(self.at_once.clone());
                guarded = guarded.route_layer(limits);
            }
            self.router = self.router.route(path, guarded);
        }
        self
    }
}

fn all(console: Option<&Arc<Console>>) -> Routes<'_> {
    let at_once = GlobalConcurrencyLimitLayer::new(PAGES_AT_ONCE);
    let routes = Routes { console, router: Router::new(), table: Vec::new(), at_once };
    settings_routes(answers(copy(operations(event_pages(login_and_assets(routes))))))
}

/// Login, logout and assets.
fn login_and_assets(routes: Routes<'_>) -> Routes<'_> {
    routes
        .open_get("/assets/{name}", assets::serve)
        .open_get("/mail-frame", devices::mail_frame)
        .open_get("/log-in", login::log_in_page)
        .open_post("/log-in", login::log_in)
        .open_get("/log-in/code", second_step::page)
        .open_post("/log-in/code", second_step::enter)
        .open_post("/log-in/provider", provider::begin)
        .open_get("/log-in/provider/callback", provider::finish)
        .open_get("/set-up", login::set_up_page)
        .open_post("/set-up", login::set_up)
        .open_get("/welcome", login::welcome_page)
        .open_post("/welcome", login::welcome)
        .get("/confirm", Use::BeLoggedIn, confirm::page)
        .post("/confirm", Use::BeLoggedIn, confirm::confirm)
        .post("/log-out", Use::BeLoggedIn, login::log_out)
}

/// Events, deliveries and recipients.
fn event_pages(routes: Routes<'_>) -> Routes<'_> {
    routes
        .get("/", Use::ReadEvents, event_feed::page)
        .get("/live/rows", Use::ReadEvents, event_feed::rows)
        .get("/events/{id}", Use::ReadEvents, event::page)
        .get("/deliveries/{id}", Use::ReadDeliveries, delivery::page)
        .post("/deliveries/{id}/release", Use::ReleaseDelivery, delivery::release)
        .post("/deliveries/{id}/cancel", Use::CancelDelivery, delivery::cancel)
        .get("/deliveries/{id}/outcomes", Use::ReadDeliveries, delivery::outcomes)
        .get("/outcomes", Use::ReadOverviews, outcomes::page)
        .get("/palette", Use::ReadCatalog, palette::find)
        .get("/recipients", Use::ReadDeliveries, recipients::find)
        .get("/recipients/{label}/{id}", Use::ReadDeliveries, recipients::page)
        .get("/imports", Use::ReadUsers, imports::list)
        // Its rows are personal data.
        .get("/imports/{id}", Use::ChangeUsers, imports::page)
        .post("/imports/{id}/start", Use::ChangeUsers, imports::start)
        .post("/imports/{id}/cancel", Use::ChangeUsers, imports::cancel)
        .get("/connectors", Use::ReadSources, connectors::list)
        .get("/connectors/{name}", Use::ReadSources, connectors::page)
        .post("/connectors/{name}/start", Use::ChangeSource, connectors::start)
        .post("/connectors/{name}/pause", Use::ChangeSource, connectors::pause)
}

/// Issues and health.
fn operations(routes: Routes<'_>) -> Routes<'_> {
    routes
        .get("/issues", Use::ReadDeliveries, issues::page)
        .get("/issues/group", Use::ReadDeliveries, issues::group)
        .get("/issues/export", Use::ReadDeliveries, issues::export)
        .get("/issues/release", Use::ReleaseDelivery, issues::release_plan)
        .post("/issues/release", Use::ReleaseDelivery, issues::release)
        .get("/issues/replay", Use::ReplayDelivery, issues::replay_plan)
        .post("/issues/replay", Use::ReplayDelivery, issues::replay)
        .post("/issues/switches/close", Use::ChangeGate, issues::close)
        .post("/issues/switches/open", Use::ChangeGate, issues::open)
        .get("/health", Use::ReadMetrics, health::page)
        .get("/health/parts", Use::ReadMetrics, health::fresh)
}

/// Copy.
fn copy(routes: Routes<'_>) -> Routes<'_> {
    routes
        .get("/templates", Use::ReadCatalog, templates::list_page)
        .post("/templates", Use::ChangeCatalog, templates::create)
        .get("/templates/{key}", Use::ReadCatalog, templates::editor_page)
        .post("/templates/{key}/draft", Use::EditDraft, templates::save)
        .post("/templates/{key}/discard", Use::EditDraft, templates::discard)
        .post("/templates/{key}/preview", Use::ReadCatalog, templates::preview)
        .get("/templates/{key}/publish", Use::ReadCatalog, templates::publish_page)
        .post("/templates/{key}/publish", Use::Publish, templates::publish)
        .post("/templates/{key}/approve", Use::Publish, templates::approve)
        .get("/templates/{key}/test", Use::TestSend, templates::test_page)
        .post("/templates/{key}/test", Use::TestSend, templates::send_test)
        .get("/templates/{key}/history", Use::ReadCatalog, templates::history_page)
        .get("/templates/{key}/clicks", Use::ReadDeliveries, templates::clicks)
        .post("/templates/{key}/rollback", Use::Publish, templates::roll_back)
}

/// Rules and event types.
fn answers(routes: Routes<'_>) -> Routes<'_> {
    routes
        .get("/rules", Use::ReadCatalog, rules::list)
        .post("/rules", Use::ChangeCatalog, rules::save)
        .get("/rules/new", Use::ChangeCatalog, rules::new_page)
        .post("/rules/try", Use::ReadEvents, rules::try_out)
        .get("/rules/{key}", Use::ReadCatalog, rules::page)
        .post("/rules/{key}", Use::ChangeCatalog, rules::save)
        .post("/rules/{key}/delete", Use::ChangeCatalog, rules::delete)
        .get("/event-types", Use::ReadCatalog, event_types::list)
        .post("/event-types", Use::ChangeCatalog, event_types::save)
        .get("/event-types/new", Use::ChangeCatalog, event_types::new_page)
        .get("/event-types/{name}", Use::ReadCatalog, event_types::page)
        .post("/event-types/{name}", Use::ChangeCatalog, event_types::save)
        .post("/event-types/{name}/delete", Use::ChangeCatalog, event_types::delete)
}

/// Settings.
fn settings_routes(routes: Routes<'_>) -> Routes<'_> {
    routes
        .get("/settings", Use::BeLoggedIn, settings::page)
        .get("/settings/apps", Use::ReadApps, settings::apps_page)
        .get("/settings/audit", Use::ReadCatalog, settings::audit_page)
        .get("/settings/keys", Use::ManageKeys, settings::keys_page)
        .post("/settings/keys", Use::ManageKeys, settings::create_key)
        .post("/settings/keys/{id}/revoke", Use::ManageKeys, settings::revoke_key)
        .get("/settings/password", Use::BeLoggedIn, settings::password_page)
        .post("/settings/password", Use::BeLoggedIn, settings::change_password)
        .get("/settings/retention", Use::ReadMetrics, settings::retention_page)
        .get("/settings/second-factor", Use::BeLoggedIn, settings::factor_page)
        .post("/settings/second-factor", Use::BeLoggedIn, settings::begin_factor)
        .post("/settings/second-factor/activate", Use::BeLoggedIn, settings::activate_factor)
        .post("/settings/second-factor/codes", Use::BeLoggedIn, settings::new_recovery_codes)
        .post("/settings/second-factor/remove", Use::BeLoggedIn, settings::remove_factor)
        .get("/settings/team", Use::ManageTeam, settings::team_page)
        .post("/settings/team", Use::ManageTeam, settings::invite)
        .post("/settings/team/change", Use::ManageTeam, settings::change_member)
        .post("/settings/team/link", Use::ManageTeam, settings::member_link)
        .post("/settings/team/reset-second-factor", Use::ManageTeam, settings::reset_factor)
        .get("/settings/webhooks", Use::ReadSources, settings::webhooks_page)
}

pub(super) fn build(console: &Arc<Console>) -> Router<Arc<Console>> {
    all(Some(console)).router
}

/// All routes, for the test of the permission table.
pub fn table() -> Vec<RouteInfo> {
    all(None).table
}
