//! The modes, results and errors of rendering.

/// What becomes of a path that leads to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// It renders as nothing, as at OneSignal. What can't be run is printed as the reference engine reports it.
    Lenient,
    /// In an output, a filter or a loop it is an error, unless a `default` (or the loop's `else`) stands in for
    /// it; conditions may test it. Comparing a text with a number and filters on the wrong kind are errors too.
    Strict,
}

/// What a rendering yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The paths, as written and each once, that an output found to be nothing.
    pub blanks: Vec<String>,
    /// What the reference engine reports and prints in place of what it can't run, each once.
    pub reported: Vec<String>,
}

/// Why there is no text. No variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A path that is needed leads to nothing.
    #[error("`{path}` (line {line}, column {column}) has no value")]
    Missing {
        /// The path as written.
        path: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// The limits of a rendering are exceeded.
    #[error("the template {} (line {line}, column {column})", excess(what))]
    TooMuch {
        /// Which limit: `output`, `steps`, `memory`, `depth`, `work on text` or `time`.
        what: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// A value has the wrong type, or is not allowed where it is used.
    #[error("{what} (line {line}, column {column})")]
    Unusable {
        /// Plain words.
        what: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
}

/// What exceeds a limit, as a predicate of the template or the field.
pub fn excess(what: &str) -> &'static str {
    match what {
        "steps" => "needs too many steps",
        "output" => "makes a text that is too long",
        "memory" => "needs too much memory",
        "depth" => "is nested too deeply",
        "time" => "took too long to render",
        _ => "processes too much text",
    }
}
