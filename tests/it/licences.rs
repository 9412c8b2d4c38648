//! Every crate that is built into Herald, or builds it, has a licence that lets us ship it.

use std::process::Command;

use serde_json::Value;

/// Licences that ask for no more than their text and a notice.
const ALLOWED: [&str; 9] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
];

/// What the tests alone are built with, and no binary: its licence asks for changes of its own files to be published.
const TESTS_ONLY: [&str; 1] = ["webdriver"];

/// Whether a licence expression can be met with allowed licences alone: any side of an `OR`, every side of an `AND`.
fn is_met(expression: &str) -> bool {
    // Old manifests write `MIT/Apache-2.0`.
    let expression = expression.replace('/', " OR ");
    let mut tokens = expression.replace('(', " ( ").replace(')', " ) ");
    tokens.push_str(" end");
    let mut tokens = tokens.split_whitespace().peekable();
    any_of(&mut tokens) && tokens.next() == Some("end")
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(tokens: &mut Tokens) -> bool {
    let mut met = all_of(tokens);
    while tokens.next_if_eq(&"OR").is_some() {
        met |= all_of(tokens);
    }
    met
}

fn all_of(tokens: &mut Tokens) -> bool {
    let mut met = one(tokens);
    while tokens.next_if_eq(&"AND").is_some() {
        met &= one(tokens);
    }
    met
}

fn one(tokens: &mut Tokens) -> bool {
    if tokens.next_if_eq(&"(").is_some() {
        return any_of(tokens) && tokens.next() == Some(")");
    }
    let Some(mut name) = tokens.next().map(str::to_owned) else { return false };
    if tokens.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", tokens.next().unwrap_or_default());
    }
    ALLOWED.contains(&name.as_str())
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("{program} did not run: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The crates in use on this machine's target, as cargo knows them; this build has fetched them all.
fn packages() -> Vec<Value> {
    let about = run("rustc", &["-vV"]);
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut arguments =
        vec!["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host];
    if cfg!(feature = "oidc") {
        arguments.extend(["--features", "oidc"]);
    }
    let metadata: Value = serde_json::from_str(&run(&cargo, &arguments)).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

#[test]
fn every_dependency_may_be_shipped() {
    let packages = packages();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !TESTS_ONLY.iter().any(|name| package["name"] == *name))
        .filter(|package| !package["license"].as_str().is_some_and(is_met))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(packages.len() > 100, "cargo named {} crates only", packages.len());
    assert!(refused.is_empty(), "not on the list:\n{}", refused.join("\n"));
}

#[test]
fn what_only_the_tests_need_is_in_no_binary() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = run(&cargo, &["tree", "--edges", "normal,build", "--prefix", "none", "--locked", "--offline"]);
    for name in TESTS_ONLY {
        assert!(tree.lines().all(|line| !line.starts_with(&format!("{name} "))), "{name} is built in");
    }
}

#[test]
fn a_choice_needs_one_side_and_a_sum_needs_both() {
    for met in ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Zlib", "MIT OR GPL-3.0 AND X"] {
        assert!(is_met(met), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "", "MIT WITH X", "(MIT", "MIT Zlib", "MIT-9"] {
        assert!(!is_met(unmet), "{unmet}");
    }
}
