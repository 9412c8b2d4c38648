//! The team: members and roles.

use axum::body::Body;
use maud::{Markup, html};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::super::components::when;
use super::super::failure::Failure;
use super::super::forms;
use super::super::login::sentence;
use super::super::page_context::{Shown, View, done};
use super::below;
use crate::access::{Member, NewMember, Role, TeamError, plain_email};
use crate::domain::clock::Timestamp;

impl From<TeamError> for Failure {
    fn from(error: TeamError) -> Self {
        match error {
            TeamError::Store(error) => error.into(),
            TeamError::Busy => Self::TooMany(std::time::Duration::from_secs(5)),
            TeamError::Known(_) | TeamError::LastAdmin(_) => Self::Conflict(sentence(&error)),
            TeamError::Unknown(_) => Self::NotFound(sentence(&error)),
            _ => Self::Invalid(sentence(&error)),
        }
    }
}

fn roles(chosen: Role) -> Markup {
    html! {
        @for role in Role::ALL {
            option value=(role.as_str()) selected[role == chosen] { (role.as_str()) ": " (role.about()) }
        }
    }
}

fn row(member: &Member, now: Timestamp) -> Markup {
    let row = &member.row;
    html! {
        tr {
            td { strong { (row.name) } div.sub { (row.email) } }
            td.below {
                form.actions method="post" action="/settings/team/change" {
                    input type="hidden" name="email" value=(row.email);
                    select name="role" aria-label={ "Role of " (row.name) } { (roles(member.role)) }
                    button { "Set" }
                }
            }
            td {
                @match (row.disabled_at, row.has_password, row.seen_at) {
                    (Some(at), ..) => { "deactivated " (when(at, now)) },
                    (None, false, _) if row.email.ends_with("@localhost") => "local development",
                    (None, false, _) => "invited",
                    (None, true, Some(at)) => { "here " (when(at, now)) },
                    (None, true, None) => "not active recently",
                }
                @if row.has_second_factor { div.sub { "second factor on" } }
                @else if !row.email.ends_with("@localhost") { div.sub { "no second factor" } }
            }
            td.below {
                div.actions {
                    form method="post" action="/settings/team/link" {
                        input type="hidden" name="email" value=(row.email);
                        button { "Reset link" }
                    }
                    @if row.has_second_factor {
                        form method="post" action="/settings/team/reset-second-factor" data-asks={ "Reset the second factor of " (row.name) "? Their sessions end, and only their password is required until they set one up again." } {
                            input type="hidden" name="email" value=(row.email);
                            button { "Reset second factor" }
                        }
                    }
                    @let is_out = row.disabled_at.is_some();
                    form method="post" action="/settings/team/change" data-asks=[(!is_out).then(|| format!("Deactivate {}? Their sessions end immediately.", row.name))] {
                        input type="hidden" name="email" value=(row.email);
                        input type="hidden" name="is_disabled" value=(if is_out { "no" } else { "yes" });
                        button.danger[!is_out] { (if is_out { "Reactivate" } else { "Deactivate" }) }
                    }
                }
            }
        }
    }
}

pub(in super::super) async fn page(view: View) -> Shown {
    let members = view.console.team.members().await?;
    let now = view.now();
    let body = html! {
        h1 { "Team" }
        table.rows {
            thead { tr { th { "Who" } th { "Role" } th { "State" } th { "" } } }
            tbody { @for member in &members { (row(member, now)) } }
        }
        h2 { "Invite member" }
        form.stack method="post" action="/settings/team" {
            label { "Name" input type="text" name="name" required maxlength="200" autocomplete="off"; }
            label { "E-mail" input type="email" name="email" required maxlength="200" autocomplete="off"; }
            label { "Role" select name="role" { (roles(Role::Editor)) } }
            button.primary { "Invite" }
        }
    };
    below(&view, "Team", body).await
}

/// The link of an invitation. Its token is in the URL fragment, which is not sent to servers.
async fn link_page(view: &View, email: &str, token: &SecretString) -> Shown {
    let base = view
        .console
        .public_url
        .as_ref()
        .map_or_else(String::new, |url| url.as_str().trim_end_matches('/').to_owned());
    let link = format!("{base}/welcome#{}", token.expose_secret());
    let body = html! {
        h1 { "Link for " (email) }
        p { "Share it privately. It works once within seven days, and is shown only once." }
        pre { code { (link) } }
        @if base.is_empty() { p.soft { "Add this console's address before it, or set " code { "console.public_url" } " to get the full URL." } }
        div.actions {
            button.primary type="button" data-copies=(link) { "Copy" }
            a.button href="/settings/team" { "Back" }
        }
    };
    below(view, "Link", body).await
}

/// A new member.
#[derive(Debug, Deserialize)]
pub(in super::super) struct InviteForm {
    name: String,
    email: String,
    role: String,
}

fn role(word: &str) -> Result<Role, Failure> {
    Role::find(word).ok_or_else(|| Failure::Invalid(format!("Unknown role `{word}`.")))
}

pub(in super::super) async fn invite(view: View, body: Body) -> Shown {
    let form: InviteForm = forms::read(body).await?;
    let new = NewMember { email: &form.email, name: &form.name, role: role(&form.role)? };
    let token = view.console.team.invite(&view.person.email, new).await?;
    link_page(&view, &form.email, &token).await
}

/// An existing member.
#[derive(Debug, Deserialize)]
pub(in super::super) struct MemberForm {
    email: String,
    role: Option<String>,
    is_disabled: Option<String>,
}

pub(in super::super) async fn change(view: View, body: Body) -> Shown {
    let form: MemberForm = forms::read(body).await?;
    let wanted = form.role.as_deref().map(role).transpose()?;
    let is_disabled = form.is_disabled.as_deref().map(|text| text == "yes");
    if is_disabled == Some(true) && plain_email(&form.email) == view.person.email {
        return Err(Failure::Conflict("You can't deactivate yourself. Ask another admin.".to_owned()));
    }
    let member = view.console.team.change(&view.person.email, &form.email, wanted, is_disabled).await?;
    let said = match is_disabled {
        Some(true) => format!("{} is deactivated.", member.row.name),
        Some(false) => format!("{} is reactivated.", member.row.name),
        None => format!("{} is now {}.", member.row.name, member.role.as_str()),
    };
    Ok(done("/settings/team", &said))
}

pub(in super::super) async fn link(view: View, body: Body) -> Shown {
    let form: MemberForm = forms::read(body).await?;
    let token = view.console.team.new_link(&view.person.email, &form.email).await?;
    link_page(&view, &form.email, &token).await
}
