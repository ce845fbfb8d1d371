//! A circuit breaker for each issuer, in this process: an issuer that repeatedly does not answer is not asked for a
//! while, so that its work does not hold back other work. Its work stays due.

use crate::domain::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Consecutive failures that open the circuit of an issuer.
const FAILURE_THRESHOLD: u32 = 5;
/// How long a circuit stays open, in seconds; then one trial request is allowed.
const OPEN_SECONDS: i64 = 60;
/// Seconds after which failures are forgotten.
const FORGET_AFTER_SECONDS: i64 = 3600;

/// The consecutive failures of issuers, by issuer.
#[derive(Debug, Default)]
pub(crate) struct CircuitBreaker(Mutex<HashMap<String, Failures>>);

#[derive(Debug)]
struct Failures {
    count: u32,
    /// The time of the last failure or of the last trial request.
    last_failure: Timestamp,
}

impl CircuitBreaker {
    /// Whether a request to an issuer is allowed at `now`. Once the circuit has been open long enough, one trial
    /// request is.
    pub fn allow(&self, issuer: &str, now: Timestamp) -> bool {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get_mut(issuer) {
            Some(one) if one.count >= FAILURE_THRESHOLD => {
                let may_retry = now >= one.last_failure.plus_seconds(OPEN_SECONDS);
                if may_retry {
                    one.last_failure = now;
                }
                may_retry
            }
            _ => true,
        }
    }

    /// Records whether an issuer has answered.
    pub fn record(&self, issuer: &str, answered: bool, now: Timestamp) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            failures.remove(issuer);
            return;
        }
        failures.retain(|_, one| now < one.last_failure.plus_seconds(FORGET_AFTER_SECONDS));
        let one = failures.entry(issuer.to_owned()).or_insert(Failures {
            count: 0,
            last_failure: now,
        });
        one.count = one.count.saturating_add(1);
        one.last_failure = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_five_failures_in_a_row_and_closes_after_one_answer() {
        let circuit_breaker = CircuitBreaker::default();
        let at = |seconds| Timestamp::from_micros(0).plus_seconds(seconds);
        for _ in 1..FAILURE_THRESHOLD {
            circuit_breaker.record("a", false, at(0));
        }
        circuit_breaker.record("a", true, at(0));
        for i in 1..=FAILURE_THRESHOLD {
            assert!(circuit_breaker.allow("a", at(0)), "{i}");
            circuit_breaker.record("a", false, at(0));
        }
        assert!(
            !circuit_breaker.allow("a", at(OPEN_SECONDS - 1)) && circuit_breaker.allow("b", at(0))
        );
        assert!(circuit_breaker.allow("a", at(OPEN_SECONDS)), "one more try");
        assert!(
            !circuit_breaker.allow("a", at(OPEN_SECONDS)),
            "and only one"
        );
        circuit_breaker.record("a", false, at(OPEN_SECONDS));
        assert!(!circuit_breaker.allow("a", at(OPEN_SECONDS)));
        circuit_breaker.record("a", true, at(OPEN_SECONDS));
        assert!(circuit_breaker.allow("a", at(OPEN_SECONDS)));
    }
}
