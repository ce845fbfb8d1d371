//! What takes how long, and how much memory: `cargo bench --package hawser-local --bench bench`, with a part's name
//! (`answers`, `purge`, `calls`) for that part alone, and `--small` for sizes that only show that it works. Times are printed
//! as ratios of two kinds of call made by turns in one run, so that a slow machine does not matter. docs/BENCHMARKS.md has
//! the figures.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    unused_imports,
    reason = "benchmarks, and the tests of their issuer"
)]

mod answers;
mod calls;
#[path = "../it/issuer.rs"]
mod issuer;
mod parts;
mod purge;

use std::env::args;
use std::process::ExitCode;

fn main() -> ExitCode {
    let asked: Vec<String> = args().skip(1).filter(|arg| arg != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    if let Some(role) = asked.iter().find_map(|arg| arg.strip_prefix("role=")) {
        runtime.block_on(parts::play(role));
        return ExitCode::SUCCESS;
    }
    let small = asked.iter().any(|arg| arg == "--small");
    let parts: Vec<_> = asked.iter().filter(|arg| !arg.starts_with("--")).collect();
    let is_asked = |part: &str| parts.is_empty() || parts.iter().any(|one| *one == part);
    let mut good = true;
    if is_asked("answers") {
        good &= runtime.block_on(answers::run(small));
    }
    if is_asked("purge") {
        runtime.block_on(purge::run(small));
    }
    if is_asked("calls") {
        runtime.block_on(calls::run(small));
    }
    ExitCode::from(u8::from(!good))
}
