//! The operations of Hawser, independent of any contract. Each operation makes one decision and at most one transaction.
//! What an operation has read for a caller is [`Unchecked`] until the contract's rule permits its use.

pub mod applications;
pub mod audit_log;
pub mod authorization;
pub mod clients;
pub mod consent;
pub mod credentials;
pub mod grants;
pub mod idempotency;
pub mod integrations;
pub mod integrity;
mod login_revocations;
pub mod logins;
pub mod providers;
pub mod proxy;
mod purge;
pub mod receipts;
mod revocations;
pub mod scheduler;
mod sealed_tokens;
pub mod secret_references;
pub mod servers;
pub mod sessions;
pub mod sign_in;
pub mod subjects;
pub mod tokens;
pub mod tools;
pub mod upstream_sessions;
mod verifications;

use crate::domain::address::host;
use crate::domain::caller::Caller;
use crate::domain::credential::Credential;
use crate::domain::job::Work;
use crate::domain::receipt::Counts;
use crate::domain::subject::Subject;
use crate::state::app::App;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often an operation that lost a race reads again and tries anew.
const ATTEMPTS: u32 = 10;

/// Data that was read for a caller before the contract's rule has permitted the caller to use it.
#[derive(Debug)]
pub struct Unchecked<T> {
    caller: Caller,
    found: T,
}

/// Data that the contract's rule has permitted its caller to use.
#[derive(Debug)]
pub struct Permitted<T> {
    /// The caller.
    pub caller: Caller,
    /// The data.
    pub found: T,
}

impl<T> Unchecked<T> {
    /// Wraps what was found for a caller.
    pub fn new(caller: Caller, found: T) -> Self {
        Self { caller, found }
    }

    /// The caller, who is authenticated before any rule is applied.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Applies the contract's rule.
    ///
    /// # Errors
    /// The rule's.
    pub fn permit<E>(
        self,
        rule: impl FnOnce(&Caller, &T) -> Result<(), E>,
    ) -> Result<Permitted<T>, E> {
        rule(&self.caller, &self.found)?;
        Ok(Permitted {
            caller: self.caller,
            found: self.found,
        })
    }
}

impl<T> Unchecked<Option<T>> {
    /// For contracts that say "no such server" before they judge permissions.
    ///
    /// # Errors
    /// [`Error::ServerNotFound`].
    pub fn existing(self) -> Result<Unchecked<T>> {
        let found = self.found.ok_or(Error::ServerNotFound)?;
        Ok(Unchecked {
            caller: self.caller,
            found,
        })
    }
}

impl<T> Permitted<Option<T>> {
    /// For contracts that judge permissions before they say "no such server".
    ///
    /// # Errors
    /// [`Error::ServerNotFound`].
    pub fn existing(self) -> Result<Permitted<T>> {
        let found = self.found.ok_or(Error::ServerNotFound)?;
        Ok(Permitted {
            caller: self.caller,
            found,
        })
    }
}

/// How a destructive operation ended: in a dry run with what it would remove.
#[derive(Debug)]
pub enum Removal<T> {
    /// A dry run, which has changed nothing.
    Planned(DeletionPreview),
    /// It is done.
    Done(T),
}

/// What a destructive call would remove.
#[derive(Debug, Default)]
pub struct DeletionPreview {
    /// How many credentials of each source.
    pub counts: Counts,
    /// How many subjects have them.
    pub subjects: u64,
    last: Option<Subject>,
    /// For each issuer of grants, by its host: how many of the grants are its own, and whether it has a revocation endpoint.
    pub issuers: BTreeMap<String, (u64, bool)>,
}

impl DeletionPreview {
    /// Adds one credential. The credentials of one subject have to be added one after the other.
    pub fn add(&mut self, credential: &Credential) {
        self.counts.add(credential.source());
        if self.last.as_ref() != Some(credential.subject()) {
            self.subjects += 1;
            self.last = Some(credential.subject().clone());
        }
        if let Credential::Grant(grant) = credential {
            let issuance = &grant.issuance;
            let (grants, revokes) = self
                .issuers
                .entry(host(&issuance.issuer))
                .or_insert((0, true));
            *grants += 1;
            *revokes &= issuance.revocation_endpoint.is_some();
        }
    }
}

/// Retries with exponential backoff, for writes that must succeed even if the store is unavailable for a while.
pub(crate) struct Tries {
    left: u32,
    until: Instant,
    pause: Duration,
}

impl Tries {
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);

    /// Retries until `limit` has passed.
    pub fn lasting(limit: Duration) -> Self {
        Self::some(u32::MAX, limit)
    }

    /// Retries at most `more` times, and until `limit` has passed.
    pub fn some(more: u32, limit: Duration) -> Self {
        Self {
            left: more,
            until: Instant::now() + limit,
            pause: Self::FIRST_PAUSE,
        }
    }

    /// Waits before the next attempt. Returns `false` if there must be no further attempt.
    pub async fn wait(&mut self) -> bool {
        if self.left == 0 || Instant::now() >= self.until {
            return false;
        }
        self.left -= 1;
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Self::LONGEST_PAUSE);
        true
    }
}

/// Reads with `read`, in which the contract's own rules are, and carries out what that returns; from the start again while
/// others write the same items, a bounded number of times.
///
/// # Errors
/// Those of `read`, and the last one of `carry_out`.
async fn retry_on_contention<R, T, E, F, G>(
    mut read: impl FnMut() -> F,
    mut carry_out: impl FnMut(R) -> G,
) -> Result<T, E>
where
    E: From<Error>,
    F: Future<Output = Result<R, E>>,
    G: Future<Output = Result<T>>,
{
    let mut attempts = 1;
    loop {
        match carry_out(read().await?).await {
            // A name that was taken meanwhile leads to its server the next time.
            Err(Error::Contended | Error::NameTaken) if attempts < ATTEMPTS => attempts += 1,
            done => return Ok(done?),
        }
    }
}

/// By how many seconds failed work is deferred.
const RETRY_DELAY_SECONDS: i64 = 60;

/// Makes work due again after the usual delay. `false` if it was done or changed since it was read.
async fn defer(app: &App, work: &Work) -> Result<bool> {
    let until = app.now().plus_seconds(RETRY_DELAY_SECONDS);
    app.table.defer(work, until).await
}
