//! The functions that the language has, and what each takes and yields.

use super::kinds::Kinds;

/// One function: what it is called on, and what it yields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function {
    pub name: &'static str,
    pub style: Style,
    /// The type of its first value: the one before the dot, or the first in parentheses.
    pub takes: Kinds,
    pub yields: Kinds,
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(x)`.
    Global,
    /// `x.f()`.
    Member,
    /// Both ways.
    Either,
}

const fn global(name: &'static str, takes: Kinds, yields: Kinds) -> Function {
    Function { name, style: Style::Global, takes, yields }
}

const fn member(name: &'static str, takes: Kinds, yields: Kinds) -> Function {
    Function { name, style: Style::Member, takes, yields }
}

const fn either(name: &'static str, takes: Kinds, yields: Kinds) -> Function {
    Function { name, style: Style::Either, takes, yields }
}

const MEASURED: Kinds = Kinds::TEXT.or(Kinds::LIST).or(Kinds::OBJECT).or(Kinds::BYTES);
const SCALAR: Kinds = Kinds::TEXT.or(Kinds::NUMBER).or(Kinds::BOOL);
const SPAN: Kinds = Kinds::TIME.or(Kinds::DURATION);

/// All of them; a test calls each.
pub(super) const FUNCTIONS: [Function; 45] = [
    either("size", MEASURED, Kinds::NUMBER),
    global("int", SCALAR.or(Kinds::TIME), Kinds::NUMBER),
    global("uint", SCALAR, Kinds::NUMBER),
    global("double", SCALAR, Kinds::NUMBER),
    global("string", SCALAR.or(SPAN).or(Kinds::BYTES), Kinds::TEXT),
    global("bool", SCALAR, Kinds::BOOL),
    global("bytes", Kinds::TEXT.or(Kinds::BYTES), Kinds::BYTES),
    global("timestamp", Kinds::TEXT.or(Kinds::NUMBER).or(Kinds::TIME), Kinds::TIME),
    global("duration", Kinds::TEXT.or(Kinds::DURATION), Kinds::DURATION),
    global("type", Kinds::ANY, Kinds::TYPE),
    global("dyn", Kinds::ANY, Kinds::ANY),
    member("contains", Kinds::TEXT, Kinds::BOOL),
    member("startsWith", Kinds::TEXT, Kinds::BOOL),
    member("endsWith", Kinds::TEXT, Kinds::BOOL),
    either("matches", Kinds::TEXT, Kinds::BOOL),
    member("charAt", Kinds::TEXT, Kinds::TEXT),
    member("indexOf", Kinds::TEXT, Kinds::NUMBER),
    member("lastIndexOf", Kinds::TEXT, Kinds::NUMBER),
    member("join", Kinds::LIST, Kinds::TEXT),
    member("lowerAscii", Kinds::TEXT, Kinds::TEXT),
    member("upperAscii", Kinds::TEXT, Kinds::TEXT),
    member("replace", Kinds::TEXT, Kinds::TEXT),
    member("split", Kinds::TEXT, Kinds::LIST),
    member("substring", Kinds::TEXT, Kinds::TEXT),
    member("trim", Kinds::TEXT, Kinds::TEXT),
    member("format", Kinds::TEXT, Kinds::TEXT),
    member("reverse", Kinds::TEXT, Kinds::TEXT),
    global("strings.quote", Kinds::TEXT, Kinds::TEXT),
    member("getFullYear", Kinds::TIME, Kinds::NUMBER),
    member("getMonth", Kinds::TIME, Kinds::NUMBER),
    member("getDate", Kinds::TIME, Kinds::NUMBER),
    member("getDayOfYear", Kinds::TIME, Kinds::NUMBER),
    member("getDayOfMonth", Kinds::TIME, Kinds::NUMBER),
    member("getDayOfWeek", Kinds::TIME, Kinds::NUMBER),
    member("getHours", SPAN, Kinds::NUMBER),
    member("getMinutes", SPAN, Kinds::NUMBER),
    member("getSeconds", SPAN, Kinds::NUMBER),
    member("getMilliseconds", SPAN, Kinds::NUMBER),
    global("optional.of", Kinds::ANY, Kinds::OPTIONAL),
    global("optional.ofNonZeroValue", Kinds::ANY, Kinds::OPTIONAL),
    global("optional.none", Kinds::ANY, Kinds::OPTIONAL),
    member("hasValue", Kinds::OPTIONAL, Kinds::BOOL),
    member("value", Kinds::OPTIONAL, Kinds::ANY),
    member("orValue", Kinds::OPTIONAL, Kinds::ANY),
    member("or", Kinds::OPTIONAL, Kinds::OPTIONAL),
];

/// The names that are macros, for suggestions.
pub(super) const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];

/// Names of types in `type(x) == int`.
pub(super) const TYPES: [&str; 10] =
    ["int", "uint", "double", "string", "bool", "bytes", "list", "map", "null_type", "type"];

/// The function with that name, if it can be called that way.
pub(super) fn find(name: &str, style: Style) -> Option<&'static Function> {
    let fits = |function: &&Function| function.style == style || function.style == Style::Either;
    FUNCTIONS.iter().filter(fits).find(|function| function.name == name)
}

/// The name that was probably meant, if one is similar.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), &known.to_lowercase()), known));
    let best = scored.filter(|(score, _)| *score > 0.8).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, known)| known)
}
