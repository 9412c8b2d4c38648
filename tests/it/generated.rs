//! Documents that are made from code: `HERALD_UPDATE_DOCS=1 cargo test generated` writes them anew.

use std::path::Path;

fn is_current(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("HERALD_UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{} is out of date: HERALD_UPDATE_DOCS=1 cargo test generated", path.display());
}

#[test]
fn the_openapi_description_says_what_the_routes_are() {
    let document = herald::api::openapi_document().to_pretty_json().expect("JSON");
    is_current("docs/openapi.json", &format!("{document}\n"));
}

#[test]
fn a_parameter_is_described_where_it_stands() {
    let document = serde_json::to_value(herald::api::openapi_document()).expect("JSON");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for operation in methods.as_object().expect("methods").values() {
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                let is_in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"] == "path", is_in_path, "{path} {name}");
            }
        }
    }
}

#[test]
fn the_configuration_page_says_what_can_be_set() {
    let page = format!(
        "# Configuration\n\nSettings come from these defaults, then `herald.toml` in the working folder (or the file that \
         `HERALD_CONFIG` names), then\n`HERALD_…` variables, then a command's flags. An unknown key is an error that names \
         the nearest known one.\n\nThis page is made from `src/config/default.toml`.\n\n```toml\n{}```\n",
        herald::config::reference()
    );
    is_current("docs/configuration.md", &page);
}

#[test]
fn the_states_page_names_every_state_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/delivery-states.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let table = page.split("## Transitions").next().expect("the table");
    let rows: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let states: Vec<&str> = herald::domain::delivery::StateName::ALL
        .into_iter()
        .map(herald::domain::delivery::StateName::as_str)
        .collect();
    assert_eq!(rows, states);
    let migration = include_str!("../../migrations/0002_events.sql");
    for state in states {
        assert!(migration.contains(&format!("'{state}'")), "Postgres does not know {state}");
    }
}
