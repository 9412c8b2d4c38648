//! What a template is once parsed: nodes that point back into their source.

use super::filters::Filter;

/// A position in the source, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// What the span covers of `source`; nothing if it doesn't fit.
    pub fn of(self, source: &str) -> &str {
        source.get(self.start..self.end).unwrap_or_default()
    }
}

/// One piece of a template.
#[derive(Debug, Clone)]
pub enum Node {
    /// Literal text, after whitespace control; the text of `raw` too.
    Text(Span),
    /// `{{ … }}`.
    Output(Filtered),
    /// `if` and `unless`.
    If(If),
    /// `case`.
    Case(Case),
    /// `for`.
    For(Box<For>),
    /// `assign`.
    Assign(Assign),
    /// `capture`.
    Capture(Capture),
    /// `break`.
    Break,
    /// `continue`.
    Continue,
}

/// `if`/`elsif`/`else` or `unless`.
#[derive(Debug, Clone)]
pub struct If {
    /// The branches in order; the first whose condition holds is taken.
    pub branches: Vec<Branch>,
    /// What is taken when no condition holds.
    pub otherwise: Option<Vec<Node>>,
}

/// One branch of an `if`.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Whether the branch is taken when the condition does *not* hold (`unless`).
    pub negated: bool,
    /// The condition.
    pub condition: Condition,
    /// What the branch holds.
    pub body: Vec<Node>,
}

/// A condition, read right to left: `a and b or c` is `a and (b or c)`.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The tests, in source order.
    pub tests: Vec<Test>,
    /// What joins test `n` to all that follows it; one fewer than there are tests.
    pub joins: Vec<Join>,
}

/// What joins two tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Both must hold.
    And,
    /// One must hold.
    Or,
}

/// One test of a condition.
#[derive(Debug, Clone)]
pub struct Test {
    /// The left side.
    pub left: Expr,
    /// The operator and the right side; without them the left side's truth decides.
    pub right: Option<(Operator, Expr)>,
    /// Its position.
    pub span: Span,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=` and `<>`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `contains`
    Contains,
}

impl Operator {
    /// How it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
            Self::Contains => "contains",
        }
    }
}

/// `case` with its `when`s.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is compared.
    pub subject: Expr,
    /// The alternatives in order; the first that fits is taken.
    pub whens: Vec<When>,
    /// What is taken when none fits.
    pub otherwise: Option<Vec<Node>>,
    /// The opening tag.
    pub span: Span,
}

/// One `when`.
#[derive(Debug, Clone)]
pub struct When {
    /// It fits when the subject equals one of these.
    pub values: Vec<Expr>,
    /// What it holds.
    pub body: Vec<Node>,
}

/// `for`.
#[derive(Debug, Clone)]
pub struct For {
    /// The name of the element.
    pub variable: String,
    /// What is gone through.
    pub list: Expr,
    /// How many elements are taken.
    pub limit: Option<Expr>,
    /// How many elements are left out first.
    pub offset: Option<Expr>,
    /// Whether the chosen elements are taken last to first.
    pub reversed: bool,
    /// What is repeated.
    pub body: Vec<Node>,
    /// The body for an empty list.
    pub otherwise: Option<Vec<Node>>,
    /// The opening tag.
    pub span: Span,
}

/// `assign`.
#[derive(Debug, Clone)]
pub struct Assign {
    /// The variable.
    pub name: String,
    /// Its value.
    pub value: Filtered,
    /// The whole tag.
    pub span: Span,
}

/// `capture`.
#[derive(Debug, Clone)]
pub struct Capture {
    /// The variable.
    pub name: String,
    /// What it will hold, rendered.
    pub body: Vec<Node>,
    /// The opening tag.
    pub span: Span,
}

/// An expression and the filters that it goes through.
#[derive(Debug, Clone)]
pub struct Filtered {
    /// Where it begins.
    pub expr: Expr,
    /// What is done to it, in order.
    pub filters: Vec<Call>,
    /// The whole `{{ … }}` or tag.
    pub span: Span,
}

/// One use of a filter.
#[derive(Debug, Clone)]
pub struct Call {
    /// The filter.
    pub filter: Filter,
    /// Its arguments, as many as it takes at most.
    pub args: Vec<Expr>,
    /// `allow_false: true`, which only `default` has.
    pub allow_false: bool,
    /// The position of its name.
    pub span: Span,
}

/// A value in the source.
#[derive(Debug, Clone)]
pub enum Expr {
    /// A literal.
    Literal(Literal),
    /// Something looked up.
    Path(Path),
}

/// A literal value.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `nil` or `null`
    Nil,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// A quoted text.
    Text(String),
    /// `blank`
    Blank,
    /// `empty`
    Empty,
}

/// `root.key[0][other.path]`.
#[derive(Debug, Clone)]
pub struct Path {
    /// The first name.
    pub root: String,
    /// What is looked up in it, in order.
    pub steps: Vec<Step>,
    /// Its position.
    pub span: Span,
}

/// One step of a path.
#[derive(Debug, Clone)]
pub enum Step {
    /// `.key` or `['key']`
    Key(String),
    /// `[0]`; negative counts from the end
    Index(i64),
    /// `[path]`
    Dynamic(Path),
}
