//! MJML: converted on a stack like that of the threads for input.
#![no_main]

use herald::domain::budget::Budget;
use herald::templating::mjml::to_html;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    // The converter's panics are caught where it is called; others still end the run.
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let _ = to_html(source, &Budget::default());
    let within = format!(
        "<mjml><mj-body><mj-section><mj-column><mj-text>{source}</mj-text></mj-column></mj-section></mj-body></mjml>"
    );
    let _ = to_html(&within, &Budget::default());
});
