//! Which locales exist, and whether each is complete.

use super::{Copy, Finding, Severity};
use crate::domain::template::{Fields, fields_of, is_locale};
use crate::domain::visible::is_blank;

/// What is wrong with the locales.
pub fn check(copy: &Copy<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if !copy.contents.contains_key(copy.default_locale) {
        let message = format!("the default locale {} has no copy", copy.default_locale);
        let finding = Finding::new("no_default_copy", Severity::Error, message);
        found.push(finding.hint("add it, or choose a default locale that has copy"));
    }
    let default = copy.contents.get(copy.default_locale);
    for (locale, fields) in copy.contents {
        if !is_locale(locale) {
            let message = format!("`{locale}` is not a locale");
            let finding = Finding::new("bad_locale", Severity::Error, message);
            found.push(finding.hint("write it as in BCP 47: `de`, `de-AT`, `zh-Hant`").in_locale(locale));
        }
        for spec in fields_of(copy.channel) {
            let is_filled = |fields: &Fields| fields.get(spec.name).is_some_and(|text| !is_blank(text));
            if is_filled(fields) {
                continue;
            }
            let finding = if spec.required {
                let message = format!("`{}` is empty, but {} requires it", spec.name, copy.channel);
                Finding::new("missing_field", Severity::Error, message).hint("add it")
            } else if default.is_some_and(is_filled) {
                let message = format!("{} has `{}` but {locale} does not", copy.default_locale, spec.name);
                let finding = Finding::new("missing_field_in_locale", Severity::Warning, message);
                finding.hint("add it: locales do not inherit fields from each other")
            } else {
                continue;
            };
            found.push(finding.in_field(spec.name, (1, 1)).in_locale(locale));
        }
    }
    found
}
