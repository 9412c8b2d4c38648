//! The encoding of a file: found out from its beginning, and decoded part by part.

use serde::{Deserialize, Serialize};

/// An encoding that spreadsheets and databases write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// UTF-16, little-endian.
    Utf16Le,
    /// UTF-16, big-endian.
    Utf16Be,
    /// Windows-1252, which Excel calls "ANSI"; it contains Latin-1.
    Windows1252,
}

/// What Windows-1252 has at 0x80 to 0x9F.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The encoding of a file that begins with these bytes.
pub fn detect(start: &[u8]) -> Encoding {
    match start {
        [0xff, 0xfe, ..] => return Encoding::Utf16Le,
        [0xfe, 0xff, ..] => return Encoding::Utf16Be,
        _ => {}
    }
    // Latin text in UTF-16 has a NUL in every second byte.
    let zeros = |parity: usize| start.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let many = start.len() / 4;
    if many > 0 && zeros(1) > many {
        return Encoding::Utf16Le;
    }
    if many > 0 && zeros(0) > many {
        return Encoding::Utf16Be;
    }
    match std::str::from_utf8(start) {
        Ok(_) => Encoding::Utf8,
        // A character that is cut off at the end is not an error.
        Err(error) if error.error_len().is_none() => Encoding::Utf8,
        Err(_) => Encoding::Windows1252,
    }
}

impl Encoding {
    /// Decodes bytes as far as whole characters go; returns the text and the number of bytes it took. What is invalid
    /// becomes U+FFFD.
    pub fn decode(self, bytes: &[u8], is_last: bool) -> (String, usize) {
        match self {
            Self::Utf8 => decode_utf8(bytes, is_last),
            Self::Utf16Le => decode_utf16(bytes, u16::from_le_bytes, is_last),
            Self::Utf16Be => decode_utf16(bytes, u16::from_be_bytes, is_last),
            Self::Windows1252 => (bytes.iter().map(|byte| windows(*byte)).collect(), bytes.len()),
        }
    }

    /// Encodes text, so that a record's bytes can be counted.
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16Le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16Be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Self::Windows1252 => text.chars().map(from_windows).collect(),
        }
    }
}

/// The name of an encoding for people, from its code.
pub fn encoding_words(code: &str) -> &str {
    match code {
        "utf8" => "UTF-8",
        "utf16-le" | "utf16-be" => "UTF-16",
        "windows1252" => "Windows-1252",
        other => other,
    }
}

fn windows(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

fn from_windows(character: char) -> u8 {
    let special =
        WINDOWS.iter().position(|known| *known == character).and_then(|place| u8::try_from(place).ok());
    special.map_or_else(|| u8::try_from(u32::from(character)).unwrap_or(b'?'), |place| 0x80 + place)
}

fn decode_utf8(bytes: &[u8], is_last: bool) -> (String, usize) {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
        // Something invalid; what is cut off after it is left for later as well.
        Err(_) if !is_last => bytes.len() - cut_off(bytes),
        Ok(_) | Err(_) => bytes.len(),
    };
    (String::from_utf8_lossy(&bytes[..whole]).into_owned(), whole)
}

/// The number of bytes at the end that begin a character without completing it.
fn cut_off(bytes: &[u8]) -> usize {
    let last = bytes.len().min(3);
    (1..=last)
        .rev()
        .find(|count| {
            let tail = &bytes[bytes.len() - count..];
            tail[0] >= 0xc0 && std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none())
        })
        .unwrap_or(0)
}

fn decode_utf16(bytes: &[u8], read: fn([u8; 2]) -> u16, is_last: bool) -> (String, usize) {
    let mut units: Vec<u16> = bytes.chunks_exact(2).map(|pair| read([pair[0], pair[1]])).collect();
    let mut taken = units.len() * 2;
    // The first half of a pair waits for its other half.
    if !is_last && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit)) {
        units.pop();
        taken -= 2;
    }
    (String::from_utf16_lossy(&units), if is_last { bytes.len() } else { taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "id;name\n1;Zoë Müller €\n";

    #[test]
    fn every_encoding_of_spreadsheets_is_found_out_and_read() {
        for encoding in [Encoding::Utf8, Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Windows1252] {
            let bytes = encoding.encode(TEXT);
            assert_eq!(detect(&bytes), encoding);
            assert_eq!(encoding.decode(&bytes, true), (TEXT.to_owned(), bytes.len()));
        }
        assert_eq!(detect(b"\xef\xbb\xbfid;name"), Encoding::Utf8);
        assert_eq!(detect(b"\xff\xfei\0d\0"), Encoding::Utf16Le);
        assert_eq!(detect(b""), Encoding::Utf8);
    }

    #[test]
    fn a_character_that_is_cut_between_two_parts_is_read_whole() {
        for encoding in [Encoding::Utf8, Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Windows1252] {
            let bytes = encoding.encode("aë€😀z");
            for cut in 0..=bytes.len() {
                let (mut text, taken) = encoding.decode(&bytes[..cut], false);
                text.push_str(&encoding.decode(&bytes[taken..], true).0);
                let whole = if encoding == Encoding::Windows1252 { "aë€?z" } else { "aë€😀z" };
                assert_eq!(text, whole, "{encoding:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_visible_in_the_text() {
        let (text, taken) = Encoding::Utf8.decode(b"a\xffb\xc3", false);
        assert_eq!((text.as_str(), taken), ("a\u{fffd}b", 3));
    }
}
