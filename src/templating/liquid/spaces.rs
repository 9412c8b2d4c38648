//! Whitespace as the reference engine takes it: that of ASCII, and NUL at the ends of texts.

/// Whether `strip` removes the character.
fn is_stripped(c: char) -> bool {
    matches!(c, '\0' | '\t'..='\r' | ' ')
}

/// Whether a word ends at the character.
pub fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// The text without whitespace at its beginning.
pub fn trim_start(text: &str) -> &str {
    text.trim_start_matches(is_stripped)
}

/// The text without whitespace at its end.
pub fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_stripped)
}

/// Whether there is nothing but whitespace.
pub fn is_only_space(text: &str) -> bool {
    text.chars().all(is_space)
}
