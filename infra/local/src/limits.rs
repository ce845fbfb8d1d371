//! How many connections a local server accepts at once. A connection may need others, to the store and to an issuer, so
//! the limit leaves room for those.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// The number of open files that is asked for at start. More are of no use here, and some systems allow no more.
const FILES: u64 = 16_384;
/// Files that are neither connections of clients nor opened on their behalf: outgoing requests within the limit of
/// egress, the worker's requests to the store, the store's files.
const RESERVE: u64 = 256;
/// Files for one client's connection: the connection, one to a server or an issuer, and both ends of one to the store.
/// Not all are open at once.
const PER_CONNECTION: u64 = 3;
/// The most connections that are accepted at once.
const CONNECTIONS: u64 = 4096;
/// How long accepting pauses when there is no room: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The shortest time between two log lines that say there is no room.
const QUIET: Duration = Duration::from_secs(30);

/// The limits of a local server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most open connections. Others wait to be accepted.
    pub connections: usize,
    /// The longest time for the head of a request, from when the server waits for it. A connection may be idle as long.
    pub head: Duration,
    /// The longest time for the body after the head.
    pub body: Duration,
}

impl Limits {
    /// The limits for a process that may open this many files.
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
    /// The limits for this process and its present number of files.
    fn default() -> Self {
        Self::of_files(getrlimit(Resource::Nofile).current.unwrap_or(FILES))
    }
}

/// Raises the number of files that this process may open to 16,384, or as far as the system allows. Returns the
/// number.
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

/// How many times in a row there was no room to accept, and when that was last logged.
#[derive(Debug, Default)]
pub struct Shortage {
    times: u32,
    told: Option<Instant>,
}

impl Shortage {
    /// Calls `accept` until it returns a connection. Where there is no room for one, it pauses before the next call,
    /// which would fail at once.
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
                    debug!(%error, "a client closed its connection before it was accepted");
                }
                Err(error) => {
                    if self.told.is_none_or(|at| at.elapsed() >= QUIET) {
                        self.told = Some(Instant::now());
                        warn!(%error, "no connection can be accepted at present");
                    }
                    let (first, most) = PAUSES;
                    sleep(most.min(first * (1 << self.times.min(8)))).await;
                    self.times += 1;
                }
            }
        }
    }
}

/// Whether the failure concerns one connection only, and not accepting as such.
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
