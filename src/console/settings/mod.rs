//! Settings: apps, keys, the team, the audit log.

mod apps;
mod audit;
mod keys;
mod password;
mod retention;
mod second_factor;
mod team;
mod webhooks;

pub(super) use apps::page as apps_page;
pub(super) use audit::page as audit_page;
pub(super) use keys::{create as create_key, page as keys_page, revoke as revoke_key};
pub(super) use password::{change as change_password, page as password_page};
pub(super) use retention::page as retention_page;
pub(super) use second_factor::{
    activate as activate_factor, begin as begin_factor, new_codes as new_recovery_codes, page as factor_page,
    remove as remove_factor, reset as reset_factor,
};
pub(super) use team::{change as change_member, invite, link as member_link, page as team_page};
pub(super) use webhooks::page as webhooks_page;

use maud::{Markup, html};

use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::access::Use;

/// The pages below, with what each needs.
const PAGES: [(&str, &str, &str, Use); 8] = [
    ("/settings/apps", "Apps", "the OneSignal apps that messages are sent through", Use::ReadApps),
    ("/settings/keys", "Sources and keys", "who may post events, and with which keys", Use::ManageKeys),
    (
        "/settings/webhooks",
        "Webhooks",
        "received calls, and rejected calls with their reasons",
        Use::ReadSources,
    ),
    ("/settings/team", "Team", "who can log in, and their roles", Use::ManageTeam),
    ("/settings/audit", "Audit log", "who changed what, when and why", Use::ReadCatalog),
    ("/settings/retention", "Retention", "what is stored, for how long, and its size", Use::ReadMetrics),
    ("/settings/password", "Your password", "change your password", Use::BeLoggedIn),
    (
        "/settings/second-factor",
        "Your second factor",
        "authenticator app and recovery codes",
        Use::BeLoggedIn,
    ),
];

pub(super) async fn page(view: View) -> Shown {
    let body = html! {
        h1 { "Settings" }
        table.rows {
            tbody {
                @for (href, name, about, needs) in PAGES {
                    @if view.person.may(needs) {
                        tr { td { a.whole href=(href) { (name) } } td.below { (about) } }
                    }
                }
            }
        }
        p.soft { "Process settings (addresses, limits, durations) are in " code { "herald.toml" } " and " code { "HERALD_…" } " variables, not here." }
    };
    view.page(Place::Settings, &[Crumb::here("Settings")], body).await
}

/// A page of the settings.
async fn below(view: &View, name: &str, body: Markup) -> Shown {
    view.page(Place::Settings, &[Crumb::to("Settings", "/settings"), Crumb::here(name)], body).await
}
