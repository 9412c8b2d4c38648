//! The filters: their names, what they take, and what they do.

mod lists;
mod numbers;
mod texts;

use std::borrow::Cow;

use super::marked::Marked;
use super::number::Number;
use super::value::Val;
use crate::domain::budget::{Budget, Spent};

pub use texts::escape_html;

/// Why a filter has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A budget is spent.
    Spent(Spent),
    /// The value is not what the filter works on; plain words without the value.
    Unusable(&'static str),
    /// The same on a lenient bench: what the reference engine says of it.
    Reported(Cow<'static, str>),
}

impl From<Spent> for Fault {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

/// What a filter works with besides its input.
pub struct Bench<'b> {
    /// What may still be used up.
    pub budget: &'b Budget,
    /// Whether an unusable value is an error rather than what OneSignal makes of it.
    pub strict: bool,
    /// Whether outputs are encoded for their place, so that `escape` must not do it before.
    pub encodes: bool,
    /// Which arguments are written in the template.
    pub literal: [bool; 2],
}

impl Bench<'_> {
    /// A text created while rendering, if it isn't too long.
    fn text<'a>(&mut self, text: String) -> Result<Val<'a>, Fault> {
        self.budget.length(text.len())?;
        self.budget.work(text.len())?;
        Ok(Val::made(text))
    }

    /// The same for a text in parts.
    fn marked<'a>(&mut self, text: Marked) -> Result<Val<'a>, Fault> {
        self.budget.length(text.as_str().len())?;
        self.budget.work(text.as_str().len())?;
        self.budget.steps(text.parts())?;
        Ok(Val::of_marked(text))
    }

    /// The value as a number. Other values count as the number that their text starts with, if allowed.
    fn number(&self, value: &Val<'_>) -> Result<Number, Fault> {
        match (number_of(value), value.as_str()) {
            (_, Some(text)) if !self.strict => Ok(Number::leading(text)),
            (Some(number), _) => Ok(number),
            (None, _) if self.strict => Err(Fault::Unusable("the value is not a number")),
            (None, _) => Ok(Number::Int(0)),
        }
    }

    /// The value as a count: a whole number, or a text that is one.
    fn count(&self, value: &Val<'_>) -> Result<i64, Fault> {
        match (value, self.strict) {
            (Val::Number(number), true) | (Val::Number(number @ Number::Int(_)), false) => {
                Ok(number.as_i64())
            }
            (other, _) => match other.as_str().and_then(whole) {
                Some(count) => Ok(count),
                None if self.strict => Err(Fault::Unusable("the value is not a number")),
                None => Err(Fault::Reported("invalid integer".into())),
            },
        }
    }
}

/// A whole number as a text.
pub fn whole(text: &str) -> Option<i64> {
    text.trim_matches(|c: char| c.is_ascii_whitespace()).parse().ok()
}

macro_rules! filters {
    ($($(#[$note:meta])* $variant:ident $name:literal $min:literal..=$max:literal,)*) => {
        /// A filter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Filter { $($(#[$note])* #[doc = concat!("`", $name, "`")] $variant,)* }

        impl Filter {
            /// Every filter.
            pub const ALL: &'static [Filter] = &[$(Filter::$variant,)*];

            /// How it is written.
            pub fn name(self) -> &'static str {
                match self { $(Filter::$variant => $name,)* }
            }

            /// The minimum and maximum number of arguments.
            pub fn arity(self) -> (usize, usize) {
                match self { $(Filter::$variant => ($min, $max),)* }
            }
        }
    };
}

filters! {
    Abs "abs" 0..=0,
    Append "append" 1..=1,
    AtLeast "at_least" 1..=1,
    AtMost "at_most" 1..=1,
    Capitalize "capitalize" 0..=0,
    Ceil "ceil" 0..=0,
    Compact "compact" 0..=0,
    Date "date" 1..=1,
    Default "default" 1..=1,
    DividedBy "divided_by" 1..=1,
    Downcase "downcase" 0..=0,
    Escape "escape" 0..=0,
    First "first" 0..=0,
    Floor "floor" 0..=0,
    Join "join" 0..=1,
    Json "json" 0..=0,
    Last "last" 0..=0,
    Lstrip "lstrip" 0..=0,
    Map "map" 1..=1,
    Minus "minus" 1..=1,
    Modulo "modulo" 1..=1,
    NewlineToBr "newline_to_br" 0..=0,
    Pluralize "pluralize" 2..=2,
    Plus "plus" 1..=1,
    Prepend "prepend" 1..=1,
    Remove "remove" 1..=1,
    RemoveFirst "remove_first" 1..=1,
    Replace "replace" 2..=2,
    ReplaceFirst "replace_first" 2..=2,
    Reverse "reverse" 0..=0,
    Round "round" 0..=1,
    Rstrip "rstrip" 0..=0,
    Size "size" 0..=0,
    Slice "slice" 1..=2,
    Sort "sort" 0..=1,
    Split "split" 1..=1,
    Strip "strip" 0..=0,
    StripHtml "strip_html" 0..=0,
    Times "times" 1..=1,
    TrackLink "track_link" 0..=0,
    Truncate "truncate" 0..=2,
    Truncatewords "truncatewords" 0..=2,
    Uniq "uniq" 0..=0,
    Upcase "upcase" 0..=0,
    UrlDecode "url_decode" 0..=0,
    UrlEncode "url_encode" 0..=0,
    Where "where" 1..=2,
}

impl Filter {
    /// The filter of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|filter| filter.name() == name)
    }

    /// Whether OneSignal documents it (contract, section 5).
    pub fn is_documented(self) -> bool {
        matches!(
            self,
            Self::Default
                | Self::Date
                | Self::Capitalize
                | Self::Upcase
                | Self::Downcase
                | Self::Round
                | Self::Pluralize
                | Self::Where
                | Self::Replace
                | Self::ReplaceFirst
                | Self::Truncate
                | Self::Truncatewords
                | Self::Strip
                | Self::Lstrip
                | Self::Rstrip
                | Self::StripHtml
                | Self::Append
                | Self::Prepend
                | Self::Plus
                | Self::Minus
                | Self::TrackLink
        )
    }
}

/// The name of `known` that is nearest to `name`, if one is near.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The error text of a filter that doesn't exist.
pub fn unknown(name: &str) -> String {
    let alias = match name {
        "upper" | "uppercase" => Some("upcase"),
        "lower" | "lowercase" => Some("downcase"),
        "trim" => Some("strip"),
        "length" | "count" => Some("size"),
        other => nearest(other, Filter::ALL.iter().map(|filter| filter.name())),
    };
    match alias {
        Some(known) => format!("unknown filter `{name}`; did you mean `{known}`?"),
        None => format!("unknown filter `{name}`"),
    }
}

/// The error text of a filter that got `given` arguments.
pub fn wrong_arity(filter: Filter, given: usize) -> String {
    let name = filter.name();
    match filter.arity() {
        (0, 0) => format!("`{name}` takes no argument"),
        (min, max) if min == max && max == 1 => format!("`{name}` takes 1 argument, not {given}"),
        (min, max) if min == max => format!("`{name}` takes {max} arguments, not {given}"),
        (min, max) => format!("`{name}` takes {min} to {max} arguments, not {given}"),
    }
}

/// Puts `input` through `filter`. `args` are as many as [`Filter::arity`] allows.
///
/// # Errors
/// [`Fault`] when a budget is spent, or, on a strict bench, when the value is not what the filter works on.
pub fn apply<'a>(
    filter: Filter,
    input: Val<'a>,
    args: &[Val<'a>],
    allow_false: bool,
    bench: &mut Bench<'_>,
) -> Result<Val<'a>, Fault> {
    bench.budget.steps(1)?;
    match filter {
        Filter::Default => Ok(or_default(input, args, allow_false)),
        Filter::Compact
        | Filter::First
        | Filter::Join
        | Filter::Last
        | Filter::Map
        | Filter::Reverse
        | Filter::Size
        | Filter::Sort
        | Filter::Uniq
        | Filter::Where => lists::apply(filter, &input, args, bench),
        Filter::Abs
        | Filter::AtLeast
        | Filter::AtMost
        | Filter::Ceil
        | Filter::DividedBy
        | Filter::Floor
        | Filter::Minus
        | Filter::Modulo
        | Filter::Pluralize
        | Filter::Plus
        | Filter::Round
        | Filter::Times => numbers::apply(filter, &input, args, bench),
        Filter::Slice if input.is_list() => lists::apply(filter, &input, args, bench),
        Filter::Date => texts::date(input, args, bench),
        // Only OneSignal shortens links; the text of the link stays what it is.
        Filter::TrackLink => Ok(input),
        Filter::Append
        | Filter::Capitalize
        | Filter::Downcase
        | Filter::Escape
        | Filter::Json
        | Filter::Lstrip
        | Filter::NewlineToBr
        | Filter::Prepend
        | Filter::Remove
        | Filter::RemoveFirst
        | Filter::Replace
        | Filter::ReplaceFirst
        | Filter::Rstrip
        | Filter::Slice
        | Filter::Split
        | Filter::Strip
        | Filter::StripHtml
        | Filter::Truncate
        | Filter::Truncatewords
        | Filter::Upcase
        | Filter::UrlDecode
        | Filter::UrlEncode => texts::apply(filter, &input, args, bench),
    }
}

/// Which argument takes the place of `input`, if one does.
pub fn stand_in(filter: Filter, input: &Val<'_>, allow_false: bool) -> Option<usize> {
    match filter {
        Filter::Default => (!is_kept(input, allow_false)).then_some(0),
        Filter::Pluralize => Some(numbers::plural(number_of(input).unwrap_or(Number::Int(0)))),
        _ => None,
    }
}

fn or_default<'a>(input: Val<'a>, args: &[Val<'a>], allow_false: bool) -> Val<'a> {
    if is_kept(&input, allow_false) { input } else { args.first().cloned().unwrap_or(Val::Nil(None)) }
}

fn is_kept(input: &Val<'_>, allow_false: bool) -> bool {
    match input {
        Val::Bool(false) => allow_false,
        value => !value.is_nil() && !value.is_empty(),
    }
}

fn number_of(value: &Val<'_>) -> Option<Number> {
    match value {
        Val::Number(number) => Some(*number),
        other => other.as_str().and_then(Number::parse),
    }
}
