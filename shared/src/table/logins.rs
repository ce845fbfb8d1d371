//! Logins in their tenant's partition, each with a pointer under its subject, and the authorization codes that become
//! logins. A code becomes one login at most; a login is refreshed from the refresh token that was read, and is over once its
//! item is gone.

use super::{
    Condition, Found, Item, Key, SK, Table, Write, WriteError, audit_log, encode, guard,
    idempotency, keys, login_revocations, readable, receipts, s,
};
use crate::domain::event::Event;
use crate::domain::id::{Sortable, TenantId};
use crate::domain::idempotency::Keyed;
use crate::domain::login::{AuthorizationCode, Login};
use crate::domain::login_revocation::LoginRevocation;
use crate::domain::receipt::{Counts, Receipt};
use crate::domain::subject::Subject;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Keys that one read may name.
const READ_AT_ONCE: i32 = 100;

/// The pointer from a subject to one of its logins.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LoginPointer {
    /// The login.
    pub login: Sortable,
    /// When the table may forget it, in seconds since the epoch.
    pub ttl: i64,
}

/// How an attempt to end a login went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It has ended now.
    Now,
    /// It was refreshed since it was read, or had ended before.
    Moved,
    /// The receipt that it was to be counted on is closed.
    ReceiptClosed,
}

/// What the end of a login is reported on.
#[derive(Clone, Copy, Debug)]
pub enum Reported<'a> {
    /// The audit log alone.
    Nowhere,
    /// A new receipt, and what the request that asked for it has led to.
    New(&'a Receipt, Option<&'a Keyed>),
    /// A receipt that is open, by its id.
    On(&'a str),
}

impl Reported<'_> {
    /// The id of the receipt.
    pub fn receipt(&self) -> Option<&str> {
        match self {
            Self::Nowhere => None,
            Self::New(receipt, _) => Some(&receipt.id),
            Self::On(receipt) => Some(receipt),
        }
    }
}

/// Key of a login.
pub fn key(tenant: &TenantId, id: Sortable) -> Key {
    keys::login(tenant, id)
}

/// Key of the authorization code with this hash.
pub fn code_key(hash: &str) -> Key {
    keys::authorization_code(hash)
}

impl Found {
    /// The login with this id, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn login(&self, tenant: &TenantId, id: Sortable) -> Result<Option<Login>> {
        self.get(&key(tenant, id))
    }

    /// The authorization code with this hash, if it was read and exists.
    ///
    /// # Errors
    /// [`crate::Error::Internal`] when the item is corrupt.
    pub fn authorization_code(&self, hash: &str) -> Result<Option<AuthorizationCode>> {
        self.get(&code_key(hash))
    }
}

/// A login's own item.
fn put(login: &Login, condition: Condition) -> Result<Write> {
    let item = encode(&key(&login.tenant, login.id), "login", login)?;
    Ok(Write::Put(item, condition))
}

/// That a login is as it was read: every refresh changes its refresh token, and whoever asks the provider changes the lease
/// with whatever else it stores.
fn as_read(login: &Login) -> Condition {
    let hash = ("refresh_hash", s(&login.refresh_hash));
    match login.lease {
        Some(lease) => Condition::Has(vec![hash, ("lease", s(lease.ulid()))]),
        None => Condition::HasWithout(vec![hash], "lease"),
    }
}

/// The pointer of a login. It is written with each refresh, so that both expire together.
pub(super) fn put_pointer(login: &Login) -> Result<Write> {
    let pointer = LoginPointer {
        login: login.id,
        ttl: login.ttl,
    };
    let item = encode(&pointer_key(login), "login-lead", &pointer)?;
    Ok(Write::Put(item, Condition::Any))
}

fn pointer_key(login: &Login) -> Key {
    keys::login_pointer(&login.tenant, login.subject(), login.id)
}

/// The login of an item below this prefix: its key says which, whatever else can be read of it.
fn id_in(item: &Item, prefix: &str) -> Option<Sortable> {
    Sortable::parse_ulid(item.get(SK)?.as_s().ok()?.strip_prefix(prefix)?)
}

impl Table {
    /// Adds an authorization code. Returns `false` if its subject was offboarded since they signed in.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn add_authorization_code(
        &self,
        code: &AuthorizationCode,
        event: &Event,
    ) -> Result<bool> {
        let approval = &code.approval;
        let subject = &approval.identity.subject;
        let item = encode(&code_key(&code.hash), "login-code", code)?;
        let writes = vec![
            guard::require_subject(&code.tenant, subject, approval.offboardings),
            Write::Put(item, Condition::Absent),
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Begins a login and marks the code that it comes of as used. Returns `false` if the code was used meanwhile, or its
    /// subject offboarded.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn begin_login(
        &self,
        used: &AuthorizationCode,
        login: &Login,
        event: &Event,
    ) -> Result<bool> {
        let offboardings = login.approval.offboardings;
        let item = encode(&code_key(&used.hash), "login-code", used)?;
        let writes = vec![
            guard::require_subject(&login.tenant, login.subject(), offboardings),
            Write::Put(item, Condition::Lacks("used_at")),
            put(login, Condition::Absent)?,
            put_pointer(login)?,
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Replaces a login that is as it was read, with an event. Returns `false` if it was refreshed meanwhile, or has ended.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn replace_login(&self, read: &Login, login: &Login, event: &Event) -> Result<bool> {
        let writes = vec![
            put(login, as_read(read))?,
            put_pointer(login)?,
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Replaces a login that is as it was read by one that allows the same: only what asks the provider has changed.
    /// Returns `false` if it was refreshed meanwhile, or has ended.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn renew_login(&self, read: &Login, login: &Login) -> Result<bool> {
        self.write_if(vec![put(login, as_read(read))?]).await
    }

    /// Ends a login, with the revocation of what the provider gave for it. One that has such a token has to be as it was read:
    /// a refresh may have replaced the token.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn end_login(
        &self,
        login: &Login,
        revocation: Option<&LoginRevocation>,
        report: Reported<'_>,
        counts: Counts,
        event: &Event,
    ) -> Result<Ended> {
        let tenant = &login.tenant;
        let unchanged = match revocation {
            Some(_) => as_read(login),
            None => Condition::Exists,
        };
        let mut writes = vec![
            Write::Delete(key(tenant, login.id), unchanged),
            Write::Delete(pointer_key(login), Condition::Any),
            audit_log::put(event)?,
        ];
        let revocation = revocation.map(login_revocations::put_new);
        writes.extend(revocation.transpose()?);
        match report {
            Reported::Nowhere => {}
            Reported::New(receipt, request) => {
                writes.push(receipts::put(tenant, receipt)?);
                let led_to = request.map(|request| idempotency::put(tenant, request, receipt));
                writes.extend(led_to.transpose()?);
            }
            Reported::On(receipt) => writes.push(receipts::count(tenant, receipt, counts)),
        }
        let last = writes.len() - 1;
        match self.write(writes).await {
            Ok(()) => Ok(Ended::Now),
            Err(WriteError::Refused(at))
                if matches!(report, Reported::On(_)) && at.contains(&last) =>
            {
                Ok(Ended::ReceiptClosed)
            }
            Err(WriteError::Refused(_)) => Ok(Ended::Moved),
            Err(WriteError::Failed(error)) => Err(error),
        }
    }

    /// Up to `limit` logins of a tenant that are older than `before`, newest first, without those that cannot be read; and where to
    /// go on, if there are more.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn logins_before(
        &self,
        tenant: &TenantId,
        before: Option<Sortable>,
        limit: usize,
    ) -> Result<(Vec<Login>, Option<Sortable>)> {
        let (items, next) = self
            .newest_logins(tenant, keys::LOGINS, before, limit)
            .await?;
        Ok((items.iter().filter_map(readable).collect(), next))
    }

    /// The same of one subject.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn logins_of_before(
        &self,
        tenant: &TenantId,
        subject: &Subject,
        before: Option<Sortable>,
        limit: usize,
    ) -> Result<(Vec<Login>, Option<Sortable>)> {
        let prefix = keys::logins_of(subject);
        let (items, next) = self.newest_logins(tenant, &prefix, before, limit).await?;
        let ids: Vec<Sortable> = items.iter().filter_map(|one| id_in(one, &prefix)).collect();
        let mut logins = Vec::new();
        for ids in ids.chunks(READ_AT_ONCE as usize) {
            let wanted = ids.iter().map(|id| key(tenant, *id)).collect();
            let found = self.read(wanted).await?;
            // One that cannot be read is left out.
            let read = ids.iter().filter_map(|id| found.login(tenant, *id).ok());
            logins.extend(read.flatten());
        }
        Ok((logins, next))
    }

    async fn newest_logins(
        &self,
        tenant: &TenantId,
        prefix: &str,
        before: Option<Sortable>,
        limit: usize,
    ) -> Result<(Vec<Item>, Option<Sortable>)> {
        let partition = keys::tenant_partition(tenant);
        let before = before.map(Sortable::ulid);
        let page = self.query_newest(partition, prefix, before.as_deref(), limit);
        let (items, more) = page.await?;
        let mut ids = items.iter().filter_map(|item| id_in(item, prefix));
        let last = ids.next_back();
        Ok((items, last.filter(|_| more)))
    }

    /// The logins of one subject, oldest first, and why one of them cannot be read, if one cannot.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn logins_of(
        &self,
        tenant: &TenantId,
        subject: &Subject,
    ) -> Result<(Vec<Login>, Option<Error>)> {
        let prefix = keys::logins_of(subject);
        let (mut logins, mut unreadable, mut after) = (Vec::new(), None, None);
        loop {
            let partition = keys::tenant_partition(tenant);
            let page = self.query_page(partition, &prefix, after, READ_AT_ONCE);
            let (items, next) = page.await?;
            let ids: Vec<Sortable> = items.iter().filter_map(|one| id_in(one, &prefix)).collect();
            let wanted = ids.iter().map(|id| key(tenant, *id)).collect();
            let found = self.read(wanted).await?;
            for id in ids {
                match found.login(tenant, id) {
                    Ok(login) => logins.extend(login),
                    Err(error) => drop(unreadable.get_or_insert(error)),
                }
            }
            after = next;
            if after.is_none() {
                return Ok((logins, unreadable));
            }
        }
    }
}
