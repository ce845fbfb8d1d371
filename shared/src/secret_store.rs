//! The stores of secrets that the catalogue and manifests may refer to: AWS Secrets Manager, and Parameter Store of AWS
//! Systems Manager. A client is made only where a reference is read, so that functions which read none do not contain it.

use crate::domain::integration::{SecretReference, SecretStore};
use crate::{Error, Result};
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::OnceCell;
use tracing::warn;

/// How the stores are reached: with a given AWS configuration, or with the one of the environment.
#[derive(Debug, Default)]
pub struct SecretStores(OnceCell<SdkConfig>);

impl SecretStores {
    /// The stores, reached with this configuration.
    pub fn by(aws: SdkConfig) -> Self {
        Self(OnceCell::new_with(Some(aws)))
    }

    /// Reads the secret that a reference of the operator names.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not answer; [`Error::Internal`] when it refuses, or has no such
    /// secret.
    pub async fn read(&self, reference: &SecretReference) -> Result<SecretString> {
        let store = reference.store.as_str();
        let answered = self.ask(reference).await?;
        let refused = |code| Error::internal(format!("{store} answered {code}"));
        answered.map_err(refused)?.ok_or_else(|| {
            Error::internal(format!("{store}: the secret holds no text where it should"))
        })
    }

    /// The secret that a reference of somebody else leads to, if there is one that may be read.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not answer.
    pub async fn find(&self, reference: &SecretReference) -> Result<Option<SecretString>> {
        match self.ask(reference).await? {
            Ok(found) => Ok(found),
            Err(code) => {
                let store = reference.store.as_str();
                warn!(
                    store,
                    code, "a secret that was referred to could not be read"
                );
                Ok(None)
            }
        }
    }

    /// What a store answers: the secret, if it holds text there, or the code of its refusal.
    async fn ask(
        &self,
        reference: &SecretReference,
    ) -> Result<std::result::Result<Option<SecretString>, String>> {
        let aws = self.0.get_or_init(environment).await;
        let id = &reference.id;
        let text: Option<SecretString> = match reference.store {
            SecretStore::Secretsmanager => {
                let client = aws_sdk_secretsmanager::Client::new(aws);
                match client.get_secret_value().secret_id(id).send().await {
                    Ok(secret) => secret.secret_string.map(Into::into),
                    Err(error) => return refusal(reference.store, error).map(Err),
                }
            }
            SecretStore::Ssm => {
                let client = aws_sdk_ssm::Client::new(aws);
                let parameter = client.get_parameter().name(id).with_decryption(true);
                match parameter.send().await {
                    Ok(found) => found.parameter.and_then(|one| one.value).map(Into::into),
                    Err(error) => return refusal(reference.store, error).map(Err),
                }
            }
        };
        let found = text.and_then(|text| member(text, reference.json_key.as_deref()));
        Ok(Ok(found.filter(|text| !text.expose_secret().is_empty())))
    }
}

async fn environment() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(10))
        .build();
    aws_config::from_env().timeout_config(timeouts).load().await
}

/// The text itself or, with a name, that member of the JSON object in the text; `None` if it is not there.
fn member(text: SecretString, name: Option<&str>) -> Option<SecretString> {
    let Some(name) = name else {
        return Some(text);
    };
    let mut object: Map<String, Value> = serde_json::from_str(text.expose_secret()).ok()?;
    match object.remove(name)? {
        Value::String(secret) => Some(secret.into()),
        _ => None,
    }
}

/// Returns the code of a refusal, which only the operator can mend, or else the error of a failure that may pass. Only
/// the code is kept, because a message may quote anything.
fn refusal<E: ProvideErrorMetadata, R>(
    store: SecretStore,
    error: SdkError<E, R>,
) -> Result<String> {
    let store = store.as_str();
    match (&error, error.code()) {
        (
            SdkError::ServiceError(_),
            Some(
                "InternalServerError"
                | "InternalServiceError"
                | "LimitExceededException"
                | "RequestLimitExceeded"
                | "ServiceUnavailable"
                | "ThrottlingException"
                | "TooManyRequestsException",
            ),
        ) => Err(Error::Unavailable(format!(
            "{store} answered {}",
            error.code().unwrap_or_default()
        ))),
        (SdkError::ServiceError(_), code) => Ok(code.unwrap_or("an error").to_owned()),
        _ => Err(Error::Unavailable(format!("{store} did not answer"))),
    }
}
