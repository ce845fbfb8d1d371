//! In-memory caches of a process. They only save requests.

use super::client_credentials::ClientCredentialsToken;
use crate::domain::id::{ServerId, TenantId};
use crate::domain::subject::Subject;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The maximum number of entries of each in-memory cache.
const MAX_CACHE_ENTRIES: usize = 10_000;

/// In-memory caches of a process. They only save requests.
#[derive(Default)]
pub(crate) struct ProcessCache {
    /// The subjects of API keys. Only predicts which items to read: each request authenticates its key again.
    pub(super) keys: Mutex<HashMap<(TenantId, String), Subject>>,
    /// Tokens of the client credentials grant, by server.
    pub(super) tokens: Mutex<HashMap<(TenantId, ServerId), ClientCredentialsToken>>,
    /// Origins whose servers want sessions (MCP authorization row 43).
    pub(in crate::operations) with_sessions: Mutex<HashMap<String, ()>>,
}

/// Locks a cache, and empties it if it is full.
pub(in crate::operations) fn locked<K, V>(
    map: &Mutex<HashMap<K, V>>,
) -> MutexGuard<'_, HashMap<K, V>> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if map.len() >= MAX_CACHE_ENTRIES {
        map.clear();
    }
    map
}
