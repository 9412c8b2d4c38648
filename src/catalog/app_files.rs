//! `apps/<name>.toml`: the part of an app that belongs to the catalog, which is its alias labels. Keys, base URLs and
//! rates
//! differ between deployments and are never in files.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::changes::Change;
use super::check::{CatalogProblem, Severity, file_of};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::labels;
use crate::store::{StoreError, Tx, apps};

/// An app in its file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppForm {
    /// The alias labels of its users.
    pub alias_labels: Vec<String>,
}

/// With the app's name.
#[derive(Debug)]
pub(super) struct AppDocument {
    pub name: String,
    pub alias_labels: Vec<String>,
}

/// Checks one file.
pub(super) fn read(
    path: &str,
    name: &str,
    form: AppForm,
    problems: &mut Vec<CatalogProblem>,
) -> Option<AppDocument> {
    if let Some(message) = labels::problem(&form.alias_labels) {
        problems.push(CatalogProblem::error("bad_label", path, format!("alias_labels: {message}")));
        return None;
    }
    Some(AppDocument { name: name.to_owned(), alias_labels: form.alias_labels })
}

/// The file of an app, if its labels are declared and its name is a valid file name.
pub(super) fn written(app: &App) -> Option<(String, AppForm)> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let alias_labels = app.alias_labels.clone().filter(|labels| !labels.is_empty())?;
    app.name.chars().all(is_plain).then(|| (file_of("app", &app.name), AppForm { alias_labels }))
}

fn known<'a>(wanted: &AppDocument, apps: &'a [App]) -> Option<&'a App> {
    apps.iter().find(|app| app.is_called(&wanted.name))
}

/// Files of apps that this deployment does not have: they may be meant for another deployment.
pub(super) fn loose_ends(wanted: &[AppDocument], apps: &[App]) -> Vec<CatalogProblem> {
    let unknown = wanted.iter().filter(|wanted| known(wanted, apps).is_none());
    let problem = |wanted: &AppDocument| {
        let message = format!("there is no app {}; this file has no effect", wanted.name);
        let problem = CatalogProblem::error("unknown_app", &file_of("app", &wanted.name), message);
        CatalogProblem { severity: Severity::Warning, ..problem }
    };
    unknown.map(problem).collect()
}

/// The differences between files and apps.
pub(super) fn changes(wanted: &[AppDocument], apps: &[App]) -> Vec<Change> {
    let json = |labels: Option<&[String]>| json!({ "alias_labels": labels });
    let change = |wanted: &AppDocument| {
        let app = known(wanted, apps)?;
        let (before, after) = (app.alias_labels.as_deref(), Some(wanted.alias_labels.as_slice()));
        let change = || Change::new("app", &wanted.name, Some(json(before)), Some(json(after)));
        (before != after).then(change)
    };
    wanted.iter().filter_map(change).collect()
}

/// Declares the labels of changed apps.
pub(super) async fn put_all(
    tx: &mut Tx,
    wanted: &[AppDocument],
    (apps, changes): (&[App], &[Change]),
    now: Timestamp,
) -> Result<(), StoreError> {
    for wanted in wanted.iter().filter(|w| changes.iter().any(|c| c.kind == "app" && c.name == w.name)) {
        if let Some(app) = known(wanted, apps) {
            apps::declare_labels(tx, app.id, &wanted.alias_labels, now).await?;
        }
    }
    Ok(())
}

/// The problems for an author without permission to change apps.
pub(super) fn not_permitted(change: &Change) -> CatalogProblem {
    let message = format!("this key is not allowed to change app {}", change.name);
    let problem = CatalogProblem::error("needs_permission", &file_of("app", &change.name), message);
    problem.hint("use a key with permission to change apps")
}
