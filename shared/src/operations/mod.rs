//! What Hawser does, in the words of no contract. Each operation is one decision and at most one transaction; what has
//! been read for a caller cannot be used before a contract's rule has permitted it.

pub mod applications;
pub mod audit_log;
pub mod authorization;
pub mod clients;
pub mod consent;
pub mod credentials;
pub mod grants;
pub mod integrations;
pub mod integrity;
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

/// Something read for a caller whom no rule has permitted to use it yet.
#[derive(Debug)]
pub struct Unchecked<T> {
    caller: Caller,
    found: T,
}

/// Something that its caller may use.
#[derive(Debug)]
pub struct Permitted<T> {
    /// Who asked.
    pub caller: Caller,
    /// What was asked for.
    pub found: T,
}

impl<T> Unchecked<T> {
    /// Something found for a caller.
    pub fn new(caller: Caller, found: T) -> Self {
        Self { caller, found }
    }

    /// Who asked, which is known before any rule.
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

/// What a destructive call would remove.
#[derive(Debug, Default)]
pub struct DeletionPreview {
    /// How many credentials of each source.
    pub counts: Counts,
    /// How many subjects have them.
    pub subjects: u64,
    last: Option<Subject>,
    /// Of the grants among them, how many each issuer gave, by its host, and whether it is known to revoke.
    pub issuers: BTreeMap<String, (u64, bool)>,
}

impl DeletionPreview {
    /// Adds one credential; those of one subject one after the other.
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

    /// For so long.
    pub fn lasting(limit: Duration) -> Self {
        Self::some(u32::MAX, limit)
    }

    /// For so long, and so many more.
    pub fn some(more: u32, limit: Duration) -> Self {
        Self {
            left: more,
            until: Instant::now() + limit,
            pause: Self::FIRST_PAUSE,
        }
    }

    /// Waits before the next one. `false` if there is to be none.
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

/// Retries an attempt while it conflicts with other writers, a bounded number of times.
///
/// # Errors
/// The last attempt's.
pub async fn retry_on_contention<T, E, F>(
    mut attempt: impl FnMut() -> F,
    contended: impl Fn(&E) -> bool,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(error) if contended(&error) => {}
            done => return done,
        }
    }
    attempt().await
}

/// By how many seconds failed work is deferred.
const RETRY_DELAY_SECONDS: i64 = 60;

/// Makes work due again after the usual delay. `false` if it was done or changed since it was read.
async fn defer(app: &App, work: &Work) -> Result<bool> {
    let until = app.now().plus_seconds(RETRY_DELAY_SECONDS);
    app.table.defer(work, until).await
}
