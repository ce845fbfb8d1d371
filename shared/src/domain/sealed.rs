//! Sealed values and wrapped keys as they are stored. Only `seal` makes and opens them.

use super::id::hash;
use crate::{Error, Result};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Nonce, ciphertext and tag.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(#[serde(with = "serde_bytes")] pub(crate) Vec<u8>);

impl Sealed {
    /// The value as text, for a place outside the table.
    pub fn to_text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// Reads what [`Self::to_text`] has written.
    pub fn from_text(text: &str) -> Option<Self> {
        BASE64URL_NOPAD.decode(text.as_bytes()).ok().map(Self)
    }
}

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
    /// The key as the key service has wrapped it.
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
    /// The number of the operator's key.
    pub tenant_key: u32,
    /// The secret.
    pub sealed: Sealed,
}

/// A key pair whose private half is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// A point of P-256, uncompressed, base64url.
    pub public: String,
    /// PKCS#8, sealed.
    pub sealed: Sealed,
}

impl SigningKey {
    /// The public half, in the clear; `None` if it is no point of P-256.
    pub fn public(&self) -> Option<DecodingKey> {
        let point = BASE64URL_NOPAD.decode(self.public.as_bytes()).ok()?;
        let (&[4], coordinates) = point.split_at_checked(1)? else {
            return None;
        };
        let (x, y) = coordinates.split_at_checked(32)?;
        DecodingKey::from_ec_components(&BASE64URL_NOPAD.encode(x), &BASE64URL_NOPAD.encode(y)).ok()
    }
}

/// The first characters of the `kid` of every key that signs access tokens.
const KID_PREFIX: &str = "hwj_";

/// A key pair that the deployment signs access tokens with (ES256). The operator's key seals the private half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// Rises by one with each rotation; the highest signs.
    pub number: u32,
    /// The `kid` of the key pair.
    pub kid: String,
    /// The number of the operator's key that seals it.
    pub tenant_key: u32,
    /// The key pair.
    pub pair: SigningKey,
}

impl TokenKey {
    /// The `kid` of the key with this number and this public half.
    pub fn kid_of(number: u32, public: &str) -> String {
        let digest = hash(public);
        format!("{KID_PREFIX}{number}_{}", &digest[..16])
    }

    /// The number of the key that has this `kid`, if the `kid` is one of ours.
    pub fn number_of(kid: &str) -> Option<u32> {
        let (number, digest) = kid.strip_prefix(KID_PREFIX)?.split_once('_')?;
        let is_digest = digest.len() == 16 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        number.parse().ok().filter(|_| is_digest)
    }

    /// The public half, which verifies signatures.
    ///
    /// # Errors
    /// [`Error::Internal`] when it is no point of P-256.
    pub fn public(&self) -> Result<DecodingKey> {
        let public = self.pair.public();
        public.ok_or_else(|| Error::internal("a token key is not a point of P-256"))
    }

    /// The coordinates of the public half, base64url (RFC 7518 6.2.1).
    ///
    /// # Errors
    /// As [`Self::public`].
    pub fn coordinates(&self) -> Result<(String, String)> {
        let point = BASE64URL_NOPAD.decode(self.pair.public.as_bytes());
        let point = point.map_err(|_| Error::internal("a token key is not base64url"))?;
        match point.as_slice() {
            [4, coordinates @ ..] if coordinates.len() == 64 => {
                let (x, y) = coordinates.split_at(32);
                Ok((BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y)))
            }
            _ => Err(Error::internal("a token key is not a point of P-256")),
        }
    }
}
