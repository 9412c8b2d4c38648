//! The parser's errors in plain words: what is wrong, and what to write instead.

/// What a syntax error says and advises.
pub(super) struct Explained {
    pub message: String,
    pub hint: Option<String>,
}

/// Operators of other languages, with what CEL writes in their place.
const FOREIGN: [(&str, &str); 9] = [
    ("and", "&&"),
    ("AND", "&&"),
    ("or", "||"),
    ("OR", "||"),
    ("not", "!"),
    ("NOT", "!"),
    ("===", "=="),
    ("!==", "!="),
    ("<>", "!="),
];

/// Operators that need a value after them, longest first.
const OPERATORS: [&str; 15] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?"];

/// Explains the parser's message about the character at `line` and `column`, both from 1.
pub(super) fn explain(source: &str, (line, column): (usize, usize), raw: &str) -> Explained {
    let bare = without_texts(source);
    let token = token_of(raw);
    let is_at_end = raw.contains("<EOF>") && matches!(token, None | Some("<EOF>"));
    let before = if is_at_end { bare.clone() } else { prefix(&bare, line, column) };
    if let Some(explained) = foreign_operator(&bare) {
        return explained;
    }
    if is_at_end || raw.contains("input") {
        let operator = OPERATORS.into_iter().find(|operator| before.trim_end().ends_with(operator));
        if let Some(operator) = operator {
            return Explained { message: format!("a value is missing after `{operator}`"), hint: None };
        }
    }
    if is_at_end {
        return ends_early(&bare);
    }
    match token.and_then(|token| token.split_whitespace().last()) {
        Some(token) if token.starts_with(['"', '\'']) => Explained {
            message: "the string is not closed".to_owned(),
            hint: Some("add the missing quote".to_owned()),
        },
        Some(token) if token.starts_with('&') => not_an_operator("&", "&&"),
        Some(token) if token.starts_with('|') => not_an_operator("|", "||"),
        Some(token) => Explained { message: format!("`{token}` is not expected here"), hint: None },
        None => Explained { message: format!("the expression can't be parsed: {raw}"), hint: None },
    }
}

fn not_an_operator(written: &str, meant: &str) -> Explained {
    Explained { message: format!("`{written}` is not an operator"), hint: Some(format!("write `{meant}`")) }
}

fn foreign_operator(bare: &str) -> Option<Explained> {
    let words: Vec<&str> = bare.split_whitespace().collect();
    let found = FOREIGN.into_iter().find(|(foreign, _)| words.contains(foreign));
    if let Some((foreign, meant)) = found {
        return Some(not_an_operator(foreign, meant));
    }
    has_single_equals(bare).then(|| Explained {
        message: "`=` is not a comparison".to_owned(),
        hint: Some("write `==` to compare".to_owned()),
    })
}

/// Whether there is a single `=`, not part of `==`, `!=`, `<=` or `>=`.
fn has_single_equals(bare: &str) -> bool {
    let signs = bare.as_bytes();
    (0..signs.len()).any(|at| {
        let is_joined = |other: Option<&u8>| other.is_some_and(|sign| b"=!<>".contains(sign));
        let before = at.checked_sub(1).and_then(|at| signs.get(at));
        signs[at] == b'=' && !is_joined(before) && signs.get(at + 1) != Some(&b'=')
    })
}

fn ends_early(bare: &str) -> Explained {
    let pairs = [('(', ')'), ('[', ']'), ('{', '}')];
    let open =
        pairs.into_iter().find(|(open, close)| bare.matches(*open).count() > bare.matches(*close).count());
    Explained {
        message: "the expression ends early".to_owned(),
        hint: open.map(|(open, close)| format!("close `{open}` with `{close}`")),
    }
}

/// The source with spaces in place of the strings in it.
fn without_texts(source: &str) -> String {
    let mut quote = None;
    let blanked = source.chars().map(|c| match quote {
        Some(open) => {
            quote = (c != open).then_some(open);
            if c == '\n' { c } else { ' ' }
        }
        None if matches!(c, '"' | '\'') => {
            quote = Some(c);
            ' '
        }
        None => c,
    });
    blanked.collect()
}

/// The text before a line and a column in characters.
fn prefix(source: &str, line: usize, column: usize) -> String {
    let mut lines = source.split('\n');
    let mut before: Vec<String> = lines.by_ref().take(line - 1).map(str::to_owned).collect();
    before.push(lines.next().unwrap_or_default().chars().take(column - 1).collect());
    before.join("\n")
}

/// The piece of source that the parser's message quotes.
fn token_of(raw: &str) -> Option<&str> {
    let (_, rest) = raw.split_once("input '").or_else(|| raw.split_once("at: '"))?;
    let end = rest.find("' expecting").or_else(|| rest.rfind('\''))?;
    Some(rest[..end].trim())
}

#[cfg(test)]
mod tests {
    use crate::domain::budget::Budget;
    use crate::expressions::Expression;

    #[test]
    fn a_syntax_error_says_what_to_write() {
        let cases = [
            ("data.a and data.b", "`and` is not an operator", Some("write `&&`")),
            ("data.a or data.b", "`or` is not an operator", Some("write `||`")),
            ("not data.a", "`not` is not an operator", Some("write `!`")),
            ("data.a = 1", "`=` is not a comparison", Some("write `==` to compare")),
            ("data.a=1", "`=` is not a comparison", Some("write `==` to compare")),
            ("data.a === 1", "`===` is not an operator", Some("write `==`")),
            ("data.a & data.b", "`&` is not an operator", Some("write `&&`")),
            ("data.a | data.b", "`|` is not an operator", Some("write `||`")),
            ("data.a +", "a value is missing after `+`", None),
            ("data.a ==\n  ) 1", "a value is missing after `==`", None),
            ("(data.a == 1", "the expression ends early", Some("close `(` with `)`")),
            ("data.a == 'x", "the string is not closed", Some("add the missing quote")),
            ("data.a data.b", "`data` is not expected here", None),
        ];
        for (source, message, hint) in cases {
            let found = Expression::parse(source, &Budget::default()).expect_err(source);
            assert_eq!((found.message.as_str(), found.hint.as_deref()), (message, hint), "{source}");
        }
    }
}
