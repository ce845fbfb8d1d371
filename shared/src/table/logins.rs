//! Logins in their tenant's partition, each with a pointer under its subject, and the authorization codes that become
//! logins. A code becomes one login at most; a login is refreshed from the refresh token that was read, and is over once its
//! item is gone.

use super::{
    Condition, Found, Item, Key, SK, Table, Write, WriteError, audit_log, encode, guard,
    idempotency, keys, readable, receipts, s,
};
use crate::domain::event::Event;
use crate::domain::id::{Sortable, TenantId};
use crate::domain::idempotency::Keyed;
use crate::domain::login::{AuthorizationCode, Login};
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
    /// It had ended before.
    Before,
    /// The receipt that it was to be counted on is closed.
    ReceiptClosed,
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

/// A login's own item, in the place of one with this refresh token, or of none.
fn put(login: &Login, replacing: Option<&str>) -> Result<Write> {
    let item = encode(&key(&login.tenant, login.id), "login", login)?;
    let condition = replacing.map_or(Condition::Absent, |hash| {
        Condition::Has(vec![("refresh_hash", s(hash))])
    });
    Ok(Write::Put(item, condition))
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

fn removal(login: &Login, condition: Condition) -> [Write; 2] {
    [
        Write::Delete(key(&login.tenant, login.id), condition),
        Write::Delete(pointer_key(login), Condition::Any),
    ]
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
            put(login, None)?,
            put_pointer(login)?,
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Replaces a login whose refresh token is the one that was read. Returns `false` if it was refreshed meanwhile, or has
    /// ended.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn replace_login(
        &self,
        login: &Login,
        refresh_hash: &str,
        event: &Event,
    ) -> Result<bool> {
        let writes = vec![
            put(login, Some(refresh_hash))?,
            put_pointer(login)?,
            audit_log::put(event)?,
        ];
        self.write_if(writes).await
    }

    /// Ends a login, with a receipt if there is one. Returns `false` if it had ended before.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn end_login(
        &self,
        login: &Login,
        receipt: Option<&Receipt>,
        event: &Event,
        request: Option<&Keyed>,
    ) -> Result<bool> {
        let tenant = &login.tenant;
        let mut writes: Vec<Write> = removal(login, Condition::Exists).into();
        writes.push(audit_log::put(event)?);
        if let Some(receipt) = receipt {
            writes.push(receipts::put(tenant, receipt)?);
            let led_to = request.map(|request| idempotency::put(tenant, request, receipt));
            writes.extend(led_to.transpose()?);
        }
        self.write_if(writes).await
    }

    /// Ends a login that is as it was read. Returns `false` if it was refreshed meanwhile, or had ended before.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn end_login_as_read(&self, login: &Login, event: &Event) -> Result<bool> {
        let as_read = Condition::Has(vec![("refresh_hash", s(&login.refresh_hash))]);
        let mut writes: Vec<Write> = removal(login, as_read).into();
        writes.push(audit_log::put(event)?);
        self.write_if(writes).await
    }

    /// Replaces a login by one that says the same but for its lease. Returns `false` if it was refreshed meanwhile, or has ended.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn release_login(&self, login: &Login, refresh_hash: &str) -> Result<bool> {
        self.write_if(vec![put(login, Some(refresh_hash))?]).await
    }

    /// Ends a login of a subject that is being offboarded, counted on the receipt of that.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
    pub async fn offboard_login(
        &self,
        login: &Login,
        receipt: &str,
        event: &Event,
    ) -> Result<Ended> {
        let one = Counts {
            logins: 1,
            ..Counts::default()
        };
        let mut writes = vec![receipts::count(&login.tenant, receipt, one)];
        writes.extend(removal(login, Condition::Exists));
        writes.push(audit_log::put(event)?);
        match self.write(writes).await {
            Ok(()) => Ok(Ended::Now),
            Err(WriteError::Refused(at)) if at.contains(&0) => Ok(Ended::ReceiptClosed),
            Err(WriteError::Refused(_)) => Ok(Ended::Before),
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
