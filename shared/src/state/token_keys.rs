//! Keys that access tokens are signed with, as they were read a short while ago.

use crate::domain::sealed::TokenKey;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a key that was read serves before it is read again. One that is taken out of the table serves no longer.
const LIFETIME: Duration = Duration::from_secs(300);

/// Keys as they were read a short while ago, the private halves sealed.
#[derive(Default)]
pub(crate) struct TokenKeys {
    by_id: Mutex<HashMap<String, (TokenKey, Instant)>>,
    /// The id of the one that signs.
    signing: Mutex<Option<(String, Instant)>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TokenKeys {
    pub(super) fn get(&self, kid: &str) -> Option<TokenKey> {
        let keys = locked(&self.by_id);
        let (key, since) = keys.get(kid)?;
        (since.elapsed() < LIFETIME).then(|| key.clone())
    }

    pub(super) fn signing(&self) -> Option<TokenKey> {
        let kid = locked(&self.signing).clone();
        let (kid, since) = kid?;
        if since.elapsed() < LIFETIME {
            self.get(&kid)
        } else {
            None
        }
    }

    pub(super) fn put(&self, key: &TokenKey) {
        let mut keys = locked(&self.by_id);
        keys.retain(|_, (_, since)| since.elapsed() < LIFETIME);
        keys.insert(key.kid.clone(), (key.clone(), Instant::now()));
    }

    pub(super) fn put_signing(&self, key: &TokenKey) {
        self.put(key);
        *locked(&self.signing) = Some((key.kid.clone(), Instant::now()));
    }
}
