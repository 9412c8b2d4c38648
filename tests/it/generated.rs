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
fn the_configuration_page_says_what_can_be_set() {
    let page = format!(
        "# Configuration\n\nSettings come from these defaults, then `herald.toml` in the working folder (or the file that \
         `HERALD_CONFIG` names), then\n`HERALD_…` variables, then a command's flags. An unknown key is an error that names \
         the nearest known one.\n\nThis page is made from `src/config/default.toml`.\n\n```toml\n{}```\n",
        herald::config::reference()
    );
    is_current("docs/configuration.md", &page);
}
