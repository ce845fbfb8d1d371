//! Secret values on their way into a seal and out of it: a JSON object of strings.

use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Encodes the fields that have a value.
pub(crate) fn encode(fields: &[(&str, Option<&SecretString>)]) -> Option<Zeroizing<Vec<u8>>> {
    let plain: BTreeMap<&str, &str> = fields
        .iter()
        .filter_map(|(name, value)| Some((*name, value.as_ref()?.expose_secret())))
        .collect();
    serde_json::to_vec(&plain).ok().map(Zeroizing::new)
}

/// Decodes what [`encode`] has written.
pub(crate) fn decode(json: &[u8]) -> Option<BTreeMap<String, SecretString>> {
    let plain: BTreeMap<String, String> = serde_json::from_slice(json).ok()?;
    let secret = plain.into_iter().map(|(name, value)| (name, value.into()));
    Some(secret.collect())
}
