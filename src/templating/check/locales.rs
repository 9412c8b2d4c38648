//! Which locales there are, and whether each has what it needs.

use super::{Copy, Finding, Severity};
use crate::domain::template::{Fields, fields_of, is_locale};
use crate::domain::visible::is_blank;

/// What is wrong with the locales.
pub fn check(copy: &Copy<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if !copy.contents.contains_key(copy.default_locale) {
        let message = format!("there is no copy for the default locale {}", copy.default_locale);
        let finding = Finding::new("no_default_copy", Severity::Error, message);
        found.push(finding.hint("write it, or choose a locale that has copy as the default"));
    }
    let default = copy.contents.get(copy.default_locale);
    for (locale, fields) in copy.contents {
        if !is_locale(locale) {
            let message = format!("`{locale}` is no locale");
            let finding = Finding::new("bad_locale", Severity::Error, message);
            found.push(finding.hint("write it as in BCP 47: `de`, `de-AT`, `zh-Hant`").in_locale(locale));
        }
        for spec in fields_of(copy.channel) {
            let is_filled = |fields: &Fields| fields.get(spec.name).is_some_and(|text| !is_blank(text));
            if is_filled(fields) {
                continue;
            }
            let finding = if spec.required {
                let message = format!("`{}` is empty, and {} can't do without it", spec.name, copy.channel);
                Finding::new("missing_field", Severity::Error, message).hint("write it")
            } else if default.is_some_and(is_filled) {
                let message = format!("{} has `{}` and {locale} has not", copy.default_locale, spec.name);
                let finding = Finding::new("missing_field_in_locale", Severity::Warning, message);
                finding.hint("write it: a locale doesn't borrow fields from another")
            } else {
                continue;
            };
            found.push(finding.in_field(spec.name, (1, 1)).in_locale(locale));
        }
    }
    found
}
