//! Issuers that do not answer, as far as this process knows. They are left alone for a while, so that what waits for them
//! holds back nothing else; what is theirs stays due.

use crate::domain::time::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How often in a row an issuer may fail to answer before it is left alone.
const FAILURES: u32 = 5;
/// For how long then, in seconds; after that it is asked once more.
const REST: i64 = 60;
/// Seconds after which a failure counts for nothing.
const FORGOTTEN: i64 = 3600;

/// Which issuers have failed to answer last, and how often in a row.
#[derive(Debug, Default)]
pub(crate) struct Silence(Mutex<HashMap<String, Failing>>);

#[derive(Debug)]
struct Failing {
    times: u32,
    /// When it last failed, or was last asked again.
    last: Timestamp,
}

impl Silence {
    /// Whether an issuer may be asked at `now`. One that has been left alone long enough may be by the first who wants to.
    pub fn admits(&self, issuer: &str, now: Timestamp) -> bool {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failing.get_mut(issuer) {
            Some(one) if one.times >= FAILURES => {
                let rested = now >= one.last.plus_seconds(REST);
                if rested {
                    one.last = now;
                }
                rested
            }
            _ => true,
        }
    }

    /// Notes whether an issuer has answered.
    pub fn note(&self, issuer: &str, answered: bool, now: Timestamp) {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            failing.remove(issuer);
            return;
        }
        failing.retain(|_, one| now < one.last.plus_seconds(FORGOTTEN));
        let one = failing.entry(issuer.to_owned()).or_insert(Failing {
            times: 0,
            last: now,
        });
        one.times = one.times.saturating_add(1);
        one.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_rests_after_five_failures_in_a_row_and_one_answer_ends_it() {
        let silence = Silence::default();
        let at = |seconds| Timestamp::from_micros(0).plus_seconds(seconds);
        for _ in 1..FAILURES {
            silence.note("a", false, at(0));
        }
        silence.note("a", true, at(0));
        for i in 1..=FAILURES {
            assert!(silence.admits("a", at(0)), "{i}");
            silence.note("a", false, at(0));
        }
        assert!(!silence.admits("a", at(REST - 1)) && silence.admits("b", at(0)));
        assert!(silence.admits("a", at(REST)), "one more try");
        assert!(!silence.admits("a", at(REST)), "and only one");
        silence.note("a", false, at(REST));
        assert!(!silence.admits("a", at(REST)));
        silence.note("a", true, at(REST));
        assert!(silence.admits("a", at(REST)));
    }
}
