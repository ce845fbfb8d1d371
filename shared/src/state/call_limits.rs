//! How many calls one tenant and one server may have under way in a process. A server that never answers holds each
//! call that it gets; the limits keep the other places free.

use crate::domain::id::{ServerId, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The limits and the current numbers of calls.
#[derive(Clone, Debug)]
pub struct CallLimits {
    /// The most calls of one tenant, at all of its servers.
    pub per_tenant: usize,
    /// The most calls at one server.
    pub per_server: usize,
    open: Arc<Mutex<HashMap<Holder, usize>>>,
}

/// What calls are counted for: a tenant, or one of its servers.
type Holder = (TenantId, Option<ServerId>);

/// The place of a call that is under way. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    holders: [Holder; 2],
    open: Arc<Mutex<HashMap<Holder, usize>>>,
}

impl Default for CallLimits {
    /// Out of the 400 places of a process a tenant has at most half, a server at most a quarter.
    fn default() -> Self {
        Self {
            per_tenant: 200,
            per_server: 100,
            open: Arc::default(),
        }
    }
}

impl CallLimits {
    /// Counts one more call; `None` if its tenant or its server has no place left.
    pub(crate) fn take(&self, tenant: &TenantId, server: ServerId) -> Option<Place> {
        let holders = [(tenant.clone(), None), (tenant.clone(), Some(server))];
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = [self.per_tenant, self.per_server];
        let mut counts = holders.iter().zip(limits);
        if !counts.all(|(holder, limit)| open.get(holder).is_none_or(|count| *count < limit)) {
            return None;
        }
        for holder in &holders {
            *open.entry(holder.clone()).or_default() += 1;
        }
        Some(Place {
            holders,
            open: self.open.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for holder in &self.holders {
            if let Some(count) = open.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    open.remove(holder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn neither_a_tenant_nor_a_server_takes_more_than_its_share() {
        let limits = CallLimits {
            per_tenant: 3,
            per_server: 2,
            ..CallLimits::default()
        };
        let tenant = |name| TenantId::parse(name).unwrap();
        let server = || ServerId::new(Timestamp::from_micros(0)).unwrap();
        let (acme, other) = (tenant("acme"), tenant("other"));
        let (one, two, three) = (server(), server(), server());
        let mut held = vec![limits.take(&acme, one).unwrap()];
        held.push(limits.take(&acme, one).unwrap());
        assert!(
            limits.take(&acme, one).is_none(),
            "the server has its share"
        );
        held.push(limits.take(&acme, two).unwrap());
        assert!(
            limits.take(&acme, three).is_none(),
            "the tenant has its share"
        );
        assert!(limits.take(&other, three).is_some());
        held.remove(0);
        held.push(limits.take(&acme, one).unwrap());
        held.clear();
        assert!(limits.open.lock().unwrap().is_empty(), "nothing is kept");
    }
}
