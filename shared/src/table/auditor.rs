//! Looking at everything there is, to prove that nothing dangles. The one place that scans the table.

mod repair;

use super::api_keys::{ApiKey, PersonalLead};
use super::integrations::Stored;
use super::receipts::Receipt;
use super::verifications::Verification;
use super::work::{Offboarding, Sweep, Tombstone};
use super::{DUE_INDEX, ENTITY, Item, PK, SK, Table, decode, failed, keys};
use crate::Result;
use crate::catalogue::{ClientSecret, Integration};
use crate::domain::credential::{Grant, KeptReason, Override};
use crate::domain::event::{Link, Month};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::issuance::{ClientRecord, Provider};
use crate::domain::revocation::{PATIENCE, Revocation};
use crate::domain::server::Server;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use crate::seal::WrappedKey;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Seconds by which work may be late. Workers look every few minutes.
const LATE: i64 = 6 * 3600;
/// Seconds after its end for which an item may go on standing. DynamoDB removes such items within a few days.
const GRACE: i64 = 3 * 24 * 3600;
/// Seconds for which a receipt must have stood still before it is judged.
const STILL: i64 = 15 * 60;

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Orphan {
    /// What is wrong.
    #[serde(rename = "orphan")]
    pub kind: Kind,
    /// The partition.
    pub partition: String,
    /// The sort key; none where it is the partition as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Items in the partition of a server that neither exists nor has a tombstone: nothing opens what is sealed in them.
    ItemsWithoutServer,
    /// A deleted server that still has its record.
    Undead,
    /// What leads from a name, a number, a provider's id or a personal access token to nothing.
    LeadsNowhere,
    /// A server, a provider or an API key that these do not lead to.
    NotLedTo,
    /// An item that is not in the index in which it would be found.
    NotIndexed,
    /// Work that should be over by now.
    Late,
    /// Something long past its end, such as a session.
    Expired,
    /// Void credentials that no sweep will take away.
    NeverSwept,
    /// A receipt in progress that no work will complete.
    NeverComplete,
    /// A receipt whose counts do not add up with the revocations in progress.
    CountsDiffer,
    /// An API key for one server alone, which is gone.
    KeyOfNothing,
    /// A tenant's key that something is sealed under and that is not there.
    KeyMissing,
    /// An item that cannot be read.
    Unreadable,
}

impl Kind {
    /// The name in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ItemsWithoutServer => "items-without-server",
            Self::Undead => "undead",
            Self::LeadsNowhere => "leads-nowhere",
            Self::NotLedTo => "not-led-to",
            Self::NotIndexed => "not-indexed",
            Self::Late => "late",
            Self::Expired => "expired",
            Self::NeverSwept => "never-swept",
            Self::NeverComplete => "never-complete",
            Self::CountsDiffer => "counts-differ",
            Self::KeyOfNothing => "key-of-nothing",
            Self::KeyMissing => "key-missing",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a look at the whole table has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Items of each kind.
    pub items: BTreeMap<String, u64>,
    /// What should not be.
    pub orphans: BTreeSet<Orphan>,
    /// The months that there is an audit trail of, which has to be verified by itself.
    pub trails: BTreeSet<(TenantId, Month)>,
}

impl Table {
    /// Looks at every item twice, and reports what was wrong both times: what changes meanwhile is in motion, not lost.
    /// Holds a page, and what it has to remember: of each server a few numbers, what is in progress, what is wrong.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn examine(&self, now: Timestamp) -> Result<Findings> {
        let first = self.look(now).await?.judge();
        if first.orphans.is_empty() {
            return Ok(first);
        }
        let mut second = self.look(now).await?.judge();
        second
            .orphans
            .retain(|orphan| first.orphans.contains(orphan));
        Ok(second)
    }

    #[expect(clippy::disallowed_methods, reason = "the auditor looks at everything")]
    async fn look(&self, now: Timestamp) -> Result<Seen> {
        let mut items = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut seen = Seen::at(now);
        while let Some(item) = items.next().await {
            seen.note(&item.map_err(failed)?);
        }
        Ok(seen)
    }
}

/// A partition and a sort key.
type Place = (String, String);

/// An item. What others rely on is read as a whole: what cannot be read is to be known at once.
#[derive(Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
enum Found {
    Server(Box<Server>),
    Name {
        id: ServerId,
    },
    Number {
        id: ServerId,
    },
    ProviderLead {
        server: ServerId,
    },
    Provider(Provider),
    Override(Box<Override>),
    Grant(Box<Grant>),
    #[expect(dead_code, reason = "that it can be read is all there is to know")]
    Reason(KeptReason),
    #[expect(dead_code, reason = "that it can be read is all there is to know")]
    Session(Box<Session>),
    #[expect(dead_code, reason = "that it can be read is all there is to know")]
    Client(Box<ClientRecord>),
    Revocation(Box<Revocation>),
    Sweep(Sweep),
    Tombstone(Tombstone),
    Offboarding(Offboarding),
    Verification(Verification),
    ApiKey(Box<ApiKey>),
    PersonalLead(PersonalLead),
    Event {
        id: Sortable,
        tenant: TenantId,
        chain: Option<Link>,
    },
    Trail {
        tenant: TenantId,
        month: Month,
    },
    Receipt(Box<Receipt>),
    TenantKey {
        number: u32,
    },
    Integration(Box<Stored>),
    #[serde(other)]
    Other,
}

/// One end of what leads from a name, a number or an id to its owner.
enum End {
    Lead,
    Owner(Place),
}

/// What is in a server's partition.
#[derive(Default)]
struct Contents {
    buried: bool,
    /// The auth revisions that its overrides and its grants are of.
    overrides: BTreeSet<u64>,
    grants: BTreeSet<u64>,
    /// Those that sweeps will take away.
    swept: Vec<(Range<u64>, Range<u64>)>,
}

/// What has to be remembered of a scan to judge it.
struct Seen {
    now: Timestamp,
    items: BTreeMap<String, u64>,
    /// What shows at once.
    orphans: BTreeSet<Orphan>,
    /// Partitions of servers that exist, with the server's auth revision and the one below which grants are void.
    servers: BTreeMap<String, (u64, u64)>,
    partitions: BTreeMap<String, Contents>,
    /// Leads whose owner, and owners whose lead has not been met yet, by what leads to what.
    unmatched: BTreeMap<(Place, String), End>,
    /// Receipts that are not complete, and for each receipt that work refers to the number of its revocations.
    open: BTreeMap<Place, Box<Receipt>>,
    worked_on: BTreeMap<Place, u64>,
    /// Numbers of servers that exist or are being cleared away, and the keys that are for one server alone.
    numbers: BTreeSet<Place>,
    bound: BTreeMap<Place, Place>,
    keys: BTreeSet<Place>,
    keys_needed: BTreeSet<Place>,
    trails: BTreeSet<(TenantId, Month)>,
}

impl Seen {
    fn at(now: Timestamp) -> Self {
        Self {
            now,
            items: BTreeMap::new(),
            orphans: BTreeSet::new(),
            servers: BTreeMap::new(),
            partitions: BTreeMap::new(),
            unmatched: BTreeMap::new(),
            open: BTreeMap::new(),
            worked_on: BTreeMap::new(),
            numbers: BTreeSet::new(),
            bound: BTreeMap::new(),
            keys: BTreeSet::new(),
            keys_needed: BTreeSet::new(),
            trails: BTreeSet::new(),
        }
    }

    fn note(&mut self, item: &Item) {
        let entity = text(item, ENTITY);
        let (pk, sk) = (text(item, PK), text(item, SK));
        *self.items.entry(entity.to_owned()).or_default() += 1;
        if pk.contains("#S#") {
            self.partitions.entry(pk.to_owned()).or_default();
        }
        let ttl = text(item, "ttl").parse::<i64>();
        if ttl.is_ok_and(|end| end + GRACE < self.now.seconds()) {
            self.found(Kind::Expired, (pk.to_owned(), sk.to_owned()));
        }
        match decode(item) {
            Ok(found) => self.sort(item, (pk.to_owned(), sk.to_owned()), found),
            Err(_) => self.found(Kind::Unreadable, (pk.to_owned(), sk.to_owned())),
        }
    }

    fn sort(&mut self, item: &Item, place: Place, found: Found) {
        let pk = place.0.clone();
        match found {
            Found::Server(server) => {
                let partition = format!("{pk}#{}", place.1);
                let revisions = (server.auth_revision, server.void_before);
                self.servers.insert(partition.clone(), revisions);
                self.needs_key(&pk, &server.data_key);
                for lead in [
                    keys::name_sort_key(&server.name),
                    keys::number_sort_key(server.number),
                ] {
                    self.match_up(
                        (pk.clone(), lead),
                        partition.clone(),
                        End::Owner(place.clone()),
                    );
                }
            }
            Found::Name { id } | Found::Number { id } | Found::ProviderLead { server: id } => {
                if place.1.starts_with(keys::NUMBERS) {
                    self.numbers.insert(place.clone());
                }
                let partition = format!("{pk}#{}{}", keys::SERVERS, id.ulid());
                self.match_up(place, partition, End::Lead);
            }
            Found::Provider(Provider { id, .. }) => {
                let lead = (
                    keys::tenant_of(&pk).to_owned(),
                    keys::provider_lead_sort_key(id),
                );
                self.match_up(lead, pk, End::Owner(place));
            }
            Found::Override(own) => {
                let contents = self.partitions.entry(pk).or_default();
                contents.overrides.insert(own.auth_revision);
            }
            Found::Grant(grant) => {
                let contents = self.partitions.entry(pk).or_default();
                contents.grants.insert(grant.auth_revision);
            }
            Found::Revocation(one) => {
                if let Some(receipt) = &one.receipt {
                    *self.works_on(&pk, receipt) += 1;
                }
                // The issuer is given its time, and is then asked no more.
                self.work(item, place, one.at, None);
            }
            Found::Sweep(sweep) => {
                if let Some(receipt) = &sweep.receipt {
                    self.works_on(&pk, receipt);
                }
                let contents = self.partitions.entry(pk).or_default();
                contents.swept.push((sweep.overrides, sweep.grants));
                self.work(item, place, sweep.at, Some(LATE));
            }
            Found::Tombstone(tombstone) => {
                self.works_on(&pk, &tombstone.receipt);
                let tenant = keys::tenant_of(&pk).to_owned();
                self.needs_key(&tenant, &tombstone.data_key);
                self.numbers
                    .insert((tenant, keys::number_sort_key(tombstone.number)));
                self.partitions.entry(pk).or_default().buried = true;
                self.work(item, place, tombstone.at, Some(LATE));
            }
            Found::Offboarding(offboarding) => {
                self.works_on(&pk, &offboarding.receipt);
                self.work(item, place, offboarding.at, Some(LATE));
            }
            Found::Verification(one) => self.work(item, place, one.at, Some(LATE)),
            Found::ApiKey(key) => {
                if key.personal {
                    let lead = keys::personal(&key.secret_hash);
                    let own = format!("{pk}#{}", place.1);
                    self.match_up((lead.pk, lead.sk), own, End::Owner(place.clone()));
                }
                if let Some(number) = key.bound_to {
                    self.bound
                        .insert(place, (pk, keys::number_sort_key(number)));
                }
            }
            Found::PersonalLead(lead) => {
                let key = keys::api_key(&lead.tenant, &lead.id);
                self.match_up(place, format!("{}#{}", key.pk, key.sk), End::Lead);
            }
            Found::Event { id, tenant, chain } => {
                self.trails.insert((tenant, Month::of(id.at())));
                if chain.is_none() {
                    self.work(item, place, id.at(), Some(LATE));
                }
            }
            Found::Trail { tenant, month } => {
                self.trails.insert((tenant, month));
            }
            Found::Receipt(receipt) if !receipt.is_complete() => {
                self.open.insert(place, receipt);
            }
            Found::TenantKey { number } => {
                self.keys.insert((pk, keys::tenant_key_sort_key(number)));
            }
            Found::Integration(stored) => {
                let Integration { address, oauth, .. } = stored.integration;
                let sealed = match oauth.and_then(|oauth| oauth.client_secret) {
                    Some(ClientSecret::Sealed(secret)) => Some(secret),
                    _ => None,
                };
                for secret in [address, sealed].into_iter().flatten() {
                    let operator = keys::tenant_partition(&TenantId::operator());
                    let key = keys::tenant_key_sort_key(secret.tenant_key);
                    self.keys_needed.insert((operator, key));
                }
            }
            Found::Receipt(_)
            | Found::Reason(_)
            | Found::Session(_)
            | Found::Client(_)
            | Found::Other => {}
        }
    }

    fn found(&mut self, kind: Kind, (partition, key): Place) {
        let key = Some(key);
        self.orphans.insert(Orphan {
            kind,
            partition,
            key,
        });
    }

    /// Work has to be in an index, and neither due for long nor begun long ago.
    fn work(&mut self, item: &Item, place: Place, begun: Timestamp, patience: Option<i64>) {
        let due = text(item, DUE_INDEX.1).parse().map(Timestamp::from_micros);
        let (true, Ok(due)) = (item.contains_key(DUE_INDEX.0), due) else {
            return self.found(Kind::NotIndexed, place);
        };
        let late = |since: Timestamp, patience| since.plus_seconds(patience) < self.now;
        if late(begun, PATIENCE + LATE) || patience.is_some_and(|patience| late(due, patience)) {
            self.found(Kind::Late, place);
        }
    }

    fn works_on(&mut self, partition: &str, receipt: &str) -> &mut u64 {
        let tenant = keys::tenant_of(partition).to_owned();
        let place = (tenant, keys::receipt_sort_key(receipt));
        self.worked_on.entry(place).or_default()
    }

    fn needs_key(&mut self, tenant: &str, sealed: &WrappedKey) {
        let key = keys::tenant_key_sort_key(sealed.tenant_key);
        self.keys_needed.insert((tenant.to_owned(), key));
    }

    /// Forgets both ends of what leads to its owner.
    fn match_up(&mut self, lead: Place, target: String, end: End) {
        match self.unmatched.entry((lead, target)) {
            Entry::Occupied(other) => drop(other.remove()),
            Entry::Vacant(place) => drop(place.insert(end)),
        }
    }

    fn judge(mut self) -> Findings {
        for (partition, contents) in std::mem::take(&mut self.partitions) {
            let kind = match (self.servers.get(&partition), contents.buried) {
                (None, false) => Kind::ItemsWithoutServer,
                (Some(_), true) => Kind::Undead,
                (Some(revisions), false) if contents.is_unswept(*revisions) => Kind::NeverSwept,
                _ => continue,
            };
            self.orphans.insert(Orphan {
                kind,
                partition,
                key: None,
            });
        }
        for ((lead, _), end) in std::mem::take(&mut self.unmatched) {
            match end {
                End::Lead => self.found(Kind::LeadsNowhere, lead),
                End::Owner(owner) => self.found(Kind::NotLedTo, owner),
            }
        }
        for (place, receipt) in std::mem::take(&mut self.open) {
            match self.worked_on.get(&place) {
                None => self.found(Kind::NeverComplete, place),
                Some(revocations) => {
                    let changed = receipt.changed_at.unwrap_or(receipt.at);
                    let still = changed.plus_seconds(STILL) < self.now;
                    if still && receipt.closed && receipt.unsettled() != Some(*revocations) {
                        self.found(Kind::CountsDiffer, place);
                    }
                }
            }
        }
        for (key, number) in std::mem::take(&mut self.bound) {
            if !self.numbers.contains(&number) {
                self.found(Kind::KeyOfNothing, key);
            }
        }
        for key in std::mem::take(&mut self.keys_needed) {
            if !self.keys.contains(&key) {
                self.found(Kind::KeyMissing, key);
            }
        }
        Findings {
            items: self.items,
            orphans: self.orphans,
            trails: self.trails,
        }
    }
}

impl Contents {
    /// Whether something in it is void and no sweep is to take it away.
    fn is_unswept(&self, (auth_revision, void_before): (u64, u64)) -> bool {
        let mut overrides = self.overrides.range(..auth_revision);
        let mut grants = self.grants.range(..void_before);
        overrides.any(|of| !self.swept.iter().any(|(taken, _)| taken.contains(of)))
            || grants.any(|of| !self.swept.iter().any(|(_, taken)| taken.contains(of)))
    }
}

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    match item.get(name) {
        Some(AttributeValue::S(text) | AttributeValue::N(text)) => text,
        _ => "",
    }
}
