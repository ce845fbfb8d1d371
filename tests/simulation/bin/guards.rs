//! Leaves out one condition of the writes after the other, and lives through histories until one of them notices:
//! `cargo run --release --package hawser-simulation --bin guards [HISTORIES_FOR_EACH]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool")]

use hawser_simulation::play::live;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Histories in which conditions are looked for.
const LOOKED_AT: u64 = 200;

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let each: u64 = std::env::args()
        .nth(1)
        .map_or(400, |text| text.parse().unwrap());
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for seed in 0..LOOKED_AT {
        for guard in live(seed, false, None).guards {
            seen.entry(guard).or_default().push(seed);
        }
    }
    let all: Vec<_> = seen.into_iter().collect();
    let next = AtomicUsize::new(0);
    let survivors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((guard, seeds)) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let own = seeds.iter().copied();
                    let tried = own.chain(LOOKED_AT..).take(each as usize);
                    let killer = tried.clone().find_map(|seed| {
                        let lived = catch_unwind(|| live(seed, false, Some(guard)).violations);
                        let violations = lived.unwrap_or_else(|_| vec!["a panic".to_owned()]);
                        violations.first().map(|first| (seed, first.clone()))
                    });
                    match killer {
                        Some((seed, what)) => {
                            let what: String = what.chars().take(120).collect();
                            println!("killed    {guard}\n          by seed {seed}: {what}");
                        }
                        None => {
                            println!("SURVIVED  {guard}");
                            survivors.lock().unwrap().push(guard.clone());
                        }
                    }
                }
            });
        }
    });
    let mut survivors = survivors.into_inner().unwrap();
    survivors.sort();
    println!("\n{} conditions, {} survived:", all.len(), survivors.len());
    survivors.iter().for_each(|guard| println!("{guard}"));
}
