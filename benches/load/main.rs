//! The load benchmarks. `cargo bench --bench load` prints a table; `-- packing` shows how deliveries share calls at
//! OneSignal's free plan; `-- backlog` how urgent ones fare while a million bulk deliveries drain, and the cost of
//! being idle; `-- console` how long its pages take beside as many; `-- attack` how long one-time codes take during an
//! attack; `-- hanging` how long they take while one call in twenty hangs; `-- chaos` whether the results are
//! consistent after everything failed at once. Only ratios within one run mean anything on a shared machine.

#![expect(
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark stops where something fails, and its figures are rounded"
)]

mod arrivals;
mod attack;
mod backlog;
mod chaos;
mod console;
mod figures;
mod hanging;
mod packing;
mod setup;

#[tokio::main]
async fn main() {
    herald::app::choose_tls();
    let folder = std::env::temp_dir().join(format!("herald-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    match std::env::args().skip(1).find(|arg| !arg.starts_with('-')).as_deref() {
        None => figures::run(&folder).await,
        Some("packing") => packing::run(&folder).await,
        Some("backlog") => backlog::run(&folder).await,
        Some("console") => console::run(&folder).await,
        Some("attack") => attack::run(&folder).await,
        Some("hanging") => hanging::run(&folder).await,
        Some("chaos") => {
            chaos::run(&folder).await;
            chaos::unmount(&folder);
        }
        Some(other) => {
            eprintln!(
                "there is no run called {other}: packing, backlog, console, attack, hanging, chaos, or nothing for the table"
            );
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}
