//! Durable work, several pieces at once, for as long as there is time: what is not begun or not finished by then stays due.
//! Every step may be repeated, run by two workers at once, or be the last one before the process dies.

use super::{purge, revocations, subjects, verifications};
use crate::app::App;
use crate::table::Key;
use crate::table::work::Work;
use crate::{Error, Result};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, Stream, StreamExt};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;
use tracing::{error, warn};

/// Pieces worked off at once.
const AT_ONCE: usize = 32;
/// How many of them may need the same issuer; also how many may need none.
const OF_ONE: usize = 8;
/// Pieces of one issuer that are kept until there is room. What is more is passed over, and found again.
const WAITING: usize = 200;
/// For how long a piece may go on before it is another's turn.
const TURN: Duration = Duration::from_secs(10);
/// How long work that failed is put off.
const PAUSE_SECONDS: i64 = 60;

/// Works off one piece, a first step of it in any case and more until the time is over.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`]; what was done stays done.
pub async fn work_off(app: &App, work: &Work, until: Instant) -> Result<()> {
    match work {
        Work::Tombstone(tombstone) => purge::purge(app, tombstone, until).await,
        Work::Sweep(sweep) => purge::clear_voided(app, sweep, until).await,
        Work::Offboarding(offboarding) => subjects::carry_out(app, offboarding, until).await,
        Work::Revocation(revocation) => revocations::present(app, revocation, until).await,
        Work::Verification(verification) => verifications::carry_out(app, verification).await,
    }
}

/// Works off these pieces as far as there is time, and answers the marks of those that failed. What is left is due.
pub async fn work_off_these<T: Send>(app: &App, pieces: Vec<(T, Work)>, until: Instant) -> Vec<T> {
    let mut crew = Crew::new(app, Found::New, until);
    let mut failed = Vec::new();
    pieces.into_iter().for_each(|piece| crew.queue(piece));
    loop {
        crew.begin();
        match crew.ended().await {
            Some((mark, Err(cause))) => {
                error!(%cause, "work from the stream is unfinished");
                failed.push(mark);
            }
            Some((_, Ok(()))) => {}
            None => return failed,
        }
    }
}

/// Goes through what is due, and again whenever more has appeared, until all that was begun is over. Answers whether there
/// was anything to begin. What fails, or may take the process with it, is put off, so that it never stands before the rest.
///
/// # Errors
/// The first failure, after everything has been tried.
pub async fn work_off_due(app: &App, until: Instant) -> Result<bool> {
    let mut crew = Crew::new(app, Found::Due, until);
    let mut pages = pin!(due(app));
    let (mut to_read, mut failure) = (true, None);
    loop {
        crew.begin();
        let room = crew.has_room();
        let waits = room && !to_read && !crew.running.is_empty();
        tokio::select! {
            // In order, so that a simulation can be run again. Reading waits for no more than what is running.
            biased;
            Some(((), ended)) = crew.ended() => {
                if let Err(error) = ended {
                    failure.get_or_insert(error);
                }
            }
            page = pages.next(), if room && to_read => match page {
                Some(Ok(page)) => page.into_iter().for_each(|work| crew.queue(((), work))),
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
            else => return failure.map_or(Ok(crew.begun), Err),
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

/// Works off everything that is due, until there is nothing left or the time is over.
///
/// # Errors
/// The first failure, after everything has been tried; what failed stays due.
pub async fn work_off_all(app: &App, until: Instant) -> Result<()> {
    let mut failure = None;
    while Instant::now() < until {
        match work_off_due(app, until).await {
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

pub(super) async fn put_off(app: &App, work: &Work) -> Result<bool> {
    let until = app.now().plus_seconds(PAUSE_SECONDS);
    app.table.put_off(work, until).await
}

/// Where pieces come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// From the stream: they have only just been written.
    New,
    /// From the index: others may find them too, and there may be more of them than can be begun.
    Due,
}

async fn one(app: &App, work: &Work, found: Found, until: Instant) -> Result<()> {
    let mut until = until;
    if found == Found::Due {
        until = until.min(Instant::now() + TURN);
        // An issuer or a server may keep its answer until this process is gone.
        let asks = matches!(work, Work::Revocation(_) | Work::Verification(_));
        if asks && !put_off(app, work).await? {
            return Ok(());
        }
    }
    let ended = work_off(app, work, until).await;
    if ended.is_err()
        && let Err(cause) = put_off(app, work).await
    {
        warn!(%cause, "work that failed could not be put off");
    }
    ended
}

/// Pieces at work, [`AT_ONCE`] together and [`OF_ONE`] for each issuer, so that a slow one holds back its own alone; and
/// those that wait for a place. Each has a mark by which its end is told.
struct Crew<'a, T> {
    app: &'a App,
    found: Found,
    until: Instant,
    lanes: BTreeMap<String, Lane<T>>,
    /// What waits or runs, so that nothing is begun twice.
    known: HashSet<Key>,
    running: FuturesUnordered<BoxFuture<'a, Ended<T>>>,
    begun: bool,
}

/// Pieces that need the same issuer.
struct Lane<T> {
    running: usize,
    waiting: VecDeque<(T, Work)>,
}

struct Ended<T> {
    lane: String,
    key: Key,
    mark: T,
    result: Result<()>,
}

impl<'a, T: Send + 'a> Crew<'a, T> {
    fn new(app: &'a App, found: Found, until: Instant) -> Self {
        Self {
            app,
            found,
            until,
            lanes: BTreeMap::new(),
            known: HashSet::new(),
            running: FuturesUnordered::new(),
            begun: false,
        }
    }

    /// Whether a piece could be begun if there were one.
    fn has_room(&self) -> bool {
        self.running.len() < AT_ONCE && Instant::now() < self.until
    }

    /// Takes a piece in, unless it is there or too many of its kind are. It stays due.
    fn queue(&mut self, (mark, work): (T, Work)) {
        let lane = self.lanes.entry(lane_of(&work));
        let lane = lane.or_insert_with(|| Lane {
            running: 0,
            waiting: VecDeque::new(),
        });
        if lane.waiting.len() < WAITING && self.known.insert(work.key()) {
            lane.waiting.push_back((mark, work));
        }
    }

    /// Begins as many as there is room for.
    fn begin(&mut self) {
        while self.has_room()
            && let Some((lane, mark, work)) = self.next()
        {
            self.begun = true;
            let (app, found, until) = (self.app, self.found, self.until);
            let piece = async move {
                let result = one(app, &work, found, until).await;
                let key = work.key();
                Ended {
                    lane,
                    key,
                    mark,
                    result,
                }
            };
            self.running.push(piece.boxed());
        }
    }

    /// The next piece that may be begun, of the lane in which the fewest are running.
    fn next(&mut self) -> Option<(String, T, Work)> {
        self.lanes
            .retain(|_, lane| lane.running > 0 || !lane.waiting.is_empty());
        let mut free: Vec<_> = self.lanes.iter_mut().collect();
        free.retain(|(_, lane)| lane.running < OF_ONE);
        free.sort_by_key(|(_, lane)| lane.running);
        for (name, lane) in free {
            while let Some((mark, work)) = lane.waiting.pop_front() {
                if rests(self.app, &work) {
                    self.known.remove(&work.key());
                } else {
                    lane.running += 1;
                    return Some((name.clone(), mark, work));
                }
            }
        }
        None
    }

    /// Waits for the end of a piece; `None` if none is running.
    async fn ended(&mut self) -> Option<(T, Result<()>)> {
        let ended = self.running.next().await?;
        self.known.remove(&ended.key);
        if let Some(lane) = self.lanes.get_mut(&ended.lane) {
            lane.running -= 1;
        }
        Some((ended.mark, ended.result))
    }
}

/// Whom a piece needs to answer; those that need a server wait for each other, as do those that need nobody.
fn lane_of(work: &Work) -> String {
    match work {
        Work::Revocation(one) => one.asks(),
        Work::Verification(_) => "verifications".to_owned(),
        Work::Tombstone(_) | Work::Sweep(_) | Work::Offboarding(_) => String::new(),
    }
}

/// Whether a piece is left for later since its issuer does not answer. What has waited long enough is ended all the same.
fn rests(app: &App, work: &Work) -> bool {
    let now = app.now();
    match work {
        Work::Revocation(one) => !one.is_over(now) && !app.silence.admits(&one.asks(), now),
        Work::Tombstone(_) | Work::Sweep(_) | Work::Offboarding(_) | Work::Verification(_) => false,
    }
}
