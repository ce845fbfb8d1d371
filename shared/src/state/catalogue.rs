//! Copies of the catalogue in a process, used for a short time.

use crate::domain::integration::Integration;
use crate::domain::time::Clock;
use crate::{Error, Result};
use secrecy::SecretString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OnceCell};
use tracing::warn;

/// How long a copy is used before the table is read again. Other processes may see a change as late as this.
const FRESH: Duration = Duration::from_secs(60);

/// The age up to which a copy is used while the store does not answer.
const OLDEST: Duration = Duration::from_secs(600);

/// The copies of the catalogue in this process.
#[derive(Default)]
pub(crate) struct Copies {
    pub(crate) all: Slot<Catalogue>,
    pub(crate) each: std::sync::Mutex<HashMap<String, Arc<Slot<CatalogueEntry>>>>,
}

/// The integrations, by name.
pub type Catalogue = BTreeMap<String, Integration>;

/// An integration of the catalogue.
pub struct CatalogueEntry {
    pub(crate) name: String,
    /// The integration as the table holds it.
    pub integration: Integration,
    /// The client secret, once it was needed.
    pub(crate) secret: OnceCell<SecretString>,
}

/// A cache of one copy. Concurrent readers share one read of the table.
pub(crate) struct Slot<T>(Mutex<State<T>>);

struct State<T> {
    /// The copy, with the time of the read.
    copy: Option<(Duration, Arc<T>)>,
    /// When the store last failed to answer.
    failed: Option<Instant>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            copy: None,
            failed: None,
        }))
    }
}

impl<T> Slot<T> {
    pub(crate) async fn get(
        &self,
        clock: &Clock,
        read: impl Future<Output = Result<Option<T>>>,
    ) -> Result<Option<Arc<T>>> {
        let asked = Instant::now();
        let mut state = self.0.lock().await;
        let copy = state.copy.clone();
        let age = |at: Duration| clock.elapsed().saturating_sub(at);
        if let Some((at, copy)) = &copy
            && age(*at) < FRESH
        {
            return Ok(Some(copy.clone()));
        }
        let began = clock.elapsed();
        let found = match state.failed {
            // A reader that waited for a failed read does not repeat it.
            Some(at) if at > asked => {
                Err(Error::Unavailable("the store did not answer".to_owned()))
            }
            _ => read.await,
        };
        match (found, copy) {
            (Ok(found), _) => {
                let found = found.map(Arc::new);
                state.copy = found.clone().map(|found| (began, found));
                Ok(found)
            }
            (Err(Error::Unavailable(cause)), copy) => {
                state.failed = Some(Instant::now());
                match copy.filter(|(at, _)| age(*at) < OLDEST) {
                    Some((_, copy)) => {
                        warn!(cause, "using a stale copy of the catalogue");
                        Ok(Some(copy))
                    }
                    None => Err(Error::Unavailable(cause)),
                }
            }
            (Err(error), _) => Err(error),
        }
    }
}
