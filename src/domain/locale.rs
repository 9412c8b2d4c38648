//! Locales as systems write them, brought into the form of BCP 47.

use super::template::is_locale;

/// The locale that a text means: `pt_BR`, `en_us` and `de_DE.UTF-8` are `pt-BR`, `en-US` and `de-DE`. `None` if it means none
/// that is certain: an empty text, `C`, a language's name.
pub fn understood(text: &str) -> Option<String> {
    let text = text.trim().split(['.', '@', ',', ';']).next().unwrap_or_default().replace('_', "-");
    if !is_locale(&text) {
        return None;
    }
    let cased = text.split('-').enumerate().map(|(place, part)| match (place, part.len()) {
        (0, _) => part.to_ascii_lowercase(),
        (_, 2) => part.to_ascii_uppercase(),
        (_, 4) if part.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            part[..1].to_ascii_uppercase() + &part[1..].to_ascii_lowercase()
        }
        _ => part.to_ascii_lowercase(),
    });
    Some(cased.collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::understood;

    #[test]
    fn a_locale_is_understood_however_a_system_writes_it() {
        for (text, wanted) in [
            ("de", "de"),
            ("pt_BR", "pt-BR"),
            ("en_us", "en-US"),
            ("EN-gb", "en-GB"),
            ("zh_hant_tw", "zh-Hant-TW"),
            ("de_DE.UTF-8", "de-DE"),
            ("ca_ES@valencia", "ca-ES"),
            (" fr-FR ", "fr-FR"),
            ("en-US,en;q=0.9", "en-US"),
            ("es-419", "es-419"),
        ] {
            assert_eq!(understood(text).as_deref(), Some(wanted), "{text}");
        }
        for none in ["", " ", "C", "POSIX", "German", "de-", "-", "_", "1", "*", "null!"] {
            assert_eq!(understood(none), None, "{none}");
        }
    }
}
