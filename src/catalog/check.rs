//! What is wrong with a catalog: each problem with a code, the file, the place in it, and what to do.

use serde::Serialize;

use crate::templating;
pub use crate::templating::check::Severity;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CatalogProblem {
    /// A stable code.
    pub code: String,
    /// Whether it stops the catalog from being applied.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The line in the file's field, from 1, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl CatalogProblem {
    /// An error about a whole file.
    pub fn error(code: &str, file: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            file: file.to_owned(),
            line: None,
            column: None,
            message: message.into(),
            hint: None,
        }
    }

    /// The same, with what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A problem that the template compiler found in one of a file's fields.
    pub fn in_field(file: &str, problem: templating::Problem) -> Self {
        Self {
            code: problem.code.to_owned(),
            severity: Severity::Error,
            file: file.to_owned(),
            line: Some(problem.line),
            column: Some(problem.column),
            message: format!("{}: {}", problem.field, problem.message),
            hint: problem.hint,
        }
    }
}

impl std::fmt::Display for CatalogProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {} [{}]", self.message, self.code)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}
