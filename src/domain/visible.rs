//! Whether a text shows anything.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

/// What leaves no mark on a page: whitespace, controls, what is to be ignored by default, format characters but for those
/// that put a sign around digits, and three glyphs that are blank.
const INVISIBLE: &str = r"[\p{White_Space}\p{Cc}\p{Default_Ignorable_Code_Point}[\p{Cf}--\p{Prepended_Concatenation_Mark}]\x{2800}\x{1D159}\x{16FE4}]";

static CLASS: LazyLock<Option<ClassUnicode>> =
    LazyLock::new(|| match regex_syntax::parse(INVISIBLE).ok()?.into_kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class),
        _ => None,
    });

/// Whether the character shows no glyph.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c <= ' ' || c == '\u{7f}';
    }
    let Some(class) = CLASS.as_ref() else { return c.is_whitespace() || c.is_control() };
    let ranges = class.ranges();
    let at = ranges.partition_point(|range| range.end() < c);
    ranges.get(at).is_some_and(|range| range.start() <= c)
}

/// Whether a text has no visible character: once invisible ones are stripped, nothing is left to read.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_no_glyph_is_blank_whatever_it_is_called() {
        assert!(CLASS.is_some(), "the properties are known");
        for text in [
            "",
            " ",
            "\n",
            "\u{1}",
            "\u{7f}",
            "\u{85}",
            "\u{a0}",
            "\u{ad}",
            "\u{34f}",
            "\u{61c}",
            "\u{115f}",
            "\u{1160}",
            "\u{17b4}",
            "\u{180e}",
            "\u{200b}",
            "\u{200c}",
            "\u{200d}",
            "\u{200e}",
            "\u{200f}",
            "\u{2028}",
            "\u{202e}",
            "\u{2060}",
            "\u{2064}",
            "\u{2069}",
            "\u{206f}",
            "\u{2800}",
            "\u{3000}",
            "\u{3164}",
            "\u{fe0f}",
            "\u{feff}",
            "\u{ffa0}",
            "\u{fff9}",
            "\u{1d159}",
            "\u{e0001}",
            "\u{e0020}",
            "\u{e0100}",
            " \u{200b}\u{3164}\t",
        ] {
            assert!(is_blank(text), "{text:?}");
        }
    }

    #[test]
    fn what_shows_a_glyph_is_not_blank_however_little() {
        for text in
            [".", "-", "\u{301}", "\u{600}", "é", "\u{2009}x", "👩\u{200d}👩", "\u{fffd}", "ㅤa", "〿", "᠊"]
        {
            assert!(!is_blank(text), "{text:?}");
        }
    }
}
