//! Fuzz targets for every parser that faces outside. One program for all: `HAWSER_FUZZ_TARGET` names the target, the arguments
//! are libFuzzer's. `.ci/fuzz` builds it and runs them.

#![no_main]
#![allow(
    missing_docs,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod inbound;
mod network;
mod outbound;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

type Target = fn(&[u8]);

/// Every target by its name, which is also that of its corpus.
const TARGETS: [(&str, Target); 9] = [
    ("bodies", inbound::bodies),
    ("jwt", inbound::jwt),
    ("jsonrpc", inbound::jsonrpc),
    ("ids", inbound::ids),
    ("cursors", inbound::cursors),
    ("challenge", outbound::challenge),
    ("metadata", outbound::metadata),
    ("sse", outbound::sse),
    ("catalogue", outbound::catalogue),
];

fn chosen() -> Target {
    let name = std::env::var("HAWSER_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(one, _)| *one == name);
    let (_, target) = found.unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("HAWSER_FUZZ_TARGET has to be one of {}", names.join(", "))
    });
    *target
}

/// Runs what waits for nothing.
fn run<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().unwrap());
    runtime.block_on(work)
}

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(chosen)(data);
});
