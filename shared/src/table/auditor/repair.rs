//! Repairing what the auditor has found. Each repair reads again what it is about and is one conditional write for each thing
//! that is wrong: done twice, or while something moves after all, it does nothing.

use super::{Found, GRACE, Kind, Orphan, STILL, text};
use crate::domain::credential::Source;
use crate::domain::event::{Action, Event, Outcome, Worker};
use crate::domain::id::{ServerId, TenantId};
use crate::domain::issuance::Provider;
use crate::domain::revocation::{self, Revocation};
use crate::domain::server::Server;
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use crate::table::api_keys::{self, ApiKey, PersonalLead};
use crate::table::clients::{self, ProviderLead};
use crate::table::receipts::{self, Receipt};
use crate::table::servers::{self, Named, Numbered};
use crate::table::work::{Sweep, Tombstone};
use crate::table::{
    Condition, DUE_INDEX, Item, Key, Table, Write, decode, encode, key_of, keys, n, s, trail,
};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Items without a server that one transaction removes, each by two of its hundred actions.
const REMOVED_AT_ONCE: usize = 40;

impl Table {
    /// Puts right what an orphan shows to be wrong, where the table alone can. Answers whether it did; `false` too if it is
    /// not wrong any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub async fn repair(&self, orphan: &Orphan, now: Timestamp) -> Result<bool> {
        let key = Key {
            pk: orphan.partition.clone(),
            sk: orphan.key.clone().unwrap_or_default(),
        };
        let Some((tenant, server)) = keys::owners(&orphan.partition) else {
            return match orphan.kind {
                Kind::LeadsNowhere => self.remove_personal_lead(&key).await,
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
            (Kind::Undead, Some(server)) => repair.finish_deletion(server).await,
            (Kind::LeadsNowhere, None) => repair.remove_lead(&key).await,
            (Kind::NotLedTo, None) if key.sk.starts_with(keys::API_KEYS) => {
                repair.lead_to_key(&key).await
            }
            (Kind::NotLedTo, None) => repair.lead_to_server(&key).await,
            (Kind::NotLedTo, Some(_)) => repair.lead_to_provider(&key).await,
            (Kind::NotIndexed, _) => repair.index(&key).await,
            (Kind::Expired, _) => repair.remove_expired(&key).await,
            (Kind::KeyOfNothing, None) => repair.remove_key(&key).await,
            (Kind::NeverSwept, Some(server)) => repair.sweep(server).await,
            (Kind::NeverComplete, None) => repair.settle(&key, false).await,
            (Kind::CountsDiffer, None) => repair.settle(&key, true).await,
            // The workers do not run, or fail each time; a key is lost; or it is none of ours. That takes a person.
            _ => Ok(false),
        }
    }

    /// Removes what leads from a personal access token to no key.
    async fn remove_personal_lead(&self, lead: &Key) -> Result<bool> {
        let found = self.read(vec![lead.clone()]).await?;
        let Some(to) = found.get::<PersonalLead>(lead)? else {
            return Ok(false);
        };
        let to_it = Condition::Has(vec![("id", s(&to.id))]);
        let writes = vec![
            Write::Delete(lead.clone(), to_it),
            Write::Check(keys::api_key(&to.tenant, &to.id), Condition::Absent),
        ];
        self.write_if(writes).await
    }
}

struct Repair<'a> {
    table: &'a Table,
    tenant: &'a TenantId,
    now: Timestamp,
}

/// An item of a server that is not there.
#[derive(Deserialize)]
#[serde(tag = "entity", rename_all = "kebab-case")]
enum Left {
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
        Event::new(self.now, self.tenant, Worker::Auditor, action)
    }

    /// That a server is what was read.
    fn unchanged(&self, id: ServerId, read: Option<&Server>) -> Write {
        let condition = read.map_or(Condition::Absent, |server| {
            Condition::Has(vec![("version", n(server.version))])
        });
        Write::Check(servers::key(self.tenant, id), condition)
    }

    /// Removes everything under a server that is not there. Nothing opens its tokens any more: their revocations have failed,
    /// and grants go without one.
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
            trail::put(&event.of(&of.subject).from(source).with(outcome))
        };
        for item in group {
            let key = key_of(item).ok_or_else(|| Error::internal("an item without a key"))?;
            match decode(item).unwrap_or(Left::Other) {
                Left::Revocation(one) => {
                    self.give_up(&one).await?;
                    continue;
                }
                Left::Override(own) => {
                    writes.push(removed(&own, Source::Override, Outcome::Succeeded)?);
                }
                Left::Grant(grant) => writes.push(removed(&grant, Source::Oauth, Outcome::Failed)?),
                Left::Provider(provider) => {
                    let lead = clients::lead_key(self.tenant, provider.id);
                    writes.push(Write::Delete(lead, Condition::Any));
                }
                Left::Other => {}
            }
            writes.push(Write::Delete(key, Condition::Any));
        }
        self.write(writes).await
    }

    async fn give_up(&self, one: &Revocation) -> Result<()> {
        let failed = revocation::Outcome::Failed;
        let event = self.event(Action::RevocationSettled)?.at(one.server);
        let event = event.of(&one.subject).under(one.receipt.as_deref());
        let event = event.with(failed);
        self.table
            .finish_revocation(&one.version, one, failed, None, &event)
            .await
    }

    /// Takes the record of a server that has a tombstone, and what leads to it.
    async fn finish_deletion(&self, id: ServerId) -> Result<bool> {
        let key = servers::key(self.tenant, id);
        let grave = keys::tombstone(self.tenant, id);
        let found = self.table.read(vec![key.clone(), grave.clone()]).await?;
        let server = found.get::<Server>(&key)?;
        let tombstone = found.get::<Tombstone>(&grave)?;
        let (Some(server), Some(tombstone)) = (server, tombstone) else {
            return Ok(false);
        };
        let event = self.event(Action::ServerDeleted)?.at(id);
        let event = event.under(Some(&tombstone.receipt));
        let read = Condition::Has(vec![("version", n(server.version))]);
        let mut writes = vec![
            Write::Check(grave, Condition::Exists),
            Write::Delete(key, read),
            trail::put(&event)?,
        ];
        for lead in [
            servers::name_key(self.tenant, &server.name),
            servers::number_key(self.tenant, server.number),
        ] {
            let to_it = self.read::<Named>(&lead).await?.filter(|to| to.id == id);
            let to_it = to_it.map(|_| Condition::Has(vec![("id", s(id.ulid()))]));
            writes.extend(to_it.map(|condition| Write::Delete(lead, condition)));
        }
        self.write(writes).await
    }

    /// Removes a name, a number or a provider's id that leads to nothing, or to what has another.
    async fn remove_lead(&self, lead: &Key) -> Result<bool> {
        if lead.sk.starts_with(keys::PROVIDERS) {
            return self.remove_provider_lead(lead).await;
        }
        let Some(Named { id }) = self.read(lead).await? else {
            return Ok(false);
        };
        let server = self.read::<Server>(&servers::key(self.tenant, id)).await?;
        if let Some(server) = &server {
            let own = [
                servers::name_key(self.tenant, &server.name),
                servers::number_key(self.tenant, server.number),
            ];
            if own.contains(lead) {
                return Ok(false);
            }
        }
        let to_it = Condition::Has(vec![("id", s(id.ulid()))]);
        let delete = Write::Delete(lead.clone(), to_it);
        self.write(vec![delete, self.unchanged(id, server.as_ref())])
            .await
    }

    async fn remove_provider_lead(&self, lead: &Key) -> Result<bool> {
        let Some(ProviderLead { server, subject }) = self.read(lead).await? else {
            return Ok(false);
        };
        let key = clients::provider_key(self.tenant, server, &subject);
        let provider = self.read::<Provider>(&key).await?;
        let condition = match &provider {
            Some(one) if clients::lead_key(self.tenant, one.id) == *lead => return Ok(false),
            Some(other) => Condition::Has(vec![("id", s(other.id.to_string()))]),
            None => Condition::Absent,
        };
        let to_it = Condition::Has(vec![("server", s(server.ulid()))]);
        let delete = Write::Delete(lead.clone(), to_it);
        self.write(vec![delete, Write::Check(key, condition)]).await
    }

    /// Writes a server's name and number where they are missing. One that leads to another server stays.
    async fn lead_to_server(&self, key: &Key) -> Result<bool> {
        let Some(server) = self.read::<Server>(key).await? else {
            return Ok(false);
        };
        let id = server.id;
        let name = servers::name_key(self.tenant, &server.name);
        let number = servers::number_key(self.tenant, server.number);
        let leads = [
            (encode(&name, "name", &Named { id })?, name),
            (encode(&number, "number", &Numbered::from(&server))?, number),
        ];
        let mut writes = vec![self.unchanged(id, Some(&server))];
        for (item, lead) in leads {
            match self.read::<Named>(&lead).await? {
                None => writes.push(Write::Put(item, Condition::Absent)),
                Some(to) if to.id == id => {}
                // Someone else's is left; the other one is mended all the same.
                Some(_) => {}
            }
        }
        Ok(writes.len() > 1 && self.write(writes).await?)
    }

    async fn lead_to_provider(&self, key: &Key) -> Result<bool> {
        let Some(provider) = self.read::<Provider>(key).await? else {
            return Ok(false);
        };
        let lead = clients::lead_key(self.tenant, provider.id);
        let to = ProviderLead {
            server: provider.server,
            subject: provider.subject.clone(),
        };
        let unchanged = Condition::Has(vec![("id", s(provider.id.to_string()))]);
        self.write(vec![
            Write::Put(encode(&lead, "provider-lead", &to)?, Condition::Absent),
            Write::Check(key.clone(), unchanged),
        ])
        .await
    }

    async fn lead_to_key(&self, key: &Key) -> Result<bool> {
        let Some(own) = self.read::<ApiKey>(key).await? else {
            return Ok(false);
        };
        let unchanged = Condition::Has(vec![("secret_hash", s(&own.secret_hash))]);
        self.write(vec![
            api_keys::put_lead(self.tenant, &own)?,
            Write::Check(key.clone(), unchanged),
        ])
        .await
    }

    /// Removes a key for a server that is gone. Numbers are never given out again.
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

    /// Puts an item into its index, work as due now.
    async fn index(&self, key: &Key) -> Result<bool> {
        let found = self.table.read(vec![key.clone()]).await?;
        let Some(item) = found.item(key) else {
            return Ok(false);
        };
        let at = |time: Timestamp| format!("{:020}", time.micros());
        let place = match decode(item)? {
            Found::Event {
                id, chain: None, ..
            } => (keys::unchained_of(self.tenant), at(id.at())),
            Found::Revocation(_)
            | Found::Sweep(_)
            | Found::Tombstone(_)
            | Found::Offboarding(_)
            | Found::Verification(_) => (keys::DUE.to_owned(), at(self.now)),
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

    async fn remove_expired(&self, key: &Key) -> Result<bool> {
        #[derive(Deserialize)]
        struct Ends {
            ttl: i64,
        }
        match self.read::<Ends>(key).await? {
            Some(Ends { ttl }) if ttl + GRACE < self.now.seconds() => {
                let unchanged = Condition::Has(vec![("ttl", n(ttl))]);
                self.table.delete(key, unchanged).await
            }
            _ => Ok(false),
        }
    }

    /// Leaves a sweep for whatever is void at a server.
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

    /// Closes a receipt that has stood still, and counts as failed what has no outcome and, if some are `in_progress`, no
    /// revocation: nobody can say what became of it.
    async fn settle(&self, key: &Key, in_progress: bool) -> Result<bool> {
        let Some(receipt) = self.read::<Receipt>(key).await? else {
            return Ok(false);
        };
        let changed = receipt.changed_at.unwrap_or(receipt.at);
        if changed.plus_seconds(STILL) >= self.now || receipt.is_complete() {
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
        counts.oauth = counts.oauth.max(known);
        let lost = counts.oauth - known;
        mended.outcomes.failed += lost;
        mended.closed = true;
        mended.changed_at = Some(self.now);
        let mut writes = vec![receipts::mend(self.tenant, &receipt, &mended)?];
        if lost > 0 {
            let event = self.event(Action::RevocationSettled)?;
            let event = event.under(Some(&receipt.id)).with(Outcome::Failed);
            writes.push(trail::put(&event)?);
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
