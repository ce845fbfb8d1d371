//! How many calls one tenant and one server may have under way in a process, so that neither takes all places from the others: a
//! server that never answers holds each call that it gets.

use crate::domain::id::{ServerId, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The limits and the current numbers of calls.
#[derive(Clone, Debug)]
pub struct CallLimits {
    /// Of one tenant, at all of its servers.
    pub per_tenant: usize,
    /// At one server.
    pub per_server: usize,
    open: Arc<Mutex<HashMap<Holder, usize>>>,
}

/// Who has calls: a tenant, or one server of it.
type Holder = (TenantId, Option<ServerId>);

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    holders: [Holder; 2],
    open: Arc<Mutex<HashMap<Holder, usize>>>,
}

impl Default for CallLimits {
    /// Of the 400 of a process: no tenant has more than half, no server more than a quarter.
    fn default() -> Self {
        Self {
            per_tenant: 200,
            per_server: 100,
            open: Arc::default(),
        }
    }
}

impl CallLimits {
    /// Counts one more call; `None` if that is more than there may be.
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
