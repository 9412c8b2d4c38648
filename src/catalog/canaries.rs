//! Canaries: their version has to exist, and be approved if the template requires it.

use super::changes::Change;
use super::check::file_of;
use super::check::{CatalogProblem, Severity};
use super::manifest::{Document, RuleDocument};
use super::publish::Publisher;
use crate::domain::rule::Action;
use crate::domain::snapshot::CatalogSnapshot;
use crate::store::StoreError;

impl Publisher {
    /// Problems with the canaries of changed rules.
    pub(super) async fn check_canaries(
        &self,
        document: &Document,
        snapshot: &CatalogSnapshot,
        changes: &[Change],
    ) -> Result<Vec<CatalogProblem>, StoreError> {
        let is_changed =
            |rule: &&RuleDocument| changes.iter().any(|c| c.kind == "rule" && c.name == rule.key);
        let mut problems = Vec::new();
        for rule in document.rules.iter().filter(is_changed) {
            let Action::Send { template, canary: Some(canary), .. } = &rule.definition.action else {
                continue;
            };
            let known = snapshot.templates.iter().find(|t| t.key == *template);
            let needs_approval = known.is_some_and(|t| t.needs_approval);
            let problem = |code: &str, message: String| CatalogProblem {
                field: Some("canary".to_owned()),
                ..CatalogProblem::error(code, &file_of("rule", &rule.key), message)
            };
            match self.store.find_version_number(template, canary.version).await? {
                None => {
                    let message = format!("template {template} has no version {}", canary.version);
                    let hint = "until it exists, everyone gets the live version";
                    // Files may come from another Herald with different version numbers.
                    let severity = if needs_approval { Severity::Error } else { Severity::Warning };
                    problems
                        .push(CatalogProblem { severity, ..problem("unknown_version", message).hint(hint) });
                }
                Some(record) if needs_approval && !self.is_settled(&record).await? => {
                    let message = format!("version {} of {template} was never approved", canary.version);
                    let hint = "have a draft with this content approved, and publish it";
                    problems.push(problem("needs_approval", message).hint(hint));
                }
                Some(_) => {}
            }
        }
        Ok(problems)
    }
}
