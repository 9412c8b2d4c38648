//! What the columns of a file mean, and the user that a row describes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::labels;
use crate::people::document::{SubscriptionForm, UserForm, UserInput};

/// Columns that a file of rejected rows has in addition.
pub const REJECT_COLUMNS: [&str; 3] = ["_line", "_column", "_reason"];

/// Header names that are understood by themselves, without case, spaces, `_` and `-`.
const KNOWN: [(&str, &str); 19] = [
    ("externalid", "external_id"),
    ("externaluserid", "external_id"),
    ("onesignalid", "onesignal_id"),
    ("email", "email"),
    ("emailaddress", "email"),
    ("mail", "email"),
    ("phone", "phone"),
    ("phonenumber", "phone"),
    ("sms", "phone"),
    ("mobile", "phone"),
    ("language", "language"),
    ("timezone", "time_zone"),
    ("timezoneid", "time_zone"),
    ("country", "country"),
    ("latitude", "latitude"),
    ("lat", "latitude"),
    ("longitude", "longitude"),
    ("long", "longitude"),
    ("lng", "longitude"),
];

/// How a tag's cell is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagKind {
    Text,
    Number,
    Boolean,
    Date,
}

/// What a column means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Ignored,
    Alias(String),
    Email,
    Phone,
    Language,
    TimeZone,
    Country,
    Latitude,
    Longitude,
    Tag(String, TagKind),
}

/// What a file is imported with, as it is requested.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSettings {
    /// What columns mean, by header: `external_id`, an alias label, `email`, `phone`, `language`, `time_zone`,
    /// `country`, `latitude`, `longitude`, `tag:NAME`, `tag:NAME:number`, `tag:NAME:boolean`, `tag:NAME:date`, or
    /// `ignore`. Columns with usual names are understood without it.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Whether every other column is a tag of the same name.
    #[serde(default)]
    pub other_columns_are_tags: bool,
    /// Columns of tags whose empty cells remove the tag. In all other columns, an empty cell leaves things alone.
    #[serde(default)]
    pub blank_removes: Vec<String>,
    /// The country code of phone numbers without one, such as `49`; never guessed.
    #[serde(default)]
    pub country_code: Option<String>,
    /// The share of rejected rows, in percent, above which nothing is imported.
    #[serde(default)]
    pub max_rejected_percent: Option<f64>,
    /// The number of tags that may be removed; nothing is imported if there are more.
    #[serde(default)]
    pub max_removed_tags: Option<i64>,
}

/// A mapping of columns that fits a file's header.
#[derive(Debug, Clone)]
pub struct Mapping {
    columns: Vec<(String, Column)>,
    blank_removes: BTreeSet<String>,
    country_code: Option<String>,
    labels: Option<Vec<String>>,
}

/// What is wrong with a row, and in which column; empty if it is not about one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProblem {
    /// The column's header.
    pub column: String,
    /// What is wrong.
    pub reason: String,
}

impl Mapping {
    /// The mapping of a file with this header. `labels` are the app's declared alias labels.
    ///
    /// # Errors
    /// What is wrong with the header or the settings, in one sentence.
    pub fn of(
        header: &[String],
        settings: &ImportSettings,
        labels: Option<Vec<String>>,
    ) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        let mut columns = Vec::new();
        for name in header {
            let name = name.trim().trim_start_matches('\u{feff}').to_owned();
            if !name.is_empty() && !seen.insert(name.clone()) {
                return Err(format!("the column `{name}` appears twice"));
            }
            let column = match settings.columns.get(&name) {
                Some(meaning) => read(meaning).ok_or_else(|| unknown_meaning(&name, meaning))?,
                None => usual(&name, settings, labels.as_deref()),
            };
            columns.push((name, column));
        }
        let missing = |name: &&String| !seen.contains(*name);
        if let Some(name) = settings.columns.keys().chain(&settings.blank_removes).find(missing) {
            return Err(format!("the file has no column `{name}`; it has {}", header.join(", ")));
        }
        let meanings: Vec<&Column> =
            columns.iter().map(|(_, column)| column).filter(|c| **c != Column::Ignored).collect();
        if !meanings.iter().any(|column| matches!(column, Column::Alias(_))) {
            return Err(format!(
                "no column names the user: map one to `external_id` or an alias label; the file has {}",
                header.join(", ")
            ));
        }
        let blank_removes = settings.blank_removes.iter().cloned().collect();
        Ok(Self { columns, blank_removes, country_code: settings.country_code.clone(), labels })
    }

    /// Each column with what it means, for display.
    pub fn described(&self) -> Vec<(String, String)> {
        self.columns.iter().map(|(name, column)| (name.clone(), describe(column))).collect()
    }

    /// The user of a row.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn user(&self, fields: &[String]) -> Result<UserInput, RowProblem> {
        let whole = |reason: String| RowProblem { column: String::new(), reason };
        if fields.len() != self.columns.len() {
            return Err(whole(format!(
                "the row has {} fields, the header {}",
                fields.len(),
                self.columns.len()
            )));
        }
        let mut row = Row::default();
        for ((name, column), cell) in self.columns.iter().zip(fields) {
            let at = |reason: String| RowProblem { column: name.clone(), reason };
            if cell.contains('\u{fffd}') {
                return Err(at(
                    "the cell contains bytes that are not valid in the file's encoding".to_owned()
                ));
            }
            if cell.contains('\0') {
                return Err(at("the cell contains a NUL character".to_owned()));
            }
            let cell = cell.trim();
            if cell.is_empty() {
                if let (Column::Tag(tag, _), true) = (column, self.blank_removes.contains(name)) {
                    row.tags.insert(tag.clone(), Value::Null);
                }
                continue;
            }
            row.add(column, cell, self.country_code.as_deref()).map_err(at)?;
        }
        let (label, id) =
            row.name().ok_or_else(|| whole("no column that names the user has a value".to_owned()))?;
        let form = row.into_form(&label);
        UserInput::check((&label, &id), form, self.labels.as_deref()).map_err(|problems| {
            let first = problems.into_iter().next();
            first.map_or_else(
                || whole("the row can't be read".to_owned()),
                |problem| RowProblem { column: self.column_of(&problem.pointer), reason: problem.detail },
            )
        })
    }

    /// The header of the column that a pointer into a user is about.
    fn column_of(&self, pointer: &str) -> String {
        let mut steps = pointer.split('/').skip(1);
        let (Some(field), name) = (steps.next(), steps.next().unwrap_or_default()) else {
            return String::new();
        };
        let is_it = |column: &Column| match column {
            Column::Alias(label) => field == "aliases" && label == name,
            Column::Tag(tag, _) => field == "tags" && tag == name,
            Column::Email | Column::Phone => field == "subscriptions",
            other => describe(other) == field,
        };
        self.columns
            .iter()
            .find(|(_, column)| is_it(column))
            .map(|(name, _)| name.clone())
            .unwrap_or_default()
    }
}

fn unknown_meaning(name: &str, meaning: &str) -> String {
    format!(
        "`{meaning}` is no meaning of the column `{name}`: use external_id, an alias label, email, phone, language, \
         time_zone, country, latitude, longitude, tag:NAME, tag:NAME:number, tag:NAME:boolean, tag:NAME:date or ignore"
    )
}

fn read(meaning: &str) -> Option<Column> {
    if let Some(tag) = meaning.strip_prefix("tag:") {
        let (name, kind) = match tag.rsplit_once(':') {
            Some((name, "text")) => (name, TagKind::Text),
            Some((name, "number")) => (name, TagKind::Number),
            Some((name, "boolean")) => (name, TagKind::Boolean),
            Some((name, "date")) => (name, TagKind::Date),
            Some(_) | None => (tag, TagKind::Text),
        };
        return (!name.is_empty()).then(|| Column::Tag(name.to_owned(), kind));
    }
    match meaning {
        "" => None,
        "ignore" => Some(Column::Ignored),
        "email" => Some(Column::Email),
        "phone" => Some(Column::Phone),
        "language" => Some(Column::Language),
        "time_zone" => Some(Column::TimeZone),
        "country" => Some(Column::Country),
        "latitude" => Some(Column::Latitude),
        "longitude" => Some(Column::Longitude),
        label if label.contains([':', ' ']) => None,
        label => Some(Column::Alias(label.to_owned())),
    }
}

fn describe(column: &Column) -> String {
    match column {
        Column::Ignored => "ignore".to_owned(),
        Column::Alias(label) => label.clone(),
        Column::Email => "email".to_owned(),
        Column::Phone => "phone".to_owned(),
        Column::Language => "language".to_owned(),
        Column::TimeZone => "time_zone".to_owned(),
        Column::Country => "country".to_owned(),
        Column::Latitude => "latitude".to_owned(),
        Column::Longitude => "longitude".to_owned(),
        Column::Tag(name, TagKind::Text) => format!("tag:{name}"),
        Column::Tag(name, TagKind::Number) => format!("tag:{name}:number"),
        Column::Tag(name, TagKind::Boolean) => format!("tag:{name}:boolean"),
        Column::Tag(name, TagKind::Date) => format!("tag:{name}:date"),
    }
}

/// What a column of this name means without being mapped.
fn usual(name: &str, settings: &ImportSettings, declared: Option<&[String]>) -> Column {
    if REJECT_COLUMNS.contains(&name) || name.is_empty() {
        return Column::Ignored;
    }
    let declared = declared.unwrap_or_default();
    if declared.iter().any(|label| label == name) {
        return Column::Alias(name.to_owned());
    }
    let plain = name.replace(['_', '-', ' ', '.'], "").to_lowercase();
    if let Some((_, meaning)) = KNOWN.iter().find(|(known, _)| *known == plain) {
        return read(meaning).unwrap_or(Column::Ignored);
    }
    if let Some(label) = labels::meant(name, declared.iter().map(String::as_str))
        .filter(|label| declared.iter().any(|known| known == label))
    {
        return Column::Alias(label.to_owned());
    }
    if settings.other_columns_are_tags {
        Column::Tag(name.to_owned(), TagKind::Text)
    } else {
        Column::Ignored
    }
}

/// A row while its cells are read.
#[derive(Default)]
struct Row {
    aliases: BTreeMap<String, String>,
    subscriptions: Vec<SubscriptionForm>,
    tags: BTreeMap<String, Value>,
    form: UserForm,
}

impl Row {
    fn add(&mut self, column: &Column, cell: &str, country_code: Option<&str>) -> Result<(), String> {
        match column {
            Column::Ignored => {}
            Column::Alias(label) => {
                self.aliases.insert(label.clone(), cell.to_owned());
            }
            Column::Email => self.subscribe("email", cell.to_owned()),
            Column::Phone => self.subscribe("sms", phone(cell, country_code)?),
            Column::Language => self.form.language = Some(cell.to_owned()),
            Column::TimeZone => self.form.time_zone = Some(cell.to_owned()),
            Column::Country => self.form.country = Some(cell.to_owned()),
            Column::Latitude => self.form.latitude = Some(degrees(cell)?),
            Column::Longitude => self.form.longitude = Some(degrees(cell)?),
            Column::Tag(name, kind) => {
                self.tags.insert(name.clone(), tag(cell, *kind)?);
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, kind: &str, token: String) {
        // Never `enabled`: who has opted out stays opted out.
        self.subscriptions.push(SubscriptionForm { r#type: kind.to_owned(), token, enabled: None });
    }

    /// The alias that names the user: the External ID if there is one.
    fn name(&self) -> Option<(String, String)> {
        let first = self.aliases.get_key_value("external_id").or_else(|| self.aliases.first_key_value());
        first.map(|(label, id)| (label.clone(), id.clone()))
    }

    fn into_form(self, name: &str) -> UserForm {
        let aliases = self.aliases.into_iter().filter(|(label, _)| label != name);
        UserForm {
            aliases: aliases.map(|(label, id)| (label, Some(id))).collect(),
            subscriptions: self.subscriptions,
            tags: (!self.tags.is_empty()).then_some(self.tags),
            ..self.form
        }
    }
}

fn degrees(cell: &str) -> Result<f64, String> {
    cell.replace(',', ".").parse().map_err(|_| format!("`{cell}` is not a number of degrees"))
}

fn tag(cell: &str, kind: TagKind) -> Result<Value, String> {
    match kind {
        TagKind::Text => Ok(json!(cell)),
        TagKind::Number => {
            let is_plain = cell.parse::<f64>().is_ok_and(f64::is_finite) && !cell.contains(['e', 'E']);
            let unreadable =
                || format!("`{cell}` is not a number: write digits and at most one `.`, without separators");
            if is_plain { Ok(json!(cell.trim_start_matches('+'))) } else { Err(unreadable()) }
        }
        TagKind::Boolean => match cell.to_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(json!(true)),
            "false" | "no" | "0" => Ok(json!(false)),
            _ => Err(format!("`{cell}` is not a yes or no: write true or false")),
        },
        TagKind::Date => Ok(json!({ "date": cell })),
    }
}

/// Country codes whose numbers keep their leading zero.
const KEEP_ZERO: [&str; 3] = ["39", "378", "379"];

/// A phone number in E.164, without guessing a country.
fn phone(cell: &str, country_code: Option<&str>) -> Result<String, String> {
    if cell.contains(['E', 'e']) && cell.contains('+') && !cell.starts_with('+') {
        return Err(format!(
            "`{cell}` looks like a number that a spreadsheet has rounded; format the column as text and export it again"
        ));
    }
    let mut digits = String::new();
    for (place, character) in cell.chars().enumerate() {
        match character {
            '+' if place == 0 => digits.push('+'),
            ' ' | '-' | '.' | '(' | ')' | '/' | '\u{a0}' => {}
            other => match digit(other) {
                Some(digit) => digits.push(digit),
                None => return Err(format!("`{cell}` is not a phone number")),
            },
        }
    }
    // (0) in +49 (0) 151 is dialled within the country only.
    if digits.starts_with('+') {
        return Ok(if cell.contains("(0)") { digits.replacen('0', "", 1) } else { digits });
    }
    if let Some(international) = digits.strip_prefix("00") {
        return Ok(format!("+{international}"));
    }
    let Some(code) = country_code.map(|code| code.trim_start_matches('+')) else {
        return Err(format!(
            "`{cell}` has no country code: write +49151…, or set the import's `country_code`"
        ));
    };
    let national = if KEEP_ZERO.contains(&code) { digits.as_str() } else { digits.trim_start_matches('0') };
    Ok(format!("+{code}{national}"))
}

/// A digit of any script as ASCII.
fn digit(character: char) -> Option<char> {
    const ZEROS: [u32; 6] = [0x30, 0x660, 0x6f0, 0x966, 0x9e6, 0xff10];
    let code = u32::from(character);
    let zero = ZEROS.into_iter().find(|zero| (*zero..*zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn mapping(header: &[&str], settings: &ImportSettings) -> Result<Mapping, String> {
        Mapping::of(&texts(header), settings, Some(vec!["crm_id".to_owned()]))
    }

    #[test]
    fn usual_headers_are_understood_and_others_are_left_out() {
        let mapping = mapping(
            &["External ID", "E-Mail", "Phone Number", "CRM-ID", "Notes", "_reason"],
            &ImportSettings::default(),
        );
        let described: Vec<String> =
            mapping.unwrap().described().into_iter().map(|(_, column)| column).collect();
        assert_eq!(described, ["external_id", "email", "phone", "crm_id", "ignore", "ignore"]);
    }

    #[test]
    fn a_header_that_can_not_be_imported_says_why() {
        let none = ImportSettings::default();
        assert!(mapping(&["Email"], &none).unwrap_err().starts_with("no column names the user"));
        assert!(mapping(&["external_id", "a", "a"], &none).unwrap_err().contains("appears twice"));
        let wrong =
            ImportSettings { columns: [("Plan".to_owned(), "tag:".to_owned())].into(), ..none.clone() };
        assert!(mapping(&["external_id", "Plan"], &wrong).unwrap_err().contains("`tag:` is no meaning"));
        let absent = ImportSettings { columns: [("Plan".to_owned(), "tag:plan".to_owned())].into(), ..none };
        assert!(mapping(&["external_id"], &absent).unwrap_err().contains("no column `Plan`"));
    }

    #[test]
    fn an_empty_cell_leaves_things_alone_unless_it_is_said_to_remove() {
        let columns = [("Plan", "tag:plan"), ("City", "tag:city")];
        let settings = ImportSettings {
            columns: columns.into_iter().map(|(name, tag)| (name.to_owned(), tag.to_owned())).collect(),
            blank_removes: vec!["City".to_owned()],
            ..ImportSettings::default()
        };
        let mapping = mapping(&["external_id", "Plan", "City"], &settings).unwrap();
        let user = mapping.user(&texts(&["u1", "", ""])).unwrap();
        assert_eq!(user.tags, Some([("city".to_owned(), String::new())].into()));
    }

    #[test]
    fn phone_numbers_are_e164_or_have_an_exact_reason() {
        for (cell, code, expected) in [
            ("+49 151 23456789", None, Ok("+4915123456789")),
            ("+49 (0) 151-234", None, Ok("+49151234")),
            ("0049 151 234", None, Ok("+49151234")),
            ("0151/234", Some("49"), Ok("+49151234")),
            ("151 234", Some("+49"), Ok("+49151234")),
            ("06 1234 5678", Some("39"), Ok("+390612345678")),
            ("٠١٥١ ٢٣٤", Some("49"), Ok("+49151234")),
            ("0151 234", None, Err("has no country code")),
            ("4.41E+11", Some("44"), Err("spreadsheet")),
            ("call me", Some("49"), Err("not a phone number")),
        ] {
            match (phone(cell, code), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{cell}"),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{cell}: {reason}"),
                (read, _) => panic!("{cell}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_row_names_the_column_that_is_wrong() {
        let columns = [("Since", "tag:since:date"), ("Orders", "tag:orders:number")];
        let settings = ImportSettings {
            columns: columns.into_iter().map(|(name, tag)| (name.to_owned(), tag.to_owned())).collect(),
            ..ImportSettings::default()
        };
        let mapping = mapping(&["external_id", "Email", "Since", "Orders"], &settings).unwrap();
        let problem = |row: &[&str]| mapping.user(&texts(row)).unwrap_err();
        assert_eq!(problem(&["u1", "ann", "", ""]).column, "Email");
        assert_eq!(problem(&["u1", "", "soon", ""]).column, "Since");
        assert_eq!(problem(&["u1", "", "", "1e6"]).column, "Orders");
        assert_eq!(problem(&["null", "", "", ""]).column, "");
        assert!(problem(&["u1", "", ""]).reason.contains("3 fields, the header 4"));
        assert!(problem(&["", "ann@shop.example", "", ""]).reason.contains("no column that names the user"));
        let user = mapping.user(&texts(&["u1", "ann@shop.example", "2026-01-31", "7"])).unwrap();
        assert_eq!(
            user.tags.unwrap(),
            [("orders".to_owned(), "7".to_owned()), ("since".to_owned(), "1769817600".to_owned())].into()
        );
    }
}
