//! Points in time with the precision of the finest contract (microseconds), and the clock they come from.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// How long a consent may take, in seconds.
pub const CONSENT_LIFETIME: i64 = 600;

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This instant moved by whole seconds.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// `2026-01-15T09:30:00.120Z` (TrueFoundry 1.1).
    pub fn millis_z(self) -> String {
        format!(
            "{}.{:03}Z",
            self.date_and_time(),
            self.0.rem_euclid(1_000_000) / 1000
        )
    }

    /// `2026-05-20T20:50:32.708302+00:00` (LangSmith 1.2).
    pub fn micros_offset(self) -> String {
        format!(
            "{}.{:06}+00:00",
            self.date_and_time(),
            self.0.rem_euclid(1_000_000)
        )
    }

    /// `2025-06-26T10:30:00Z` (Kambrium 9).
    pub fn seconds_z(self) -> String {
        format!("{}Z", self.date_and_time())
    }

    /// `2026-01`.
    pub fn month(self) -> String {
        let mut text = self.date_and_time();
        text.truncate(7);
        text
    }

    fn date_and_time(self) -> String {
        let at = OffsetDateTime::from_unix_timestamp(self.seconds())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

/// Where time comes from: the system, or a value that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// Microseconds since the epoch, moved by hand.
    Manual(Arc<AtomicI64>),
    /// A simulation's, in microseconds: the time of day, which may jump, and the time that has passed.
    #[cfg(feature = "simulation")]
    Simulated(Arc<AtomicI64>, Arc<AtomicI64>),
}

impl Clock {
    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
                Timestamp(i64::try_from(nanos / 1000).unwrap_or(i64::MAX))
            }
            Self::Manual(micros) => Timestamp(micros.load(Ordering::SeqCst)),
            #[cfg(feature = "simulation")]
            Self::Simulated(day, _) => Timestamp(day.load(Ordering::SeqCst)),
        }
    }

    /// The time since some moment of this process. Unlike the time of day, nobody can set it.
    pub fn elapsed(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match self {
            Self::System => START.elapsed(),
            Self::Manual(micros) => {
                Duration::from_micros(micros.load(Ordering::SeqCst).unsigned_abs())
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(_, passed) => {
                Duration::from_micros(passed.load(Ordering::SeqCst).unsigned_abs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_each_contract_form() {
        let at = Timestamp::from_micros(1_768_469_400_120_456);
        assert_eq!(at.millis_z(), "2026-01-15T09:30:00.120Z");
        assert_eq!(at.micros_offset(), "2026-01-15T09:30:00.120456+00:00");
        assert_eq!(at.seconds_z(), "2026-01-15T09:30:00Z");
    }
}
