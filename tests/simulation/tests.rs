//! Many seeds, and that one seed is one history.

use crate::play::live;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Histories of one run of the tests.
const HISTORIES: u64 = 2000;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number")),
    )
}

/// `HAWSER_SEED=n` tells the history of one seed; `HAWSER_HISTORIES=n` lives through so many, from `HAWSER_FIRST=n` on.
#[test]
fn every_history_keeps_the_promise() {
    if let Some(seed) = setting("HAWSER_SEED") {
        let outcome = live(seed, true, None);
        outcome.trace.iter().for_each(|line| eprintln!("{line}"));
        assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
        return;
    }
    let first = setting("HAWSER_FIRST").unwrap_or(0);
    let count = setting("HAWSER_HISTORIES").unwrap_or(HISTORIES);
    let next = AtomicU64::new(first);
    let broken = Mutex::new(Vec::new());
    let tally = Mutex::new(BTreeMap::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count {
                        break;
                    }
                    let lived = catch_unwind(|| live(seed, false, None));
                    let violations = match lived {
                        Ok(outcome) => {
                            let mut tally = tally.lock().unwrap();
                            for (what, times) in outcome.tally {
                                *tally.entry(what).or_insert(0) += times;
                            }
                            outcome.violations
                        }
                        Err(_) => vec!["a panic".to_owned()],
                    };
                    if !violations.is_empty() {
                        broken.lock().unwrap().push((seed, violations));
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner().unwrap();
    broken.sort();
    eprintln!("{count} histories in {:?}", began.elapsed());
    for (what, times) in tally.into_inner().unwrap() {
        eprintln!("{times:>9} {what}");
    }
    for (seed, violations) in &broken {
        eprintln!("HAWSER_SEED={seed} cargo test --package hawser-simulation");
        violations.iter().for_each(|what| eprintln!("    {what}"));
    }
    assert!(
        broken.is_empty(),
        "{} of {count} histories break the promise",
        broken.len()
    );
}

#[test]
fn a_seed_is_one_history() {
    for seed in [1, 7, 23, 99, 1234] {
        let (once, again) = (live(seed, true, None), live(seed, true, None));
        let differs = once
            .trace
            .iter()
            .zip(&again.trace)
            .position(|(a, b)| a != b);
        assert_eq!(
            differs.map(|at| (&once.trace[at], &again.trace[at])),
            None,
            "seed {seed}"
        );
        assert_eq!(once.hash, again.hash, "seed {seed}");
        assert_eq!(
            once.hash,
            live(seed, false, None).hash,
            "seed {seed}: telling changes nothing"
        );
    }
}
