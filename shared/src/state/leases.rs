//! When a lease that was not returned may be taken over. Clocks of different machines are never compared: a process
//! must have seen the same lease for as long as a lease lasts, by its own clock. So a wrong clock costs time, and
//! nothing else.

use crate::domain::credential::LEASE;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The number of tracked leases above which stale ones are dropped.
const MANY: usize = 1000;

/// When this process first saw each lease, as time elapsed in this process.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashMap<String, Duration>>);

impl Leases {
    /// Whether a lease may be taken, also over from another process. `elapsed` is the time elapsed in this process.
    pub fn is_free(&self, lease: Option<&str>, elapsed: Duration) -> bool {
        let Some(lease) = lease else {
            return true;
        };
        let lasts = Duration::from_secs(LEASE as u64);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MANY {
            seen.retain(|_, first| elapsed < *first + 10 * lasts);
        }
        let first = *seen.entry(lease.to_owned()).or_insert(elapsed);
        elapsed >= first + lasts
    }
}
