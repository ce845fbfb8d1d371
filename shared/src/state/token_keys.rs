//! A cache of the key pairs that sign access tokens.

use crate::domain::sealed::TokenKey;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a key is used before it is read again. So long a key serves after it was taken out of the table.
const LIFETIME: Duration = Duration::from_secs(300);

/// The key pairs that were read, with the private halves sealed.
#[derive(Default)]
pub(crate) struct TokenKeys {
    by_id: Mutex<HashMap<String, (TokenKey, Instant)>>,
    /// The `kid` of the key that signs, and when it was read.
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
