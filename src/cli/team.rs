//! `herald team`: who may log in to the console. It works at the database, like the first key: anyone who has that is
//! trusted with everything anyway.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Subcommand;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::access::{Member, NewMember, Role, Team};
use crate::app::{open_store, team_options};
use crate::config::Settings;
use crate::domain::id::IdSource;
use crate::store::Store;
use crate::store::clock::PgClock;

/// The actor in the audit log.
const ACTOR: &str = "herald team";

#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// List members
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the set-up token for the first admin
    SetUp,
    /// Invite a member; prints the link to choose a password
    Invite {
        /// Email address
        email: String,
        /// Display name
        #[arg(long)]
        name: String,
        /// Role: viewer, editor, publisher, operator or admin
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Create a new password link for a member
    Link {
        /// Email address
        email: String,
    },
    /// Change a member's role
    Role {
        /// Email address
        email: String,
        /// Role: viewer, editor, publisher, operator or admin
        role: String,
    },
    /// Deactivate a member and end their sessions
    Disable {
        /// Email address
        email: String,
    },
    /// Reactivate a member
    Enable {
        /// Email address
        email: String,
    },
    /// Remove a member's lost second factor and end their sessions
    ResetSecondFactor {
        /// Email address
        email: String,
    },
}

pub(super) async fn run(command: TeamCommand) -> anyhow::Result<ExitCode> {
    let settings = super::settings(&[])?;
    let store = open_store(&settings)?;
    let done = at_the_database(command, &settings, &store).await;
    store.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn at_the_database(command: TeamCommand, settings: &Settings, store: &Store) -> anyhow::Result<()> {
    let clock = PgClock::start(store).await.map_err(super::database::unusable)?;
    let ids = Arc::new(IdSource::random());
    let team = Team::new(store.clone(), Arc::new(clock), ids, team_options(settings));
    match command {
        TeamCommand::List { json } => list(&team.members().await?, json),
        TeamCommand::SetUp => match team.offer_set_up().await? {
            Some(token) => {
                eprintln!(
                    "Open {} within a day and enter this token, which works once:",
                    address(settings, "set-up")
                );
                println!("{}", token.expose_secret());
            }
            None => bail!("there is already an admin; if the password is lost, run `herald team link EMAIL`"),
        },
        TeamCommand::Invite { email, name, role } => {
            let new = NewMember { email: &email, name: &name, role: read_role(&role)? };
            let token = team.invite(ACTOR, new).await?;
            show_link(settings, &email, &token);
        }
        TeamCommand::Link { email } => {
            let token = team.new_link(ACTOR, &email).await?;
            show_link(settings, &email, &token);
        }
        TeamCommand::Role { email, role } => {
            let member = team.change(ACTOR, &email, Some(read_role(&role)?), None).await?;
            println!("{} is now {}: {}", member.row.email, member.role.as_str(), member.role.about());
        }
        TeamCommand::Disable { email } => {
            let member = team.change(ACTOR, &email, None, Some(true)).await?;
            println!("{} is deactivated", member.row.email);
        }
        TeamCommand::Enable { email } => {
            let member = team.change(ACTOR, &email, None, Some(false)).await?;
            println!("{} is reactivated", member.row.email);
        }
        TeamCommand::ResetSecondFactor { email } => {
            team.reset_second_factor(ACTOR, &email).await?;
            println!("second factor of {email} removed; all sessions ended");
        }
    }
    Ok(())
}

fn read_role(word: &str) -> anyhow::Result<Role> {
    let roles = || Role::ALL.map(|role| format!("{} ({})", role.as_str(), role.about())).join(", ");
    Role::find(word).with_context(|| format!("unknown role `{word}`; roles are {}", roles()))
}

fn address(settings: &Settings, page: &str) -> String {
    match settings.console.public_url.trim() {
        "" => format!("http://{}/{page}", settings.listen),
        url => format!("{}/{page}", url.trim_end_matches('/')),
    }
}

fn show_link(settings: &Settings, email: &str, token: &SecretString) {
    eprintln!("Share this privately with {email}; the link works once, within seven days:");
    println!("{}#{}", address(settings, "welcome"), token.expose_secret());
}

fn list(members: &[Member], is_json: bool) {
    if is_json {
        let all: Vec<_> = members
            .iter()
            .map(|member| {
                json!({
                    "email": member.row.email, "name": member.row.name, "role": member.role.as_str(),
                    "disabled": member.row.disabled_at.is_some(), "has_password": member.row.has_password,
                    "has_second_factor": member.row.has_second_factor,
                    "seen_at": member.row.seen_at,
                })
            })
            .collect();
        println!("{:#}", serde_json::Value::Array(all));
        return;
    }
    if members.is_empty() {
        println!("no members yet; run `herald team set-up` for the first admin");
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["EMAIL", "NAME", "ROLE", "STATE", "SECOND FACTOR"]);
    for member in members {
        let state = match (member.row.disabled_at, member.row.has_password) {
            (Some(_), _) => "deactivated",
            (None, true) => "active",
            (None, false) => "invited",
        };
        let factor = if member.row.has_second_factor { "on" } else { "none" };
        table.add_row([member.row.email.as_str(), &member.row.name, member.role.as_str(), state, factor]);
    }
    println!("{table}");
}
