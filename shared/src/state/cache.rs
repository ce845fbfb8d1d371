//! In-memory caches of a process. They only save requests.

use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::Subject;
use crate::domain::time::Timestamp;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The maximum number of entries of each in-memory cache.
const MAX_CACHE_ENTRIES: usize = 10_000;

/// A token from the client credentials grant of a server's own client.
#[derive(Clone)]
pub(crate) struct ClientCredentialsToken {
    /// The fingerprint of the settings that the token was obtained with.
    pub(crate) fingerprint: String,
    pub(crate) token: SecretString,
    pub(crate) until: Option<Timestamp>,
    /// When the token replaced one that the server had refused.
    pub(crate) replaced_at: Option<Timestamp>,
}

/// In-memory caches of a process. They only save requests.
#[derive(Default)]
pub(crate) struct ProcessCache {
    /// The subjects of API keys. They only predict which items to read: each request authenticates its key again.
    pub(crate) keys: Mutex<HashMap<(TenantId, String), Subject>>,
    /// Tokens of the client credentials grant, by server.
    pub(crate) tokens: Mutex<HashMap<(TenantId, ServerId), ClientCredentialsToken>>,
    /// Origins of servers that require sessions (MCP authorization row 43).
    pub(crate) with_sessions: Mutex<HashMap<String, ()>>,
}

/// Locks a cache. A full cache is emptied first.
pub(crate) fn locked<K, V>(map: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MAX_CACHE_ENTRIES {
        map.clear();
    }
    map
}
