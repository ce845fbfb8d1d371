//! Looking at everything there is, to prove that nothing dangles. The one place that scans the table.

use super::receipts::Receipt;
use super::{DUE_INDEX, ENTITY, Item, PK, SK, Table, failed, keys};
use crate::Result;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "orphan", rename_all = "kebab-case")]
pub enum Orphan {
    /// Items in the partition of a server that neither exists nor has a tombstone.
    ItemsWithoutServer {
        /// The partition.
        partition: String,
    },
    /// A name or a number that leads to no server.
    LeadsNowhere {
        /// The partition.
        partition: String,
        /// The name's or number's sort key.
        key: String,
    },
    /// A server that its name or its number does not lead to.
    NotLedTo {
        /// The partition.
        partition: String,
        /// The name's or number's sort key.
        key: String,
    },
    /// A deleted server that still has its record.
    Undead {
        /// The partition.
        partition: String,
    },
    /// Work that is in no index, so that nobody will find it.
    NeverDue {
        /// The partition.
        partition: String,
        /// The sort key.
        key: String,
    },
    /// A receipt in progress that no work will complete.
    NeverComplete {
        /// The partition.
        partition: String,
        /// The sort key.
        key: String,
    },
}

/// What one look at the whole table found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// Items of each kind.
    pub items: BTreeMap<String, u64>,
    /// What should not be.
    pub orphans: BTreeSet<Orphan>,
}

/// What has to be remembered of a scan to judge it: of credentials only their partitions.
#[derive(Default)]
struct Seen {
    items: BTreeMap<String, u64>,
    servers: BTreeSet<String>,
    partitions: BTreeSet<String>,
    buried: BTreeSet<String>,
    /// From the key of a name or a number to the partition of the server behind it.
    leads: BTreeMap<(String, String), String>,
    /// The same, as the servers have it.
    expected: BTreeMap<(String, String), String>,
    undue: BTreeSet<(String, String)>,
    /// Receipts in progress, and the receipts that work will complete.
    open: BTreeSet<(String, String)>,
    worked_on: BTreeSet<(String, String)>,
}

impl Table {
    /// Looks at every item twice, and reports what was wrong both times: what changes meanwhile is in motion, not lost.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn audit(&self) -> Result<Audit> {
        let first = self.look().await?.judge();
        if first.orphans.is_empty() {
            return Ok(first);
        }
        let mut second = self.look().await?.judge();
        second
            .orphans
            .retain(|orphan| first.orphans.contains(orphan));
        Ok(second)
    }

    #[expect(clippy::disallowed_methods, reason = "an audit looks at everything")]
    async fn look(&self) -> Result<Seen> {
        let mut items = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut seen = Seen::default();
        while let Some(item) = items.next().await {
            seen.note(&item.map_err(failed)?);
        }
        Ok(seen)
    }
}

/// The tenant's partition above a server's.
fn tenant_of(partition: &str) -> String {
    let (tenant, _) = partition.rsplit_once("#S#").unwrap_or_default();
    tenant.to_owned()
}

impl Seen {
    fn note(&mut self, item: &Item) {
        let text = |name: &str| match item.get(name) {
            Some(AttributeValue::S(text) | AttributeValue::N(text)) => text.clone(),
            _ => String::new(),
        };
        let (pk, sk, entity) = (text(PK), text(SK), text(ENTITY));
        let key = (pk.clone(), sk.clone());
        *self.items.entry(entity.clone()).or_default() += 1;
        if matches!(
            entity.as_str(),
            "tombstone" | "sweep" | "offboarding" | "revocation" | "verification"
        ) && !item.contains_key(DUE_INDEX.0)
        {
            self.undue.insert(key.clone());
        }
        match entity.as_str() {
            "server" => {
                let partition = format!("{pk}#{sk}");
                let number = text("number").parse().unwrap_or_default();
                self.expected.insert(
                    (pk.clone(), keys::name_sort_key(&text("name"))),
                    partition.clone(),
                );
                self.expected
                    .insert((pk, keys::number_sort_key(number)), partition.clone());
                self.servers.insert(partition);
            }
            "name" | "number" => {
                let partition = format!("{pk}#{}{}", keys::SERVERS, text("id"));
                self.leads.insert(key, partition);
            }
            "provider-lead" => {
                let partition = format!("{pk}#{}{}", keys::SERVERS, text("server"));
                self.leads.insert(key, partition);
            }
            "provider" => {
                let tenant = tenant_of(&pk);
                if let Ok(id) = text("id").parse() {
                    self.expected
                        .insert((tenant, keys::provider_lead_sort_key(id)), pk.clone());
                }
                self.partitions.insert(pk);
            }
            "revocation" | "sweep" => {
                self.worked_on
                    .insert((tenant_of(&pk), keys::receipt_sort_key(&text("receipt"))));
                self.partitions.insert(pk);
            }
            "tombstone" => {
                self.worked_on
                    .insert((tenant_of(&pk), keys::receipt_sort_key(&text("receipt"))));
                self.buried.insert(pk.clone());
                self.partitions.insert(pk);
            }
            "offboarding" => {
                self.worked_on
                    .insert((pk, keys::receipt_sort_key(&text("receipt"))));
            }
            "receipt" if !super::decode::<Receipt>(item).is_ok_and(|one| one.is_complete()) => {
                self.open.insert(key);
            }
            _ if pk.contains("#S#") => {
                self.partitions.insert(pk);
            }
            _ => {}
        }
    }

    fn judge(self) -> Audit {
        let Self {
            items,
            servers,
            partitions,
            buried,
            leads,
            expected,
            undue,
            open,
            worked_on,
        } = self;
        let mut orphans = BTreeSet::new();
        for partition in partitions {
            match (servers.contains(&partition), buried.contains(&partition)) {
                (false, false) => orphans.insert(Orphan::ItemsWithoutServer { partition }),
                (true, true) => orphans.insert(Orphan::Undead { partition }),
                _ => false,
            };
        }
        let differs = |from: &BTreeMap<_, String>, to: &BTreeMap<(String, String), String>| {
            let missing = from
                .iter()
                .filter(|(key, server)| to.get(*key) != Some(*server));
            missing
                .map(|(key, _)| key.clone())
                .collect::<Vec<(String, String)>>()
        };
        orphans.extend(
            differs(&leads, &expected)
                .into_iter()
                .map(|(partition, key)| Orphan::LeadsNowhere { partition, key }),
        );
        orphans.extend(
            differs(&expected, &leads)
                .into_iter()
                .map(|(partition, key)| Orphan::NotLedTo { partition, key }),
        );
        orphans.extend(
            undue
                .into_iter()
                .map(|(partition, key)| Orphan::NeverDue { partition, key }),
        );
        let stuck = open.difference(&worked_on).cloned();
        orphans.extend(stuck.map(|(partition, key)| Orphan::NeverComplete { partition, key }));
        Audit { items, orphans }
    }
}
