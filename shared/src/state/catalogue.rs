//! Copies of the catalogue in a process, kept for a short while.

use crate::domain::integration::Integration;
use crate::state::slot::Slot;
use secrecy::SecretString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a copy serves before the table is read again. So long a change may take to be seen everywhere.
const FRESH: Duration = Duration::from_secs(60);

/// How old a copy may be that serves while the store does not answer.
const OLDEST: Duration = Duration::from_secs(600);

/// What was read of the catalogue a short while ago.
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
    /// All that is said of it.
    pub integration: Integration,
    /// The secret of its client, once it was needed.
    pub(crate) secret: OnceCell<SecretString>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new("the catalogue", FRESH, OLDEST)
    }
}
