//! How much a local server takes on at once, so that what it has taken on can be finished: a connection that is accepted may need
//! others, to the store and to an issuer.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// As many files as are asked for at start. More are of no use here, and some systems have no higher limit.
const FILES: u64 = 16_384;
/// Files that are no connection of a client's, nor one made for its sake: what goes out under egress's own limit, the worker's
/// requests to the store, the store's files.
const RESERVE: u64 = 256;
/// What one client's connection may need: itself, one to a server or an issuer, and both ends of one to the store, of which
/// not all are open at once.
const PER_CONNECTION: u64 = 3;
/// The connections that are accepted at once at most.
const CONNECTIONS: u64 = 4096;
/// How soon accepting is tried again when there is no room for it, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often the log says that there is none.
const QUIET: Duration = Duration::from_secs(30);

/// What a server takes on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The connections that are open at once; others wait to be accepted.
    pub connections: usize,
    /// How long the head of a request may take to arrive, from when one is awaited. So a connection may be idle for as long.
    pub head: Duration,
    /// How long its body may then take.
    pub body: Duration,
}

impl Limits {
    /// Those of a process that may open so many files.
    pub fn of_files(files: u64) -> Self {
        let room = files.saturating_sub(RESERVE) / PER_CONNECTION;
        Self {
            connections: room.clamp(16, CONNECTIONS) as usize,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
        }
    }
}

impl Default for Limits {
    /// Those of this process as it is.
    fn default() -> Self {
        Self::of_files(getrlimit(Resource::Nofile).current.unwrap_or(FILES))
    }
}

/// Raises the number of files that this process may open, as far as it may and there is use for it. Returns what it is then.
pub fn raise_files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let current = now.current.unwrap_or(u64::MAX);
    let wanted = now.maximum.unwrap_or(u64::MAX).min(FILES);
    if current >= wanted {
        return current;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: now.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            warn!(%error, current, "the limit of open files could not be raised");
            current
        }
    }
}

/// How often there was no room to accept in a row, and when the log said so.
#[derive(Debug, Default)]
pub struct Shortage {
    times: u32,
    told: Option<Instant>,
}

impl Shortage {
    /// What `accept` brings, once it brings something. Where there is no room for another connection it is not asked again at
    /// once: it would only say so again, as fast as it can.
    pub async fn accept<T, F: Future<Output = io::Result<T>>>(
        &mut self,
        mut accept: impl FnMut() -> F,
    ) -> T {
        loop {
            match accept().await {
                Ok(accepted) => {
                    self.times = 0;
                    return accepted;
                }
                Err(error) if is_of_one(&error) => {
                    debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    if self.told.is_none_or(|at| at.elapsed() >= QUIET) {
                        self.told = Some(Instant::now());
                        warn!(%error, "no connection can be accepted for the moment");
                    }
                    let (first, most) = PAUSES;
                    sleep(most.min(first * (1 << self.times.min(8)))).await;
                    self.times += 1;
                }
            }
        }
    }
}

/// Whether what failed is one connection, not accepting.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::ready;
    use tokio::time::timeout;

    #[test]
    fn whatever_is_accepted_leaves_room_for_what_it_needs() {
        for files in [1024, 4096, 10_240, 65_536, 1 << 20] {
            let limits = Limits::of_files(files);
            let most = limits.connections as u64 * PER_CONNECTION + RESERVE;
            assert!(most <= files, "{files}: {limits:?}");
            assert!(limits.connections as u64 <= CONNECTIONS);
        }
        assert_eq!(Limits::of_files(64).connections, 16);
        assert_eq!(Limits::of_files(1024).connections, 256);
    }

    #[tokio::test]
    async fn where_there_is_no_room_accepting_rests() {
        // EMFILE, ENFILE, ENOBUFS, ENOMEM.
        for code in [24, 23, 105, 12] {
            let mut asked = 0;
            let mut shortage = Shortage::default();
            let accepting = shortage.accept(|| {
                asked += 1;
                ready(Err::<(), _>(io::Error::from_raw_os_error(code)))
            });
            let over = timeout(Duration::from_millis(400), accepting).await;
            assert!(over.is_err());
            assert!(asked <= 4, "{code}: asked {asked} times");
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_gone_keeps_no_other_waiting() {
        let mut asked = 0;
        let mut shortage = Shortage::default();
        let accepting = shortage.accept(|| {
            asked += 1;
            ready(match asked {
                10_000.. => Ok(asked),
                _ => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
            })
        });
        let accepted = timeout(Duration::from_secs(20), accepting).await;
        assert_eq!(accepted.ok(), Some(10_000));
    }

    #[test]
    fn the_limit_of_files_only_rises() {
        let before = getrlimit(Resource::Nofile);
        let raised = raise_files();
        assert!(raised >= before.current.unwrap_or(u64::MAX).min(FILES));
        assert_eq!(getrlimit(Resource::Nofile).maximum, before.maximum);
        assert_eq!(raise_files(), raised);
    }
}
