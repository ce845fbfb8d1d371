//! Sealed values and wrapped keys as they are stored. Only `seal` makes and opens them.

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Nonce, ciphertext and tag.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// A server's data key, wrapped by version `tenant_key` of its tenant's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrappedKey {
    /// The number of the tenant key.
    pub tenant_key: u32,
    /// The wrapped key.
    pub sealed: Sealed,
}

/// A tenant's key as the table holds it: wrapped by the key service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrappedTenantKey {
    /// Rises by one with each rotation.
    pub number: u32,
    /// What the key service made of it.
    pub wrapped: Sealed,
}

/// A message authentication code: the AES-GCM tag over a cleartext, made with version `tenant_key` of a tenant's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mac {
    /// The number of the tenant key.
    pub tenant_key: u32,
    /// Nonce and tag.
    pub sealed: Sealed,
}

/// A secret of an integration, sealed by version `tenant_key` of the operator's own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// The number of the key.
    pub tenant_key: u32,
    /// The secret.
    pub sealed: Sealed,
}

/// A key pair, of which only the private half is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// A point of P-256, uncompressed, base64url.
    pub public: String,
    /// PKCS#8, sealed.
    pub sealed: Sealed,
}

impl SigningKey {
    /// The public half; nothing has to be opened for it.
    pub fn public(&self) -> Option<DecodingKey> {
        let point = BASE64URL_NOPAD.decode(self.public.as_bytes()).ok()?;
        let (&[4], coordinates) = point.split_at_checked(1)? else {
            return None;
        };
        let (x, y) = coordinates.split_at_checked(32)?;
        DecodingKey::from_ec_components(&BASE64URL_NOPAD.encode(x), &BASE64URL_NOPAD.encode(y)).ok()
    }
}
