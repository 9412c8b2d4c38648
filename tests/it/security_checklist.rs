//! The security checklist: each rule of the project with the tests that hold it. `docs/security.md` has it as a table.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- checklist -->\n";
const END: &str = "<!-- end of checklist -->";

/// A rule: its number in OWASP ASVS 5.0, what it says, and the tests that hold it. One without a test says why instead.
struct Rule(&'static str, &'static str, Held);

enum Held {
    By(&'static [&'static str]),
    /// In part: what is missing.
    Partly(&'static [&'static str], &'static str),
    /// Not by a test: how, or why not.
    Otherwise(&'static str),
}

use Held::{By, Otherwise, Partly};

#[rustfmt::skip]
const RULES: [Rule; 52] = [
    Rule("1.2.4", "SQL takes values as parameters only", By(&["every_statement_fits_the_schema"])),
    Rule("1.2.2", "Links have an allowed scheme", By(&["a_push_may_lead_into_an_app_but_not_run_a_script", "links_and_images_in_html_are_looked_at"])),
    Rule("1.2.10", "Cells of CSV files run no formula", By(&["a_group_comes_as_a_file_whose_cells_no_spreadsheet_runs", "no_cell_begins_like_a_formula_but_phone_numbers_stay"])),
    Rule("1.2.1", "Values are escaped for their channel and place", By(&["values_in_html_are_escaped_for_their_place", "a_link_field_escapes_parts_and_checks_beginnings"])),
    Rule("1.3.6, 15.3.2", "No URL that a caller sets is fetched unless the settings allow it; no redirect is followed", By(&["an_app_s_address_is_one_that_the_settings_allow", "a_stored_key_is_never_sent_to_another_address", "a_redirect_is_never_followed_and_closes_the_app"])),
    Rule("1.3.7", "Values of events never become template text", By(&["captured_html_stays_html_and_its_values_are_escaped_once"])),
    Rule("1.3.11", "Line breaks and direction controls don't reach titles and subjects", By(&["direction_controls_in_values_do_not_reach_a_title"])),
    Rule("1.5.3", "One JSON parser, which refuses duplicate keys", By(&["whatever_a_field_holds_the_answer_is_never_a_failure_of_ours", "depth_is_bounded_at_32"])),
    Rule("2.2.1, 15.3.3", "Writes are validated by type, and unknown fields are refused", By(&["an_unknown_field_names_the_nearest_known_one", "a_wrong_field_is_pointed_at_wherever_it_stands"])),
    Rule("2.3.5", "A second person approves copy and large audiences; sending stops at once", By(&["a_replay_does_not_say_what_nobody_approved", "a_release_does_not_say_what_nobody_approved", "a_rule_does_not_go_around_approval_by_sending_another_template", "files_do_not_bring_unapproved_copy_live", "an_audience_waits_for_a_person_when_it_may_be_too_large"])),
    Rule("2.4.1", "Posts, log-ins, previews and checks are limited", By(&["each_recipient_counts_against_its_source_s_rate", "one_address_guesses_at_a_hundred_accounts_and_no_more", "a_path_of_thousands_of_steps_is_a_problem_with_its_place"])),
    Rule("3.3.1-4", "Cookies are `__Host-`, Secure, HttpOnly and SameSite=Strict", By(&["cookies_are_strict_and_with_https_they_are_secure_and_bound_to_the_host"])),
    Rule("3.4", "Every response carries a content policy, nosniff, a referrer policy, COOP and, with https, HSTS", By(&["every_response_carries_the_security_headers_errors_among_them"])),
    Rule("", "Previews are in frames without rights and load nothing from elsewhere", By(&["a_mail_is_shown_with_its_styles_in_a_frame_without_rights", "a_preview_loads_nothing_from_elsewhere_before_somebody_asks_for_it", "a_script_in_an_event_never_runs"])),
    Rule("3.5.1-3", "Forms come from the console itself; the API takes JSON only", By(&["where_the_console_s_address_is_known_no_other_origin_is_ours", "another_site_s_form_does_nothing_though_the_browser_is_logged_in"])),
    Rule("3.4.2", "No other origin may read responses (no CORS)", By(&["every_response_has_its_request_id_and_restricts_browsers"])),
    Rule("4.1.1", "Content types are exact", By(&["wrong_types_encodings_sizes_and_methods_are_distinguished"])),
    Rule("4.1.3", "Forwarded addresses are read from trusted proxies only", By(&["an_invented_forwarded_address_gives_no_fresh_guesses", "behind_a_proxy_one_client_s_guesses_throttle_no_other_client"])),
    Rule("4.1.4", "Unknown methods are refused", By(&["wrong_types_encodings_sizes_and_methods_are_distinguished"])),
    Rule("4.1.5, 11.2.4", "Webhooks are signed, recent, compared in constant time, and have several secrets", By(&["whatever_is_wrong_with_a_signature_the_answer_is_the_same_401", "the_published_examples_of_senders_that_sign_the_body_hold"])),
    Rule("4.2.1", "Heads are bounded and parsed strictly; slow clients are disconnected", By(&["a_head_over_16_kib_is_refused", "a_head_that_arrives_one_byte_at_a_time_is_not_waited_for", "clients_get_in_while_one_holds_as_many_connections_as_it_can"])),
    Rule("6.2", "Passwords have 12 to 128 characters and are not common ones", By(&["passwords_that_are_tried_first_are_not_taken"])),
    Rule("6.3.1", "Guesses are throttled by account, by address and in all", By(&["guesses_from_sixty_addresses_do_not_lock_the_owner_out_of_their_browser", "of_many_log_ins_at_once_fifty_wait_and_the_rest_is_sent_away"])),
    Rule("6.3.2", "No default account; the first admin comes in by a one-time token", By(&["the_first_admin_comes_in_by_the_token_that_was_printed_and_it_is_good_once"])),
    Rule("6.3.3", "A second factor, or single sign-on", By(&["a_second_factor_is_set_up_and_asked_for", "a_code_is_good_once", "a_token_without_a_signature_is_refused"])),
    Rule("6.3.8", "Nobody learns who has an account", By(&["failed_log_ins_are_logged_with_account_address_and_count_and_no_secret"])),
    Rule("11.4.2", "Passwords are hashed with argon2id, few at once", By(&["a_hash_fits_its_password_alone", "of_many_log_ins_at_once_fifty_wait_and_the_rest_is_sent_away"])),
    Rule("7.2.3-4", "Session tokens have 256 bits, are kept as hashes and new at each log-in", By(&["no_password_token_or_session_is_in_the_database_as_text", "another_log_in_in_a_browser_ends_the_session_that_it_held"])),
    Rule("7.3", "Sessions end after 30 minutes without use and 12 hours in all", By(&["a_session_ends_after_half_an_hour_without_use", "a_session_ends_after_twelve_hours_in_any_case"])),
    Rule("7.4", "Log-out, deactivation and an admin end sessions at once", By(&["a_log_out_ends_the_session_at_once_wherever_its_cookie_is", "who_is_shut_out_is_out_at_once_and_the_last_admin_stays"])),
    Rule("7.5.1", "Keys, roles and apps are managed after a fresh proof", By(&["the_right_password_opens_them_for_ten_minutes_and_a_wrong_one_does_not"])),
    Rule("6.5.5, 6.6.4", "One-time codes live ten minutes at most", Partly(&["a_code_is_gone_an_hour_after_it_has_served"], "there is no cap on messages for one person beside throttles of rules")),
    Rule("8.2.1-3", "One permission table for keys and one for people, each tested row by row", By(&["a_test_key_may_do_what_its_table_says_where_there_is_a_live_app", "a_key_limited_to_sources_may_do_what_its_table_says", "each_use_takes_the_one_scope_that_it_needs_and_no_other", "every_route_lets_in_the_roles_of_the_permission_table_and_no_other"])),
    Rule("8.3.2", "Changes of rights take effect at once", By(&["a_revoked_key_is_refused_at_once_by_who_revoked_it", "a_key_ends_when_it_was_to_end"])),
    Rule("8.4.1", "A key's sources limit every query", By(&["a_key_limited_to_sources_may_do_what_its_table_says", "a_key_for_some_event_types_gives_nobody_others"])),
    Rule("", "API keys have 256 bits and scopes, are kept as hashes and are refused within seconds once revoked", By(&["a_key_is_shown_once_and_kept_as_a_hash", "a_revoked_key_is_refused_at_once_by_who_revoked_it"])),
    Rule("11.3.2-4", "Sensitive values and keys are sealed, and the secret key can be rotated", By(&["codes_and_secrets_are_in_the_database_in_no_form_that_can_be_read", "after_a_rotation_the_earlier_key_can_be_taken_out"])),
    Rule("11.5.1", "Tokens come from the system's random numbers; ids are no secrets", By(&["a_key_is_shown_once_and_kept_as_a_hash"])),
    Rule("12.3", "TLS is verified; the database's unless it is on this machine", By(&["a_database_elsewhere_proves_who_it_is_unless_the_address_says_otherwise"])),
    Rule("13.2.2", "The service's role changes neither tables nor the audit log", By(&["a_role_with_the_service_s_rights_serves_and_can_t_change_what_was_recorded"])),
    Rule("13.3.1", "Secrets come from files or the environment, never from arguments", By(&["help_names_every_command_and_no_secret_is_taken_as_an_argument", "a_secret_comes_from_a_file_without_its_line_end"])),
    Rule("13.4", "No debug output and no listings; metrics need a key unless they are asked for on this machine", By(&["metrics_behind_a_proxy_need_a_key"])),
    Rule("14.2.1, 14.3.2", "No secret is in a URL, and no page is cached", By(&["every_response_carries_the_security_headers_errors_among_them"])),
    Rule("14.2.7", "Each kind of data is kept for its time", By(&["what_an_event_said_goes_before_the_record_that_it_happened", "a_code_is_gone_an_hour_after_it_has_served"])),
    Rule("14.2", "A person is erased on request", Otherwise("not yet: a person's data goes with retention")),
    Rule("15.1.2", "Dependencies: licences, sources, bans and advisories; an SBOM", Partly(&["every_dependency_may_be_shipped", "every_dependency_comes_from_the_registry_with_a_checksum"], "advisories are checked by `.ci/supply-chain`, which needs the advisory database")),
    Rule("", "The image has no shell, runs as nobody, read-only", By(&["the_image_has_no_shell_and_its_bases_are_named_at_one_place", "every_service_of_the_compose_file_has_limits"])),
    Rule("16.2.5", "Logs hold nothing secret and nobody's values", By(&["the_log_at_its_loudest_holds_no_secret_and_no_value"])),
    Rule("16.3.1-2", "Log-ins and refusals are logged", By(&["refused_pages_are_logged_with_member_permission_and_route_and_a_burst_is_counted", "failed_log_ins_are_logged_with_account_address_and_count_and_no_secret"])),
    Rule("16.4.2", "The audit log is append-only, and names the key", By(&["nobody_changes_the_record_by_sql", "a_key_shows_its_source_and_its_last_use_and_what_it_changed"])),
    Rule("16.5.1", "Errors are general and carry the request's id", By(&["every_response_has_its_request_id_and_restricts_browsers"])),
    Rule("16.5.3", "What fails is closed", By(&["without_a_key_every_address_says_the_same_and_what_is_public_is_open"])),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names of all functions below a folder.
fn functions(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            let names = text
                .lines()
                .filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            into.extend(names.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
}

fn table() -> String {
    let mut table = String::from("| # | rule | ASVS | held by |\n|---|---|---|---|\n");
    for (place, Rule(asvs, rule, held)) in RULES.iter().enumerate() {
        let tests =
            |tests: &[&str]| tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ");
        let held = match held {
            By(by) => tests(by),
            Partly(by, missing) => format!("{}; {missing}", tests(by)),
            Otherwise(how) => (*how).to_owned(),
        };
        let _ = writeln!(table, "| {} | {rule} | {asvs} | {held} |", place + 1);
    }
    table
}

#[test]
fn each_rule_of_the_checklist_is_held_by_tests_that_exist() {
    let mut known = BTreeSet::new();
    for folder in ["tests", "src"] {
        functions(&root().join(folder), &mut known);
    }
    for Rule(_, rule, held) in &RULES {
        let tests = match held {
            By(tests) | Partly(tests, _) => *tests,
            Otherwise(_) => &[],
        };
        let missing: Vec<_> = tests.iter().filter(|test| !known.contains(**test)).collect();
        assert!(missing.is_empty(), "{rule}: there is no test {missing:?}");
    }
    let path = root().join("docs/security.md");
    let page = std::fs::read_to_string(&path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("the beginning of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
    if std::env::var_os("HERALD_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("written");
        return;
    }
    assert!(
        page == wanted,
        "docs/security.md is out of date: HERALD_UPDATE_DOCS=1 cargo test security_checklist"
    );
}
