//! Leaves out one condition of the writes after the other, and says whether a history notices:
//! `cargo run --release --package hawser-simulation --bin guards [HISTORIES [FOR_EACH [NAME]]]`.
//!
//! First those of so many seeds that are duels are lived through with all conditions, to see which refuse a write. One that refuses none, or only
//! beside others, cannot be missed there. Each of the others is then left out of histories in which it alone refused a
//! write: `FOR_EACH` of them at most. Where a name is given, those whose name contains it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool")]

use hawser_simulation::play::{is_of_duels, live};
use hawser_simulation::world::Refusals;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{available_parallelism, scope};

/// What is known of one condition.
#[derive(Default)]
struct Known {
    /// Histories in which it was sent.
    sent: u64,
    /// Those in which it alone refused a write.
    alone: Vec<u64>,
    /// Beside which others it refused one, and how often.
    beside: BTreeMap<String, u64>,
}

fn on_all_cores(work: impl Fn() + Sync) {
    scope(|scope| {
        for _ in 0..available_parallelism().map_or(2, usize::from) {
            scope.spawn(&work);
        }
    });
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        let next = arguments.next();
        next.map_or(default, |text| text.parse().unwrap())
    };
    let (histories, each) = (number(1000), number(40) as usize);
    let only = arguments.next().unwrap_or_default();
    let known: Mutex<BTreeMap<String, Known>> = Mutex::default();
    let next = AtomicU64::new(0);
    on_all_cores(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= histories {
                break;
            }
            if !is_of_duels(seed) {
                continue;
            }
            let outcome = live(seed, false, None);
            let mut known = known.lock().unwrap();
            for guard in outcome.guards {
                known.entry(guard).or_default().sent += 1;
            }
            for (guard, Refusals { alone, beside }) in outcome.refusals {
                let known = known.entry(guard).or_default();
                known.alone.extend((alone > 0).then_some(seed));
                for (other, times) in beside {
                    *known.beside.entry(other).or_default() += times;
                }
            }
        }
    });
    let all: Vec<_> = known.into_inner().unwrap().into_iter().collect();
    let all: Vec<_> = all
        .iter()
        .filter(|(name, _)| name.contains(&only))
        .collect();
    let next = AtomicUsize::new(0);
    let (idle, survivors) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    on_all_cores(|| {
        while let Some((guard, known)) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
            if known.alone.is_empty() {
                idle.fetch_add(1, Ordering::SeqCst);
                let most = known.beside.iter().max_by_key(|(_, times)| **times);
                let why = most.map_or("refused nothing".to_owned(), |(other, times)| {
                    format!("refused only beside others: {times} times beside {other}")
                });
                println!(
                    "IDLE      {guard}\n          in {} histories: {why}",
                    known.sent
                );
                continue;
            }
            let tried = known.alone.iter().take(each);
            let killer = tried.clone().find_map(|seed| {
                let lived = catch_unwind(|| live(*seed, false, Some(guard)).violations);
                let violations = lived.unwrap_or_else(|_| vec!["a panic".to_owned()]);
                violations.first().map(|first| (*seed, first.clone()))
            });
            match killer {
                Some((seed, what)) => {
                    let what: String = what.chars().take(120).collect();
                    println!("killed    {guard}\n          by seed {seed}: {what}");
                }
                None => {
                    let tried = tried.count();
                    println!(
                        "SURVIVED  {guard}\n          {tried} histories in which it alone refused a write"
                    );
                    survivors.lock().unwrap().push(guard.clone());
                }
            }
        }
    });
    let mut survivors = survivors.into_inner().unwrap();
    survivors.sort();
    let (count, idle) = (all.len(), idle.into_inner());
    println!(
        "\n{count} conditions, {idle} idle, {} survived:",
        survivors.len()
    );
    survivors.iter().for_each(|guard| println!("{guard}"));
}
