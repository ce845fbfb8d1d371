//! The integrity check: a scan of the whole table for orphaned items. No other module scans the table.

mod repair;

use super::integrations::Stored;
use super::logins::LoginPointer;
use super::{DUE_INDEX, ENTITY, Item, PK, SK, Table, decode, failed, keys};
use crate::Result;
use crate::domain::api_key::{ApiKey, PersonalTokenPointer};
use crate::domain::credential::{Grant, KeptReason, Override};
use crate::domain::event::{Link, Month};
use crate::domain::id::{ServerId, Sortable, TenantId};
use crate::domain::idempotency::CarriedOut;
use crate::domain::integration::{ClientSecret, Integration};
use crate::domain::issuance::{ClientRecord, Provider};
use crate::domain::job::{Offboarding, Sweep, Tombstone, Verification};
use crate::domain::login::{AuthorizationCode, Login};
use crate::domain::login_revocation::LoginRevocation;
use crate::domain::receipt::Receipt;
use crate::domain::revocation::{RETRY_WINDOW_SECONDS, Revocation};
use crate::domain::sealed::{SealedSecret, TokenKey, WrappedKey};
use crate::domain::server::Server;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Seconds after its due time from which work counts as late. Workers query due work every few minutes.
const LATE_SECONDS: i64 = 6 * 3600;
/// Seconds after its TTL for which an item may exist. DynamoDB removes expired items within a few days.
const TTL_GRACE_SECONDS: i64 = 3 * 24 * 3600;
/// Seconds without a change after which a receipt is checked.
const RECEIPT_SETTLE_SECONDS: i64 = 15 * 60;

/// An inconsistency: an item, or a partition, that should not be as it is.
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

/// The kinds of inconsistencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Items in the partition of a server that neither exists nor has a tombstone: nothing opens what is sealed in them.
    ItemsWithoutServer,
    /// A server that has both its record and a tombstone.
    PartiallyDeleted,
    /// A pointer item (of a name, a number, a provider id, a personal access token or a login) whose target does not exist.
    DanglingPointer,
    /// A server, a provider, an API key or a login whose pointer item is missing.
    MissingPointer,
    /// Work, or an unchained event, that lacks its attributes of the secondary index.
    NotIndexed,
    /// Work that is overdue.
    Late,
    /// An item whose TTL is long past, such as a session.
    Expired,
    /// Void credentials without a sweep that removes them.
    NeverSwept,
    /// A receipt in progress without work that completes it.
    NeverComplete,
    /// A receipt whose counts differ from its outcomes and the revocations in progress.
    CountsDiffer,
    /// An API key that is bound to a server which no longer exists.
    OrphanedApiKey,
    /// A tenant key that sealed items need and that is missing.
    KeyMissing,
    /// An item that cannot be read.
    Unreadable,
}

impl Kind {
    /// The name in answers and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ItemsWithoutServer => "items-without-server",
            Self::PartiallyDeleted => "partially-deleted",
            Self::DanglingPointer => "dangling-pointer",
            Self::MissingPointer => "missing-pointer",
            Self::NotIndexed => "not-indexed",
            Self::Late => "late",
            Self::Expired => "expired",
            Self::NeverSwept => "never-swept",
            Self::NeverComplete => "never-complete",
            Self::CountsDiffer => "counts-differ",
            Self::OrphanedApiKey => "orphaned-api-key",
            Self::KeyMissing => "key-missing",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The result of one integrity check.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Items of each kind.
    pub items: BTreeMap<String, u64>,
    /// The inconsistencies.
    pub orphans: BTreeSet<Orphan>,
    /// The months with audit events. Their chains are verified separately.
    pub audit_logs: BTreeSet<(TenantId, Month)>,
}

impl Table {
    /// Scans the table twice and reports the inconsistencies that both scans found, since items may change during a
    /// scan. Memory holds one page, a few numbers for each server, the work in progress and the inconsistencies.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn examine(&self, now: Timestamp) -> Result<Findings> {
        let first = self.scan_all(now).await?.into_findings();
        if first.orphans.is_empty() {
            return Ok(first);
        }
        let mut second = self.scan_all(now).await?.into_findings();
        second
            .orphans
            .retain(|orphan| first.orphans.contains(orphan));
        Ok(second)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the integrity check reads every item"
    )]
    async fn scan_all(&self, now: Timestamp) -> Result<ScanState> {
        let mut items = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let mut seen = ScanState::at(now);
        while let Some(item) = items.next().await {
            seen.note(&item.map_err(failed)?);
        }
        Ok(seen)
    }
}

/// A partition and a sort key.
type ItemKey = (String, String);

/// An item by its entity. Items that other code decodes are decoded completely, so that unreadable ones are found.
#[derive(Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
enum StoredItem {
    Server(Box<Server>),
    Name {
        id: ServerId,
    },
    Number {
        id: ServerId,
    },
    #[serde(rename = "provider-lead")]
    ProviderPointer {
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
    LoginRevocation(Box<LoginRevocation>),
    Sweep(Sweep),
    Tombstone(Tombstone),
    Offboarding(Offboarding),
    Verification(Verification),
    ApiKey(Box<ApiKey>),
    #[serde(rename = "personal-lead")]
    PersonalTokenPointer(PersonalTokenPointer),
    Event {
        id: Sortable,
        tenant: TenantId,
        chain: Option<Link>,
    },
    #[serde(rename = "trail")]
    AuditLogHead {
        tenant: TenantId,
        month: Month,
    },
    Receipt(Box<Receipt>),
    TenantKey {
        number: u32,
    },
    Login(Box<Login>),
    #[serde(rename = "login-lead")]
    LoginPointer(LoginPointer),
    #[serde(rename = "login-code")]
    AuthorizationCode(Box<AuthorizationCode>),
    TokenKey(Box<TokenKey>),
    Integration(Box<Stored>),
    #[expect(dead_code, reason = "that it can be read is all there is to know")]
    CarriedOut(CarriedOut),
    #[serde(other)]
    Other,
}

/// One end of a pointer: the pointer item, or the item that it points to.
enum PointerEnd {
    Pointer,
    Owner(ItemKey),
}

/// The contents of a server's partition.
#[derive(Default)]
struct Contents {
    has_tombstone: bool,
    /// The auth revisions that its overrides and its grants are of.
    overrides: BTreeSet<u64>,
    grants: BTreeSet<u64>,
    /// The auth revisions that pending sweeps remove.
    swept: Vec<(Range<u64>, Range<u64>)>,
}

/// The state of a scan.
struct ScanState {
    now: Timestamp,
    items: BTreeMap<String, u64>,
    /// Inconsistencies that show in a single item.
    orphans: BTreeSet<Orphan>,
    /// Partitions of servers that exist, with the server's auth revision and the one below which grants are void.
    servers: BTreeMap<String, (u64, u64)>,
    partitions: BTreeMap<String, Contents>,
    /// Pointers whose target, and targets whose pointer has not been scanned yet, by pointer key and target.
    unmatched_pointers: BTreeMap<(ItemKey, String), PointerEnd>,
    /// Incomplete receipts, and for each receipt that work refers to the number of its revocations.
    open: BTreeMap<ItemKey, Box<Receipt>>,
    receipts_with_work: BTreeMap<ItemKey, u64>,
    /// Numbers of servers that exist or are being cleared away, and the keys that are for one server alone.
    numbers: BTreeSet<ItemKey>,
    bound: BTreeMap<ItemKey, ItemKey>,
    keys: BTreeSet<ItemKey>,
    keys_needed: BTreeSet<ItemKey>,
    audit_logs: BTreeSet<(TenantId, Month)>,
}

impl ScanState {
    fn at(now: Timestamp) -> Self {
        Self {
            now,
            items: BTreeMap::new(),
            orphans: BTreeSet::new(),
            servers: BTreeMap::new(),
            partitions: BTreeMap::new(),
            unmatched_pointers: BTreeMap::new(),
            open: BTreeMap::new(),
            receipts_with_work: BTreeMap::new(),
            numbers: BTreeSet::new(),
            bound: BTreeMap::new(),
            keys: BTreeSet::new(),
            keys_needed: BTreeSet::new(),
            audit_logs: BTreeSet::new(),
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
        if ttl.is_ok_and(|end| end + TTL_GRACE_SECONDS < self.now.seconds()) {
            self.found(Kind::Expired, (pk.to_owned(), sk.to_owned()));
        }
        match decode(item) {
            Ok(found) => self.sort(item, (pk.to_owned(), sk.to_owned()), found),
            Err(_) => self.found(Kind::Unreadable, (pk.to_owned(), sk.to_owned())),
        }
    }

    fn sort(&mut self, item: &Item, place: ItemKey, found: StoredItem) {
        let pk = place.0.clone();
        match found {
            StoredItem::Server(server) => {
                let partition = format!("{pk}#{}", place.1);
                let revisions = (server.auth_revision, server.void_before);
                self.servers.insert(partition.clone(), revisions);
                self.needs_key(&pk, &server.data_key);
                for pointer in [
                    keys::name_sort_key(&server.name),
                    keys::number_sort_key(server.number),
                ] {
                    self.match_pointer(
                        (pk.clone(), pointer),
                        partition.clone(),
                        PointerEnd::Owner(place.clone()),
                    );
                }
            }
            StoredItem::Name { id }
            | StoredItem::Number { id }
            | StoredItem::ProviderPointer { server: id } => {
                if place.1.starts_with(keys::NUMBERS) {
                    self.numbers.insert(place.clone());
                }
                let partition = format!("{pk}#{}{}", keys::SERVERS, id.ulid());
                self.match_pointer(place, partition, PointerEnd::Pointer);
            }
            StoredItem::Provider(Provider { id, .. }) => {
                let pointer = (
                    keys::tenant_of(&pk).to_owned(),
                    keys::provider_pointer_sort_key(id),
                );
                self.match_pointer(pointer, pk, PointerEnd::Owner(place));
            }
            StoredItem::Override(own) => {
                let contents = self.partitions.entry(pk).or_default();
                contents.overrides.insert(own.auth_revision);
            }
            StoredItem::Grant(grant) => {
                let contents = self.partitions.entry(pk).or_default();
                contents.grants.insert(grant.auth_revision);
            }
            StoredItem::Revocation(one) => {
                if let Some(receipt) = &one.receipt {
                    *self.count_work_for(&pk, receipt) += 1;
                }
                // No limit on the due time: a revocation ends by itself when its retry window is over.
                self.work(item, place, one.at, None);
            }
            StoredItem::LoginRevocation(one) => {
                if let Some(receipt) = &one.receipt {
                    *self.count_work_for(&pk, receipt) += 1;
                }
                self.needs_key_of(&one.tenant, Some(&one.token));
                self.work(item, place, one.at, None);
            }
            StoredItem::Sweep(sweep) => {
                if let Some(receipt) = &sweep.receipt {
                    self.count_work_for(&pk, receipt);
                }
                let contents = self.partitions.entry(pk).or_default();
                contents.swept.push((sweep.overrides, sweep.grants));
                self.work(item, place, sweep.at, Some(LATE_SECONDS));
            }
            StoredItem::Tombstone(tombstone) => {
                self.count_work_for(&pk, &tombstone.receipt);
                let tenant = keys::tenant_of(&pk).to_owned();
                self.needs_key(&tenant, &tombstone.data_key);
                self.numbers
                    .insert((tenant, keys::number_sort_key(tombstone.number)));
                self.partitions.entry(pk).or_default().has_tombstone = true;
                self.work(item, place, tombstone.at, Some(LATE_SECONDS));
            }
            StoredItem::Offboarding(offboarding) => {
                self.count_work_for(&pk, &offboarding.receipt);
                self.work(item, place, offboarding.at, Some(LATE_SECONDS));
            }
            StoredItem::Verification(one) => self.work(item, place, one.at, Some(LATE_SECONDS)),
            StoredItem::ApiKey(key) => {
                if key.personal {
                    let pointer = keys::personal(&key.secret_hash);
                    let own = format!("{pk}#{}", place.1);
                    self.match_pointer(
                        (pointer.pk, pointer.sk),
                        own,
                        PointerEnd::Owner(place.clone()),
                    );
                }
                if let Some(number) = key.bound_to {
                    self.bound
                        .insert(place, (pk, keys::number_sort_key(number)));
                }
            }
            StoredItem::PersonalTokenPointer(pointer) => {
                let key = keys::api_key(&pointer.tenant, &pointer.id);
                self.match_pointer(place, format!("{}#{}", key.pk, key.sk), PointerEnd::Pointer);
            }
            StoredItem::Event { id, tenant, chain } => {
                self.audit_logs.insert((tenant, Month::of(id.at())));
                if chain.is_none() {
                    self.work(item, place, id.at(), Some(LATE_SECONDS));
                }
            }
            StoredItem::AuditLogHead { tenant, month } => {
                self.audit_logs.insert((tenant, month));
            }
            StoredItem::Receipt(receipt) if !receipt.is_complete() => {
                self.open.insert(place, receipt);
            }
            StoredItem::TenantKey { number } => {
                self.keys.insert((pk, keys::tenant_key_sort_key(number)));
            }
            // The table forgets the two at the same instant, but not both at once.
            StoredItem::Login(login) if login.ttl < self.now.seconds() => {}
            StoredItem::LoginPointer(pointer) if pointer.ttl < self.now.seconds() => {}
            StoredItem::Login(login) => {
                let pointer = keys::login_pointer_sort_key(login.subject(), login.id);
                let own = format!("{pk}#{}", place.1);
                self.match_pointer((pk, pointer), own, PointerEnd::Owner(place));
                self.needs_key_of(&login.tenant, login.approval.provider_token.as_ref());
                let previous = login.previous.as_ref();
                self.keys_needed.extend(previous.map(|token| {
                    let tenant = keys::tenant_partition(&login.tenant);
                    (tenant, keys::tenant_key_sort_key(token.tenant_key))
                }));
            }
            StoredItem::LoginPointer(pointer) => {
                let target = format!("{pk}#{}", keys::login_sort_key(pointer.login));
                self.match_pointer(place, target, PointerEnd::Pointer);
            }
            StoredItem::AuthorizationCode(code) => {
                self.needs_key_of(&code.tenant, code.approval.provider_token.as_ref());
            }
            StoredItem::TokenKey(key) => {
                let sealing = keys::tenant_key_sort_key(key.tenant_key);
                self.keys_needed.insert((pk, sealing));
            }
            StoredItem::Integration(stored) => {
                let Integration { address, oauth, .. } = stored.integration;
                let sealed = match oauth.and_then(|oauth| oauth.client_secret) {
                    Some(ClientSecret::Sealed(secret)) => Some(secret),
                    _ => None,
                };
                for secret in [address, sealed] {
                    self.needs_key_of(&TenantId::operator(), secret.as_ref());
                }
            }
            StoredItem::Receipt(_)
            | StoredItem::Reason(_)
            | StoredItem::Session(_)
            | StoredItem::Client(_)
            | StoredItem::CarriedOut(_)
            | StoredItem::Other => {}
        }
    }

    fn found(&mut self, kind: Kind, (partition, key): ItemKey) {
        let key = Some(key);
        self.orphans.insert(Orphan {
            kind,
            partition,
            key,
        });
    }

    /// Checks that work is indexed, not overdue and not older than the retry window.
    fn work(&mut self, item: &Item, place: ItemKey, begun: Timestamp, patience: Option<i64>) {
        let due = text(item, DUE_INDEX.1).parse().map(Timestamp::from_micros);
        let (true, Ok(due)) = (item.contains_key(DUE_INDEX.0), due) else {
            return self.found(Kind::NotIndexed, place);
        };
        let late = |since: Timestamp, patience| since.plus_seconds(patience) < self.now;
        if late(begun, RETRY_WINDOW_SECONDS + LATE_SECONDS)
            || patience.is_some_and(|patience| late(due, patience))
        {
            self.found(Kind::Late, place);
        }
    }

    fn count_work_for(&mut self, partition: &str, receipt: &str) -> &mut u64 {
        let tenant = keys::tenant_of(partition).to_owned();
        let place = (tenant, keys::receipt_sort_key(receipt));
        self.receipts_with_work.entry(place).or_default()
    }

    fn needs_key(&mut self, tenant: &str, sealed: &WrappedKey) {
        let key = keys::tenant_key_sort_key(sealed.tenant_key);
        self.keys_needed.insert((tenant.to_owned(), key));
    }

    fn needs_key_of(&mut self, tenant: &TenantId, sealed: Option<&SealedSecret>) {
        self.keys_needed.extend(sealed.map(|secret| {
            let key = keys::tenant_key_sort_key(secret.tenant_key);
            (keys::tenant_partition(tenant), key)
        }));
    }

    /// Drops a pointer and its target once both were scanned.
    fn match_pointer(&mut self, pointer: ItemKey, target: String, end: PointerEnd) {
        match self.unmatched_pointers.entry((pointer, target)) {
            Entry::Occupied(other) => drop(other.remove()),
            Entry::Vacant(place) => drop(place.insert(end)),
        }
    }

    fn into_findings(mut self) -> Findings {
        for (partition, contents) in std::mem::take(&mut self.partitions) {
            let kind = match (self.servers.get(&partition), contents.has_tombstone) {
                (None, false) => Kind::ItemsWithoutServer,
                (Some(_), true) => Kind::PartiallyDeleted,
                (Some(revisions), false) if contents.lacks_sweep(*revisions) => Kind::NeverSwept,
                _ => continue,
            };
            self.orphans.insert(Orphan {
                kind,
                partition,
                key: None,
            });
        }
        for ((pointer, _), end) in std::mem::take(&mut self.unmatched_pointers) {
            match end {
                PointerEnd::Pointer => self.found(Kind::DanglingPointer, pointer),
                PointerEnd::Owner(owner) => self.found(Kind::MissingPointer, owner),
            }
        }
        for (place, receipt) in std::mem::take(&mut self.open) {
            match self.receipts_with_work.get(&place) {
                None => self.found(Kind::NeverComplete, place),
                Some(revocations) => {
                    let changed = receipt.changed_at.unwrap_or(receipt.at);
                    let still = changed.plus_seconds(RECEIPT_SETTLE_SECONDS) < self.now;
                    if still && receipt.closed && receipt.unsettled() != Some(*revocations) {
                        self.found(Kind::CountsDiffer, place);
                    }
                }
            }
        }
        for (key, number) in std::mem::take(&mut self.bound) {
            if !self.numbers.contains(&number) {
                self.found(Kind::OrphanedApiKey, key);
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
            audit_logs: self.audit_logs,
        }
    }
}

impl Contents {
    /// Whether it holds a void credential that no pending sweep removes.
    fn lacks_sweep(&self, (auth_revision, void_before): (u64, u64)) -> bool {
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
