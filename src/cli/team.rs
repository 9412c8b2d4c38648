//! `herald team`: who may log in to the console. It works at the database, like the first key: whoever has that is
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

/// Who the record of changes says it was.
const ACTOR: &str = "herald team";

/// What to do with the team.
#[derive(Debug, Subcommand)]
pub enum TeamCommand {
    /// List the team
    List {
        /// Print JSON for scripts
        #[arg(long)]
        json: bool,
    },
    /// Print the token that the first admin sets the console up with
    SetUp,
    /// Enter somebody; prints the link that they choose a password with
    Invite {
        /// What they log in with
        email: String,
        /// What to call them
        #[arg(long)]
        name: String,
        /// viewer, editor, publisher, operator or admin
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Make a new link for somebody who has lost the password
    Link {
        /// Who
        email: String,
    },
    /// Give somebody another role
    Role {
        /// Who
        email: String,
        /// viewer, editor, publisher, operator or admin
        role: String,
    },
    /// Shut somebody out; their sessions end at once
    Disable {
        /// Who
        email: String,
    },
    /// Let somebody in again
    Enable {
        /// Who
        email: String,
    },
    /// Remove the second factor of somebody who has lost it; their sessions end at once
    ResetSecondFactor {
        /// Who
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
    let clock =
        PgClock::start(store).await.context("the database can't be used; has `herald migrate` run?")?;
    let ids = Arc::new(IdSource::random());
    let team = Team::new(store.clone(), Arc::new(clock), ids, team_options(settings));
    match command {
        TeamCommand::List { json } => list(&team.members().await?, json),
        TeamCommand::SetUp => match team.offer_set_up().await? {
            Some(token) => {
                eprintln!(
                    "Open {} within a day and enter this token, which is good once:",
                    address(settings, "set-up")
                );
                println!("{}", token.expose_secret());
            }
            None => bail!(
                "there is an admin already: `herald team link EMAIL` lets somebody in who has lost the password"
            ),
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
            println!("{} is {} now: {}", member.row.email, member.role.as_str(), member.role.about());
        }
        TeamCommand::Disable { email } => {
            let member = team.change(ACTOR, &email, None, Some(true)).await?;
            println!("{} is shut out", member.row.email);
        }
        TeamCommand::Enable { email } => {
            let member = team.change(ACTOR, &email, None, Some(false)).await?;
            println!("{} may log in again", member.row.email);
        }
        TeamCommand::ResetSecondFactor { email } => {
            team.reset_second_factor(ACTOR, &email).await?;
            println!("{email} has no second factor now, and is logged out everywhere");
        }
    }
    Ok(())
}

fn read_role(word: &str) -> anyhow::Result<Role> {
    let roles = || Role::ALL.map(|role| format!("{} ({})", role.as_str(), role.about())).join(", ");
    Role::find(word).with_context(|| format!("there is no role `{word}`; roles are {}", roles()))
}

fn address(settings: &Settings, page: &str) -> String {
    match settings.console.public_url.trim() {
        "" => format!("http://{}/{page}", settings.listen),
        url => format!("{}/{page}", url.trim_end_matches('/')),
    }
}

fn show_link(settings: &Settings, email: &str, token: &SecretString) {
    eprintln!("Give this to {email} on a way that only they read; it is good for one use within seven days:");
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
        println!("nobody yet: `herald team set-up` lets the first admin in");
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["EMAIL", "NAME", "ROLE", "STATE", "SECOND FACTOR"]);
    for member in members {
        let state = match (member.row.disabled_at, member.row.has_password) {
            (Some(_), _) => "shut out",
            (None, true) => "may log in",
            (None, false) => "invited",
        };
        let factor = if member.row.has_second_factor { "on" } else { "none" };
        table.add_row([member.row.email.as_str(), &member.row.name, member.role.as_str(), state, factor]);
    }
    println!("{table}");
}
