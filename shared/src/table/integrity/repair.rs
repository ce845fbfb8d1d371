//! Repairs of the integrity check. Each repair reads its items again and makes one conditional write for each
//! inconsistency, so a repair that is repeated or races with other writers does nothing.

use super::{Kind, Orphan, RECEIPT_SETTLE_SECONDS, StoredItem, TTL_GRACE_SECONDS, text};
use crate::domain::api_key::{ApiKey, PersonalTokenPointer};
use crate::domain::credential::Source;
use crate::domain::event::{Action, Event, EventOutcome, Worker};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::Provider;
use crate::domain::job::{Sweep, Tombstone};
use crate::domain::login::Login;
use crate::domain::receipt::Receipt;
use crate::domain::revocation::{Revocation, RevocationOutcome};
use crate::domain::server::{Numbered, Server};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::clients::{self, ProviderPointer};
use crate::table::logins::{self, LoginPointer};
use crate::table::servers::{self, Named};
use crate::table::{
    Condition, DUE_INDEX, Item, Key, Table, Write, api_keys, audit_log, decode, encode, key_of,
    keys, n, receipts, s,
};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Items that one transaction removes, each by two of its hundred actions.
const REMOVED_AT_ONCE: usize = 40;

impl Table {
    /// Repairs an inconsistency, where the table alone suffices. Returns whether it did; `false` also if it no longer
    /// exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn repair(&self, orphan: &Orphan, now: Timestamp) -> Result<bool> {
        let key = Key {
            pk: orphan.partition.clone(),
            sk: orphan.key.clone().unwrap_or_default(),
        };
        if orphan.kind == Kind::Expired {
            return self.remove_expired(&key, now).await;
        }
        let Some((tenant, server)) = keys::owners(&orphan.partition) else {
            return match orphan.kind {
                Kind::DanglingPointer => self.remove_personal_token_pointer(&key).await,
                _ => Ok(false),
            };
        };
        let repair = Repair {
            table: self,
            tenant: &tenant,
            now,
        };
        match (orphan.kind, server) {
            (Kind::ItemsWithoutServer, Some(server)) => repair.remove_all(server).await,
            (Kind::PartiallyDeleted, Some(server)) => repair.finish_deletion(server).await,
            (Kind::DanglingPointer, None) if key.sk.starts_with(keys::LOGIN_POINTERS) => {
                repair.remove_login_pointer(&key).await
            }
            (Kind::DanglingPointer, None) => repair.remove_pointer(&key).await,
            (Kind::MissingPointer, None) if key.sk.starts_with(keys::API_KEYS) => {
                repair.restore_api_key_pointer(&key).await
            }
            (Kind::MissingPointer, None) if key.sk.starts_with(keys::LOGINS) => {
                repair.restore_login_pointer(&key).await
            }
            (Kind::MissingPointer, None) => repair.restore_server_pointers(&key).await,
            (Kind::MissingPointer, Some(_)) => repair.restore_provider_pointer(&key).await,
            (Kind::NotIndexed, _) => repair.index(&key).await,
            (Kind::OrphanedApiKey, None) => repair.remove_key(&key).await,
            (Kind::NeverSwept, Some(server)) => repair.sweep(server).await,
            (Kind::NeverComplete, None) => repair.close_receipt(&key, false).await,
            (Kind::CountsDiffer, None) => repair.close_receipt(&key, true).await,
            // Workers that do not run or always fail, a lost key, an unknown item: an operator has to look.
            _ => Ok(false),
        }
    }

    /// Removes the pointer of a personal access token whose API key does not exist.
    async fn remove_personal_token_pointer(&self, pointer: &Key) -> Result<bool> {
        let found = self.read(vec![pointer.clone()]).await?;
        let Some(to) = found.get::<PersonalTokenPointer>(pointer)? else {
            return Ok(false);
        };
        let to_it = Condition::Has(vec![("id", s(&to.id))]);
        let writes = vec![
            Write::Delete(pointer.clone(), to_it),
            Write::Check(keys::api_key(&to.tenant, &to.id), Condition::Absent),
        ];
        self.write_if(writes).await
    }

    /// Removes an item whose TTL is long past.
    async fn remove_expired(&self, key: &Key, now: Timestamp) -> Result<bool> {
        #[derive(Deserialize)]
        struct Ends {
            ttl: i64,
        }
        match self.read(vec![key.clone()]).await?.get(key)? {
            Some(Ends { ttl }) if ttl + TTL_GRACE_SECONDS < now.seconds() => {
                let unchanged = Condition::Has(vec![("ttl", n(ttl))]);
                self.delete(key, unchanged).await
            }
            _ => Ok(false),
        }
    }
}

struct Repair<'a> {
    table: &'a Table,
    tenant: &'a TenantId,
    now: Timestamp,
}

/// An item of a server that does not exist.
#[derive(Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
enum LeftoverItem {
    Override(Owned),
    Grant(Owned),
    Revocation(Box<Revocation>),
    Provider(Provider),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Owned {
    #[serde(flatten)]
    subject: Subject,
}

impl Repair<'_> {
    async fn read<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.table.read(vec![key.clone()]).await?.get(key)
    }

    async fn write(&self, writes: Vec<Write>) -> Result<bool> {
        self.table.write_if(writes).await
    }

    fn event(&self, action: Action) -> Result<Event> {
        Event::new(self.now, self.tenant, Worker::IntegrityCheck, action)
    }

    /// The condition that a server has not changed since it was read.
    fn unchanged(&self, id: ServerId, read: Option<&Server>) -> Write {
        let condition = read.map_or(Condition::Absent, |server| {
            Condition::Has(vec![("version", n(server.version))])
        });
        Write::Check(servers::key(self.tenant, id), condition)
    }

    /// Removes all items of a server that does not exist. Its data key is gone, so its tokens cannot be opened: pending
    /// revocations end as failed, and grants are removed without a revocation.
    async fn remove_all(&self, server: ServerId) -> Result<bool> {
        let partition = keys::server_partition(self.tenant, server);
        let (mut any, mut all, mut after) = (false, true, None);
        loop {
            let page = self.table.query_page(partition.clone(), "", after, 200);
            let (items, next) = page.await?;
            for group in items.chunks(REMOVED_AT_ONCE) {
                any = true;
                all &= self.remove(server, group).await?;
            }
            after = next;
            if after.is_none() {
                return Ok(any && all);
            }
        }
    }

    async fn remove(&self, server: ServerId, group: &[Item]) -> Result<bool> {
        let mut writes = vec![
            Write::Check(servers::key(self.tenant, server), Condition::Absent),
            Write::Check(keys::tombstone(self.tenant, server), Condition::Absent),
        ];
        let removed = |of: &Owned, source, outcome| {
            let event = self.event(Action::CredentialRemoved)?.at(server);
            audit_log::put(&event.of(&of.subject).from(source).with(outcome))
        };
        for item in group {
            let key = key_of(item).ok_or_else(|| Error::internal("an item without a key"))?;
            match decode(item).unwrap_or(LeftoverItem::Other) {
                LeftoverItem::Revocation(one) => {
                    self.end_as_failed(&one).await?;
                    continue;
                }
                LeftoverItem::Override(own) => {
                    writes.push(removed(&own, Source::Override, EventOutcome::Succeeded)?);
                }
                LeftoverItem::Grant(grant) => {
                    writes.push(removed(&grant, Source::Oauth, EventOutcome::Failed)?);
                }
                LeftoverItem::Provider(provider) => {
                    let pointer = clients::pointer_key(self.tenant, provider.id);
                    writes.push(Write::Delete(pointer, Condition::Any));
                }
                LeftoverItem::Other => {}
            }
            writes.push(Write::Delete(key, Condition::Any));
        }
        self.write(writes).await
    }

    async fn end_as_failed(&self, one: &Revocation) -> Result<()> {
        let failed = RevocationOutcome::Failed;
        let event = self.event(Action::RevocationSettled)?.at(one.server);
        let event = event.of(&one.subject).under(one.receipt.as_deref());
        let event = event.with(failed);
        self.table
            .finish_revocation(&one.version, one, failed, None, &event)
            .await
    }

    /// Removes the record of a server that has a tombstone, and its pointers.
    async fn finish_deletion(&self, id: ServerId) -> Result<bool> {
        let key = servers::key(self.tenant, id);
        let tombstone_key = keys::tombstone(self.tenant, id);
        let found = self
            .table
            .read(vec![key.clone(), tombstone_key.clone()])
            .await?;
        let server = found.get::<Server>(&key)?;
        let tombstone = found.get::<Tombstone>(&tombstone_key)?;
        let (Some(server), Some(tombstone)) = (server, tombstone) else {
            return Ok(false);
        };
        let event = self.event(Action::ServerDeleted)?.at(id);
        let event = event.under(Some(&tombstone.receipt));
        let read = Condition::Has(vec![("version", n(server.version))]);
        let mut writes = vec![
            Write::Check(tombstone_key, Condition::Exists),
            Write::Delete(key, read),
            audit_log::put(&event)?,
        ];
        for pointer in [
            servers::name_key(self.tenant, &server.name),
            servers::number_key(self.tenant, server.number),
        ] {
            let to_it = self.read::<Named>(&pointer).await?.filter(|to| to.id == id);
            let to_it = to_it.map(|_| Condition::Has(vec![("id", s(id.ulid()))]));
            writes.extend(to_it.map(|condition| Write::Delete(pointer, condition)));
        }
        self.write(writes).await
    }

    /// Removes the pointer of a name, a number or a provider id whose target does not exist or has another one.
    async fn remove_pointer(&self, pointer: &Key) -> Result<bool> {
        if pointer.sk.starts_with(keys::PROVIDERS) {
            return self.remove_provider_pointer(pointer).await;
        }
        let Some(Named { id }) = self.read(pointer).await? else {
            return Ok(false);
        };
        let server = self.read::<Server>(&servers::key(self.tenant, id)).await?;
        if let Some(server) = &server {
            let own = [
                servers::name_key(self.tenant, &server.name),
                servers::number_key(self.tenant, server.number),
            ];
            if own.contains(pointer) {
                return Ok(false);
            }
        }
        let to_it = Condition::Has(vec![("id", s(id.ulid()))]);
        let delete = Write::Delete(pointer.clone(), to_it);
        self.write(vec![delete, self.unchanged(id, server.as_ref())])
            .await
    }

    async fn remove_provider_pointer(&self, pointer: &Key) -> Result<bool> {
        let Some(ProviderPointer { server, subject }) = self.read(pointer).await? else {
            return Ok(false);
        };
        let key = clients::provider_key(self.tenant, server, &subject);
        let provider = self.read::<Provider>(&key).await?;
        let condition = match &provider {
            Some(one) if clients::pointer_key(self.tenant, one.id) == *pointer => return Ok(false),
            Some(other) => Condition::Has(vec![("id", s(other.id.to_string()))]),
            None => Condition::Absent,
        };
        let to_it = Condition::Has(vec![("server", s(server.ulid()))]);
        let delete = Write::Delete(pointer.clone(), to_it);
        self.write(vec![delete, Write::Check(key, condition)]).await
    }

    /// Writes a server's missing name and number pointers. One that points to another server stays.
    async fn restore_server_pointers(&self, key: &Key) -> Result<bool> {
        let Some(server) = self.read::<Server>(key).await? else {
            return Ok(false);
        };
        let id = server.id;
        let name = servers::name_key(self.tenant, &server.name);
        let number = servers::number_key(self.tenant, server.number);
        let pointers = [
            (encode(&name, "name", &Named { id })?, name),
            (encode(&number, "number", &Numbered::from(&server))?, number),
        ];
        let mut writes = vec![self.unchanged(id, Some(&server))];
        for (item, pointer) in pointers {
            match self.read::<Named>(&pointer).await? {
                None => writes.push(Write::Put(item, Condition::Absent)),
                Some(to) if to.id == id => {}
                // The name or number belongs to another server: left as it is.
                Some(_) => {}
            }
        }
        Ok(writes.len() > 1 && self.write(writes).await?)
    }

    async fn restore_provider_pointer(&self, key: &Key) -> Result<bool> {
        let Some(provider) = self.read::<Provider>(key).await? else {
            return Ok(false);
        };
        let pointer = clients::pointer_key(self.tenant, provider.id);
        let to = ProviderPointer {
            server: provider.server,
            subject: provider.subject.clone(),
        };
        let unchanged = Condition::Has(vec![("id", s(provider.id.to_string()))]);
        self.write(vec![
            Write::Put(encode(&pointer, "provider-lead", &to)?, Condition::Absent),
            Write::Check(key.clone(), unchanged),
        ])
        .await
    }

    async fn restore_api_key_pointer(&self, key: &Key) -> Result<bool> {
        let Some(own) = self.read::<ApiKey>(key).await? else {
            return Ok(false);
        };
        let unchanged = Condition::Has(vec![("secret_hash", s(&own.secret_hash))]);
        self.write(vec![
            api_keys::put_pointer(self.tenant, &own)?,
            Write::Check(key.clone(), unchanged),
        ])
        .await
    }

    /// Removes the pointer of a login that does not exist.
    async fn remove_login_pointer(&self, pointer: &Key) -> Result<bool> {
        let Some(LoginPointer { login, .. }) = self.read(pointer).await? else {
            return Ok(false);
        };
        let to_it = Condition::Has(vec![("login", s(login.ulid()))]);
        self.write(vec![
            Write::Delete(pointer.clone(), to_it),
            Write::Check(keys::login(self.tenant, login), Condition::Absent),
        ])
        .await
    }

    /// Writes the pointer of a login, by which its subject's are found.
    async fn restore_login_pointer(&self, key: &Key) -> Result<bool> {
        let Some(login) = self.read::<Login>(key).await? else {
            return Ok(false);
        };
        let unchanged = Condition::Has(vec![("refresh_hash", s(&login.refresh_hash))]);
        self.write(vec![
            logins::put_pointer(&login)?,
            Write::Check(key.clone(), unchanged),
        ])
        .await
    }

    /// Removes an API key that is bound to a deleted server. Numbers are never reused.
    async fn remove_key(&self, key: &Key) -> Result<bool> {
        let Some(own) = self.read::<ApiKey>(key).await? else {
            return Ok(false);
        };
        let Some(number) = own.bound_to.map(|it| servers::number_key(self.tenant, it)) else {
            return Ok(false);
        };
        if self.read::<Named>(&number).await?.is_some() {
            return Ok(false);
        }
        let event = self.event(Action::KeyRemoved)?.of_key(&own.id);
        self.table
            .remove_api_key(self.tenant, &own.id, &event)
            .await
    }

    /// Adds the index attributes to an item; work becomes due now.
    async fn index(&self, key: &Key) -> Result<bool> {
        let found = self.table.read(vec![key.clone()]).await?;
        let Some(item) = found.item(key) else {
            return Ok(false);
        };
        let at = |time: Timestamp| format!("{:020}", time.micros());
        let place = match decode(item)? {
            StoredItem::Event {
                id, chain: None, ..
            } => (keys::unchained_of(self.tenant), at(id.at())),
            StoredItem::Revocation(_)
            | StoredItem::Sweep(_)
            | StoredItem::Tombstone(_)
            | StoredItem::Offboarding(_)
            | StoredItem::LoginRevocation(_)
            | StoredItem::Verification(_) => (keys::DUE.to_owned(), at(self.now)),
            _ => return Ok(false),
        };
        if text(item, DUE_INDEX.0) == place.0 && !text(item, DUE_INDEX.1).is_empty() {
            return Ok(false);
        }
        let set = vec![(DUE_INDEX.0, s(place.0)), (DUE_INDEX.1, s(place.1))];
        // An event is to be in no index once it is chained, and nothing else ever is.
        self.table
            .update(key.clone(), set, Condition::Lacks("chain"))
            .await
    }

    /// Writes a sweep that removes all void credentials of a server.
    async fn sweep(&self, id: ServerId) -> Result<bool> {
        let Some(server) = self.read::<Server>(&servers::key(self.tenant, id)).await? else {
            return Ok(false);
        };
        let sweep = Sweep {
            tenant: self.tenant.clone(),
            server: id,
            auth_revision: server.auth_revision,
            overrides: 0..server.auth_revision,
            grants: 0..server.void_before,
            reason: server.void_reason,
            receipt: None,
            at: self.now,
            after: None,
        };
        self.write(vec![sweep.put_anew()?, self.unchanged(id, Some(&server))])
            .await
    }

    /// Closes a receipt that no longer changes. Grants without an outcome and, with `in_progress`, without a pending
    /// revocation count as failed.
    async fn close_receipt(&self, key: &Key, in_progress: bool) -> Result<bool> {
        let Some(receipt) = self.read::<Receipt>(key).await? else {
            return Ok(false);
        };
        let changed = receipt.changed_at.unwrap_or(receipt.at);
        if changed.plus_seconds(RECEIPT_SETTLE_SECONDS) >= self.now || receipt.is_complete() {
            return Ok(false);
        }
        let in_progress = match receipt.server {
            Some(server) if in_progress => self.revocations_of(server, &receipt.id).await?,
            // They may be anywhere.
            None if in_progress => return Ok(false),
            _ => 0,
        };
        let mut mended = receipt.clone();
        let counts = mended.counts.get_or_insert_default();
        let known = receipt.outcomes.total() + in_progress;
        counts.oauth += known.saturating_sub(counts.revocations());
        let lost = counts.revocations() - known;
        mended.outcomes.failed += lost;
        mended.closed = true;
        mended.changed_at = Some(self.now);
        let mut writes = vec![receipts::mend(self.tenant, &receipt, &mended)?];
        if lost > 0 {
            let event = self.event(Action::RevocationSettled)?;
            let event = event.under(Some(&receipt.id)).with(EventOutcome::Failed);
            writes.push(audit_log::put(&event)?);
        }
        self.write(writes).await
    }

    async fn revocations_of(&self, server: ServerId, receipt: &str) -> Result<u64> {
        let partition = keys::server_partition(self.tenant, server);
        let (mut count, mut after) = (0, None);
        loop {
            let page = self
                .table
                .query_page(partition.clone(), keys::REVOCATIONS, after, 200);
            let (items, next) = page.await?;
            let of_it = |item: &&Item| item.get("receipt") == Some(&s(receipt));
            count += items.iter().filter(of_it).count() as u64;
            after = next;
            if after.is_none() {
                return Ok(count);
            }
        }
    }
}
