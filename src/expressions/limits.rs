//! Protects the parser from hostile input: length, tokens and nesting are counted first.

/// The longest text that is parsed, in bytes.
pub const MAX_SOURCE_BYTES: usize = 4 * 1024;
/// Nested comprehensions: a list in each entry of a list.
pub(super) const MAX_NESTED_WALKS: usize = 2;
/// The maximum recursion depth of the evaluator.
pub(super) const MAX_DEPTH: usize = 40;
/// Deeper expressions, including the charging calls, are evaluated on a deep stack: a level takes up to 50 KiB in a
/// debug build, and a tenth of that in a release build.
pub(super) const SHALLOW_DEPTH: usize = if cfg!(debug_assertions) { 12 } else { 40 };
const MAX_BRACKETS: usize = 16;
const MAX_TOKENS: usize = 500;
/// `!!!!x`: each sign is a level of its own.
const MAX_SIGNS: usize = 8;

/// Where a text exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    /// In characters from the text's start.
    pub offset: usize,
    /// Which limit, in plain words.
    pub what: &'static str,
}

struct Count {
    tokens: usize,
    open: usize,
    signs: usize,
    in_word: bool,
}

/// Whether the parser can take this text: brackets, signs and tokens are limited.
pub(super) fn measure(source: &str) -> Result<(), Excess> {
    let characters: Vec<char> = source.chars().collect();
    let mut count = Count { tokens: 0, open: 0, signs: 0, in_word: false };
    let mut place = 0;
    while let Some(&character) = characters.get(place) {
        let rest = &characters[place..];
        let taken = match character {
            '"' | '\'' => text_length(rest, is_raw(&characters[..place])),
            '/' if rest.get(1) == Some(&'/') => rest.iter().take_while(|&&found| found != '\n').count(),
            _ => 1,
        };
        count.add(character).map_err(|what| Excess { offset: place, what })?;
        place += taken;
    }
    Ok(())
}

impl Count {
    fn add(&mut self, character: char) -> Result<(), &'static str> {
        let is_word = character.is_alphanumeric() || character == '_';
        if character.is_whitespace() {
            self.in_word = false;
            return Ok(());
        }
        self.tokens += usize::from(!(is_word && self.in_word));
        self.in_word = is_word;
        self.signs = if matches!(character, '!' | '-') { self.signs + 1 } else { 0 };
        match character {
            '(' | '[' | '{' => self.open += 1,
            ')' | ']' | '}' => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        match () {
            () if self.open > MAX_BRACKETS => Err("brackets are nested too deeply"),
            () if self.signs > MAX_SIGNS => Err("too many signs in a row"),
            () if self.tokens > MAX_TOKENS => Err("the expression has too many parts"),
            () => Ok(()),
        }
    }
}

/// Whether the quote after these characters starts a raw string, in which a backslash is a backslash.
fn is_raw(before: &[char]) -> bool {
    let prefix: Vec<char> =
        before.iter().rev().take_while(|found| found.is_alphanumeric()).copied().collect();
    prefix.len() <= 2
        && prefix.iter().any(|found| matches!(found, 'r' | 'R'))
        && prefix.iter().all(|found| matches!(found, 'r' | 'R' | 'b' | 'B'))
}

/// The length of the string literal at the start, quotes included; everything that is left if it is not closed.
fn text_length(rest: &[char], is_raw: bool) -> usize {
    let quote = rest[0];
    let is_triple = rest.starts_with(&[quote, quote, quote]);
    let quotes = if is_triple { 3 } else { 1 };
    let mut place = quotes;
    while place < rest.len() {
        let here = &rest[place..];
        match here[0] {
            '\\' if !is_raw => place += 2,
            '\n' if !is_triple => return place,
            found
                if found == quote
                    && here.iter().take(quotes).filter(|&&next| next == quote).count() == quotes =>
            {
                return place + quotes;
            }
            _ => place += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::measure;

    #[test]
    fn what_people_write_is_within_bounds() {
        let long = vec!["data.a == 'x'"; 40].join(" || ");
        for source in ["data.total > 100 && has(data.a)", "'((((((((((((((((((((' == r\"\\\"", &long] {
            assert_eq!(measure(source), Ok(()), "{source}");
        }
    }

    #[test]
    fn what_no_person_writes_is_not() {
        for source in ["(".repeat(30), "[".repeat(30), "!".repeat(30), "1+".repeat(400), "-".repeat(30)] {
            assert!(measure(&source).is_err(), "{source}");
        }
    }

    #[test]
    fn brackets_in_texts_and_comments_do_not_count() {
        let brackets = "(".repeat(40);
        for source in
            [format!("'{brackets}'"), format!("1 // {brackets}"), format!("\"\"\"\"{brackets}\"\"\"")]
        {
            assert_eq!(measure(&source), Ok(()), "{source}");
        }
        assert!(measure(&format!("'a' + {brackets}")).is_err());
        assert!(measure(&format!("'a\\'' + {brackets}")).is_err());
    }
}
