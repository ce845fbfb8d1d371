//! Copies of the catalogue in a process, used for a short time.

use crate::domain::integration::Integration;
use crate::state::slot::Slot;
use secrecy::SecretString;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

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

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new("the catalogue", FRESH, OLDEST)
    }
}
