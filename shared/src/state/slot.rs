//! A copy of something that is elsewhere, kept for a short while.

use crate::domain::time::Clock;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::warn;

/// A cache of one copy. Concurrent readers share one read.
pub(crate) struct Slot<T> {
    /// What it is a copy of, for the log.
    name: &'static str,
    /// How long a copy serves before it is read again.
    fresh: Duration,
    /// How old a copy may be that serves while it cannot be read.
    oldest: Duration,
    state: Mutex<State<T>>,
}

/// How long a stale copy serves after it could not be read, before that is tried again.
const PAUSE: Duration = Duration::from_secs(10);

struct State<T> {
    /// When it was read, and what.
    copy: Option<(Duration, Arc<T>)>,
    /// When it last could not be read, by the system's clock and by ours.
    failed: Option<(Instant, Duration)>,
}

impl<T> Slot<T> {
    pub(crate) fn new(name: &'static str, fresh: Duration, oldest: Duration) -> Self {
        Self {
            name,
            fresh,
            oldest,
            state: Mutex::new(State {
                copy: None,
                failed: None,
            }),
        }
    }

    /// Forgets the copy.
    pub(crate) async fn forget(&self) {
        self.state.lock().await.copy = None;
    }

    pub(crate) async fn get(
        &self,
        clock: &Clock,
        read: impl Future<Output = Result<Option<T>>>,
    ) -> Result<Option<Arc<T>>> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let copy = state.copy.clone();
        let age = |at: Duration| clock.elapsed().saturating_sub(at);
        if let Some((at, copy)) = &copy
            && age(*at) < self.fresh
        {
            return Ok(Some(copy.clone()));
        }
        let began = clock.elapsed();
        let serves = copy.as_ref().is_some_and(|(at, _)| age(*at) < self.oldest);
        let no_answer = || Err(Error::Unavailable("no answer has come".to_owned()));
        let found = match state.failed {
            // Whoever has waited for an answer that did not come does not ask once more.
            Some((at, _)) if at > asked => no_answer(),
            // Nobody waits for an answer all the time while a copy serves.
            Some((_, at)) if serves && age(at) < PAUSE => no_answer(),
            _ => {
                let found = read.await;
                let failed = matches!(found, Err(Error::Unavailable(_)));
                state.failed = failed.then(|| (Instant::now(), clock.elapsed()));
                found
            }
        };
        match (found, copy) {
            (Ok(found), _) => {
                let found = found.map(Arc::new);
                state.copy = found.clone().map(|found| (began, found));
                Ok(found)
            }
            (Err(Error::Unavailable(cause)), copy) => {
                match copy.filter(|(at, _)| age(*at) < self.oldest) {
                    Some((_, copy)) => {
                        warn!(cause, "using a stale copy of {}", self.name);
                        Ok(Some(copy))
                    }
                    None => Err(Error::Unavailable(cause)),
                }
            }
            (Err(error), _) => Err(error),
        }
    }
}
