//! Runs durable work concurrently until a deadline: what is not started or not finished by then stays due. Every step
//! is idempotent: it may be repeated, run by two workers at once, or be the last one before the process dies.

use super::{login_revocations, purge, revocations, subjects, verifications};
use crate::domain::job::Work;
use crate::operations::defer;
use crate::state::app::App;
use crate::table::Key;
use crate::{Error, Result};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, Stream, StreamExt};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, warn};

/// Concurrent pieces of work.
const MAX_CONCURRENT: usize = 32;
/// How many of them may ask the same issuer, and how many may ask none.
const MAX_CONCURRENT_PER_ISSUER: usize = 8;
/// Queued pieces of one issuer. What exceeds this is skipped and found again by the next query.
const MAX_QUEUED_PER_ISSUER: usize = 200;
/// How long a piece may run before it yields to others.
const TIME_SLICE: Duration = Duration::from_secs(10);

/// Processes one piece of work: one step of it in any case, and more until the deadline.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`]; completed steps stay completed.
pub async fn process(app: &App, work: &Work, until: Instant) -> Result<()> {
    match work {
        Work::Tombstone(tombstone) => purge::purge(app, tombstone, until).await,
        Work::Sweep(sweep) => purge::clear_voided(app, sweep, until).await,
        Work::Offboarding(offboarding) => subjects::run(app, offboarding, until).await,
        Work::Revocation(revocation) => revocations::present(app, revocation, until).await,
        Work::LoginRevocation(one) => login_revocations::present(app, one).await,
        Work::Verification(verification) => verifications::run(app, verification).await,
    }
}

/// Processes these pieces until the deadline and returns the record ids of those that failed. The rest stays due.
pub async fn process_batch<T: Send>(app: &App, pieces: Vec<(T, Work)>, until: Instant) -> Vec<T> {
    let mut scheduler = Scheduler::new(app, WorkSource::Stream, until);
    let mut failed = Vec::new();
    pieces
        .into_iter()
        .for_each(|piece| scheduler.enqueue(piece));
    loop {
        scheduler.start_ready();
        match scheduler.completed().await {
            Some((record_id, Err(cause))) => {
                error!(%cause, "processing a stream record failed");
                failed.push(record_id);
            }
            Some((_, Ok(()))) => {}
            None => return failed,
        }
    }
}

/// Processes what is due, and what becomes due meanwhile, until all started pieces have ended. Returns whether any was
/// started. Work that fails is deferred, and work that may take long is deferred in advance, so that it does not block
/// the rest.
///
/// # Errors
/// The first failure, after everything has been tried.
pub async fn process_due(app: &App, until: Instant) -> Result<bool> {
    let mut scheduler = Scheduler::new(app, WorkSource::DueIndex, until);
    let mut pages = pin!(due(app));
    let (mut to_read, mut failure) = (true, None);
    loop {
        scheduler.start_ready();
        let room = scheduler.has_room();
        let waits = room && !to_read && !scheduler.running.is_empty();
        tokio::select! {
            // Biased, so that simulations are deterministic.
            biased;
            Some(((), completed)) = scheduler.completed() => {
                if let Err(error) = completed {
                    failure.get_or_insert(error);
                }
            }
            page = pages.next(), if room && to_read => match page {
                Some(Ok(page)) => page.into_iter().for_each(|work| scheduler.enqueue(((), work))),
                Some(Err(error)) => {
                    to_read = false;
                    failure.get_or_insert(error);
                }
                None => to_read = false,
            },
            () = app.work_appeared.notified(), if waits => {
                to_read = true;
                pages.set(due(app));
            }
            else => return failure.map_or(Ok(scheduler.started), Err),
        }
    }
}

/// Pages of what is due now.
fn due(app: &App) -> impl Stream<Item = Result<Vec<Work>>> {
    let now = app.now();
    stream::try_unfold(Some(None), move |place| async move {
        let Some(after) = place else { return Ok(None) };
        let (due, next) = app.table.due_work(now, after).await?;
        Ok(Some((due, next.map(Some))))
    })
}

/// Processes due work until there is none or the deadline is reached.
///
/// # Errors
/// The first failure, after everything has been tried; what failed stays due.
pub async fn process_all(app: &App, until: Instant) -> Result<()> {
    let mut failure = None;
    while Instant::now() < until {
        match process_due(app, until).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                // A store that does not answer cannot be asked what is due, either.
                let passing = matches!(error, Error::Unavailable(_)) && failure.is_some();
                failure.get_or_insert(error);
                if passing {
                    break;
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Where a piece of work was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WorkSource {
    /// In the table's stream: it has just been written.
    Stream,
    /// In the index of due work: other workers may find it, too, and there may be more than can be started.
    DueIndex,
}

async fn process_one(app: &App, work: &Work, source: WorkSource, until: Instant) -> Result<()> {
    let mut until = until;
    if source == WorkSource::DueIndex {
        until = until.min(Instant::now() + TIME_SLICE);
        // An issuer or a server may not answer before this process ends.
        let asks = matches!(
            work,
            Work::Revocation(_) | Work::LoginRevocation(_) | Work::Verification(_)
        );
        if asks && !defer(app, work).await? {
            return Ok(());
        }
    }
    let completed = process(app, work, until).await;
    if completed.is_err()
        && let Err(cause) = defer(app, work).await
    {
        warn!(%cause, "failed work could not be deferred");
    }
    completed
}

/// Runs queued pieces, at most [`MAX_CONCURRENT`] at once and [`MAX_CONCURRENT_PER_ISSUER`] for each issuer, so that a
/// slow issuer delays only its own work. Each piece has a record id that is returned when it ends.
struct Scheduler<'a, T> {
    app: &'a App,
    source: WorkSource,
    until: Instant,
    queues: BTreeMap<String, IssuerQueue<T>>,
    /// The keys of queued and running pieces, so that none runs twice.
    known: HashSet<Key>,
    running: FuturesUnordered<BoxFuture<'a, Completed<T>>>,
    started: bool,
}

/// The pieces that ask the same issuer.
struct IssuerQueue<T> {
    running: usize,
    waiting: VecDeque<(T, Work)>,
}

struct Completed<T> {
    queue: String,
    key: Key,
    record_id: T,
    result: Result<()>,
}

impl<'a, T: Send + 'a> Scheduler<'a, T> {
    fn new(app: &'a App, source: WorkSource, until: Instant) -> Self {
        Self {
            app,
            source,
            until,
            queues: BTreeMap::new(),
            known: HashSet::new(),
            running: FuturesUnordered::new(),
            started: false,
        }
    }

    /// Whether another piece may be started.
    fn has_room(&self) -> bool {
        self.running.len() < MAX_CONCURRENT && Instant::now() < self.until
    }

    /// Queues a piece, unless it is known already or its queue is full; then it stays due.
    fn enqueue(&mut self, (record_id, work): (T, Work)) {
        let queue = self.queues.entry(queue_of(&work));
        let queue = queue.or_insert_with(|| IssuerQueue {
            running: 0,
            waiting: VecDeque::new(),
        });
        if queue.waiting.len() < MAX_QUEUED_PER_ISSUER && self.known.insert(work.key()) {
            queue.waiting.push_back((record_id, work));
        }
    }

    /// Starts queued pieces as long as there is room.
    fn start_ready(&mut self) {
        while self.has_room()
            && let Some((queue, record_id, work)) = self.next()
        {
            self.started = true;
            let (app, source, until) = (self.app, self.source, self.until);
            let piece = async move {
                let result = process_one(app, &work, source, until).await;
                let key = work.key();
                Completed {
                    queue,
                    key,
                    record_id,
                    result,
                }
            };
            self.running.push(piece.boxed());
        }
    }

    /// The next piece that may be started, from the queue with the fewest running pieces.
    fn next(&mut self) -> Option<(String, T, Work)> {
        self.queues
            .retain(|_, queue| queue.running > 0 || !queue.waiting.is_empty());
        let mut free: Vec<_> = self.queues.iter_mut().collect();
        free.retain(|(_, queue)| queue.running < MAX_CONCURRENT_PER_ISSUER);
        free.sort_by_key(|(_, queue)| queue.running);
        for (name, queue) in free {
            while let Some((record_id, work)) = queue.waiting.pop_front() {
                if is_circuit_open(self.app, &work) {
                    self.known.remove(&work.key());
                } else {
                    queue.running += 1;
                    return Some((name.clone(), record_id, work));
                }
            }
        }
        None
    }

    /// Waits until a piece ends; `None` if none is running.
    async fn completed(&mut self) -> Option<(T, Result<()>)> {
        let completed = self.running.next().await?;
        self.known.remove(&completed.key);
        if let Some(queue) = self.queues.get_mut(&completed.queue) {
            queue.running -= 1;
        }
        Some((completed.record_id, completed.result))
    }
}

/// The queue of a piece: its issuer; one for all that ask a server, and one for all that ask nobody.
fn queue_of(work: &Work) -> String {
    match work {
        Work::Revocation(one) => one.asks(),
        Work::LoginRevocation(one) => one.asks(),
        Work::Verification(_) => "verifications".to_owned(),
        Work::Tombstone(_) | Work::Sweep(_) | Work::Offboarding(_) => String::new(),
    }
}

/// Whether the circuit of the issuer that a piece asks is open. A revocation whose retry window is over is ended
/// anyway.
fn is_circuit_open(app: &App, work: &Work) -> bool {
    let now = app.now();
    match work {
        Work::Revocation(one) => !one.is_over(now) && !app.circuit_breaker.allow(&one.asks(), now),
        Work::LoginRevocation(one) => {
            !one.is_over(now) && !app.circuit_breaker.allow(&one.asks(), now)
        }
        Work::Tombstone(_) | Work::Sweep(_) | Work::Offboarding(_) | Work::Verification(_) => false,
    }
}
