//! What logins need of a tenant's key: the pair of keys that access tokens are signed with, the provider's refresh token
//! under seal, and refresh tokens of ours that can be told a second time.

use super::{Sealed, SealedSecret, SigningKey, TenantKey, aad, decrypt, encrypt};
use crate::domain::id::{Sortable, TenantId, hash};
use crate::{Error, Result};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// What the ids of these keys begin with.
const PREFIX: &str = "hwj_";

/// A pair of keys that the deployment signs access tokens with (ES256). The private half is sealed by the operator's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// Rises by one with each rotation; the highest signs.
    pub number: u32,
    /// Its `kid`.
    pub kid: String,
    /// The number of the operator's key that seals it.
    pub tenant_key: u32,
    /// The two halves.
    pub pair: SigningKey,
}

impl TokenKey {
    /// The number of the key that has this `kid`, if the `kid` is one of ours.
    pub fn number_of(kid: &str) -> Option<u32> {
        let (number, digest) = kid.strip_prefix(PREFIX)?.split_once('_')?;
        let is_digest = digest.len() == 16 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        number.parse().ok().filter(|_| is_digest)
    }

    /// What signatures are verified with.
    ///
    /// # Errors
    /// [`Error::Internal`] when the stored key is not one.
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

impl TenantKey {
    /// A new pair of keys for access tokens, sealed by this key, which is the operator's.
    ///
    /// # Errors
    /// [`Error::Internal`] when the generator or the cipher fails.
    pub fn new_token_key(&self, number: u32) -> Result<TokenKey> {
        let failed = |_| Error::internal("a key pair could not be made");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(failed)?;
        let private = pair.to_pkcs8v1().map_err(failed)?;
        let public = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let digest = hash(&public);
        let kid = format!("{PREFIX}{number}_{}", &digest[..16]);
        let sealed = encrypt(&self.bytes, &token_key_aad(&kid, &public), private.as_ref())?;
        Ok(TokenKey {
            number,
            kid,
            tenant_key: self.number,
            pair: SigningKey { public, sealed },
        })
    }

    /// Opens the private half of a pair of keys for access tokens.
    ///
    /// # Errors
    /// [`Error::Internal`] when it was sealed for another public half, or changed.
    pub fn open_token_key(&self, key: &TokenKey) -> Result<EncodingKey> {
        let place = token_key_aad(&key.kid, &key.pair.public);
        let private = decrypt(&self.bytes, &place, &key.pair.sealed)?;
        Ok(EncodingKey::from_ec_der(&private))
    }

    /// Seals the refresh token that an identity provider gave for a login.
    ///
    /// # Errors
    /// [`Error::Internal`] when the cipher fails.
    pub fn seal_for_login(
        &self,
        tenant: &TenantId,
        login: Sortable,
        secret: &SecretString,
    ) -> Result<SealedSecret> {
        let place = provider_token_aad(tenant, login);
        Ok(SealedSecret {
            tenant_key: self.number,
            sealed: encrypt(&self.bytes, &place, secret.expose_secret().as_bytes())?,
        })
    }

    /// Opens what was sealed for exactly this login.
    ///
    /// # Errors
    /// [`Error::Internal`] when it was sealed for another one, or changed.
    pub fn open_for_login(
        &self,
        tenant: &TenantId,
        login: Sortable,
        sealed: &Sealed,
    ) -> Result<SecretString> {
        let plain = decrypt(&self.bytes, &provider_token_aad(tenant, login), sealed)?;
        let text = std::str::from_utf8(&plain).map_err(Error::internal)?;
        Ok(text.into())
    }

    /// The random part of the refresh token that follows on this one: the same each time, so that it can be told again although
    /// only its hash is stored (docs/decisions/0033-a-refresh-is-answered-again-for-a-minute.md).
    pub fn next_refresh_secret(
        &self,
        tenant: &TenantId,
        login: Sortable,
        presented: &SecretString,
    ) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.bytes.as_slice());
        let (tenant, login) = (tenant.as_str(), login.ulid());
        let place = aad(&["refresh-token", tenant, &login, presented.expose_secret()]);
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, &place).as_ref());
        secret
    }

    /// Its number.
    pub const fn number(&self) -> u32 {
        self.number
    }
}

fn token_key_aad(kid: &str, public: &str) -> Vec<u8> {
    aad(&["token-key", kid, public])
}

fn provider_token_aad(tenant: &TenantId, login: Sortable) -> Vec<u8> {
    aad(&["provider-token", tenant.as_str(), &login.ulid()])
}
