//! The key pairs that sign access tokens. A deployment has one, made when it is first needed; the table has room for
//! its successor.

use crate::domain::id::TenantId;
use crate::domain::sealed::TokenKey;
use crate::state::app::App;
use crate::{Error, Result};
use jsonwebtoken::{DecodingKey, EncodingKey};

/// The number of the first key.
const FIRST: u32 = 1;

impl App {
    /// The public key that verifies tokens with this `kid`; `None` if the deployment has no such key. The table is read
    /// once in five minutes.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(crate) async fn verifying_key(&self, kid: &str) -> Result<Option<DecodingKey>> {
        let Some(number) = TokenKey::number_of(kid) else {
            return Ok(None);
        };
        if let Some(key) = self.token_keys.get(kid) {
            return key.public().map(Some);
        }
        let key = self.table.token_key(number).await?;
        let Some(key) = key.filter(|key| key.kid == kid) else {
            return Ok(None);
        };
        self.token_keys.put(&key);
        key.public().map(Some)
    }

    /// The key that signs, and its `kid`. Of two that are made at once the first is kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Internal`].
    pub(crate) async fn signing_key(&self) -> Result<(String, EncodingKey)> {
        let key = match self.token_keys.signing() {
            Some(key) => key,
            None => {
                let key = self.current_token_key().await?;
                self.token_keys.put_signing(&key);
                key
            }
        };
        let operator = TenantId::operator();
        let sealing = self.tenant_key(&operator, key.tenant_key).await?;
        Ok((key.kid.clone(), sealing.open_token_key(&key)?))
    }

    /// The key with the highest number, made if there is none.
    async fn current_token_key(&self) -> Result<TokenKey> {
        if let Some(key) = self.table.token_keys().await?.pop() {
            return Ok(key);
        }
        let sealing = self.current_tenant_key(&TenantId::operator()).await?;
        self.table
            .add_token_key(&sealing.new_token_key(FIRST)?)
            .await?;
        let key = self.table.token_key(FIRST).await?;
        key.ok_or_else(|| Error::internal("a token key is missing"))
    }
}
