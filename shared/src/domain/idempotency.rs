//! Requests that are carried out once, however often they are sent.

use super::id::hash;
use super::subject::Subject;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// For how long a request is known by its key, in seconds.
const KEPT_SECONDS: i64 = 24 * 60 * 60;

/// A request with a key of its client (`Idempotency-Key`). The key itself is not kept: it may be a secret.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// Hash of the caller and the key.
    pub id: String,
    /// Hash of what is asked for.
    pub request: String,
}

/// What a request with a key has led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedOut {
    /// Hash of what was asked for.
    pub request: String,
    /// The id of its receipt.
    pub receipt: String,
    /// When the table may forget it, in seconds since the epoch.
    pub ttl: i64,
}

impl Keyed {
    /// A request of this caller for `asked`. Keys of different callers are never the same.
    pub fn new(caller: &Subject, key: &str, asked: &[&str]) -> Self {
        Self {
            id: joined(&[caller.kind().as_str(), caller.id(), key]),
            request: joined(asked),
        }
    }

    /// What there is to know once it is carried out under a receipt.
    pub fn carried_out(&self, receipt: &str, now: Timestamp) -> CarriedOut {
        CarriedOut {
            request: self.request.clone(),
            receipt: receipt.to_owned(),
            ttl: now.plus_seconds(KEPT_SECONDS).seconds(),
        }
    }
}

/// One hash of several texts. Each is hashed first, so that none can reach into the next.
fn joined(parts: &[&str]) -> String {
    hash(&parts.iter().map(|part| hash(part)).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subject::SubjectType;

    #[test]
    fn no_two_requests_are_the_same() {
        let subject = |kind, id| Subject::new(kind, id).unwrap();
        let ada = subject(SubjectType::User, "ada");
        let one = Keyed::new(&ada, "k", &["a", "bc"]);
        let robot = subject(SubjectType::VirtualAccount, "ada");
        for other in [
            Keyed::new(&ada, "k2", &["a", "bc"]),
            Keyed::new(&robot, "k", &["a", "bc"]),
            Keyed::new(&subject(SubjectType::User, "adak"), "", &["a", "bc"]),
        ] {
            assert_ne!(one.id, other.id);
            assert_eq!(one.request, other.request);
        }
        assert_ne!(one.request, Keyed::new(&ada, "k", &["ab", "c"]).request);
    }
}
