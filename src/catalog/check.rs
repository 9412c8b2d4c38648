//! Problems in a catalog, with code, file, position and hint.

use serde::Serialize;

pub use crate::templating::check::Severity;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CatalogProblem {
    /// A stable code.
    pub code: String,
    /// Whether it prevents the catalog from being applied.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// The locale of the content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The line, from 1: in the file if files were given, else in the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
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
            locale: None,
            field: None,
            line: None,
            column: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a position.
    #[must_use]
    pub fn at(mut self, line: Option<usize>, column: Option<usize>) -> Self {
        (self.line, self.column) = (line, column);
        self
    }

    /// Whether it prevents the catalog from being applied.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The file of a catalog entry: for problems found elsewhere.
pub(super) fn file_of(kind: &str, name: &str) -> String {
    match kind {
        "event_type" => format!("events/{name}/schema.json"),
        "template" => format!("templates/{name}/template.toml"),
        "partial" => format!("partials/{name}.liquid"),
        "source" => format!("sources/{name}.toml"),
        "app" => format!("apps/{name}.toml"),
        _ => format!("rules/{name}.toml"),
    }
}

impl std::fmt::Display for CatalogProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "{} [{}]", self.message, self.code)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}
