//! Tests that need more than one file of the analysis.

mod corpus;
mod families;
mod robustness;

use super::{Analysis, Limits, Unparseable, analyse};

const LIMITS: Limits = Limits {
    statement_bytes_max: 16 << 20,
};

/// Analyses on a thread with the stack that the analyst's threads have.
fn on_a_deep_stack<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new()
        .stack_size(super::STACK_BYTES)
        .spawn(work)
        .unwrap();
    thread.join().unwrap()
}

fn analysis(sql: &[u8]) -> Result<Analysis, Unparseable> {
    let sql = sql.to_vec();
    on_a_deep_stack(move || analyse(&sql, LIMITS))
}
