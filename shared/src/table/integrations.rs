//! The catalogue: one item for each integration, and one that counts the changes, so that two who change it at once do not mix.

use super::{
    Condition, ENTITY, Item, Table, Update, Write, audit_log, encode, key_of, keys, readable, s,
};
use crate::Result;
use crate::domain::event::Event;
use crate::domain::integration::Integration;
use serde::{Deserialize, Serialize};

/// The attribute that counts.
const REVISION: &str = "revision";

/// An integration as the table holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// All that is said of it.
    pub integration: Integration,
}

#[derive(Deserialize)]
struct Counted {
    revision: u64,
}

/// What becomes of one integration.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// It is, whatever it was before.
    Put(&'a Stored),
    /// The one of this name is no more.
    Remove(&'a str),
}

impl Table {
    /// How often the catalogue was changed.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn catalogue_revision(&self) -> Result<u64> {
        let head = keys::catalogue();
        let counted: Option<Counted> = self.read(vec![head.clone()]).await?.get(&head)?;
        Ok(counted.map_or(0, |counted| counted.revision))
    }

    /// All integrations by name, ascending; without what it says, one that cannot be read.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn integrations(&self) -> Result<Vec<(String, Option<Stored>)>> {
        let (partition, prefix) = keys::integrations();
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.query_page(partition.clone(), prefix, after, 1000);
            let (items, next) = page.await?;
            let named = |item: &Item| {
                let name = key_of(item)?.sk.strip_prefix(prefix)?.to_owned();
                Some((name, readable(item)))
            };
            all.extend(items.iter().filter_map(named));
            after = next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// One integration.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn integration(&self, name: &str) -> Result<Option<Stored>> {
        let key = keys::integration(name);
        self.read(vec![key.clone()]).await?.get(&key)
    }

    /// Makes one change, if the catalogue was changed so often before. Returns `false` if it was changed meanwhile.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn change_integration(
        &self,
        revision: u64,
        change: Change<'_>,
        event: &Event,
    ) -> Result<bool> {
        let write = match change {
            Change::Put(stored) => {
                let item = encode(&keys::integration(&stored.name), "integration", stored)?;
                Write::Put(item, Condition::Any)
            }
            Change::Remove(name) => Write::Delete(keys::integration(name), Condition::Exists),
        };
        let head = Write::Update(Update {
            key: keys::catalogue(),
            set: vec![(ENTITY, s("catalogue"))],
            count: Vec::new(),
            next: vec![REVISION],
            condition: Condition::Counts(REVISION, revision),
        });
        self.write_if(vec![write, head, audit_log::put(event)?])
            .await
    }
}
