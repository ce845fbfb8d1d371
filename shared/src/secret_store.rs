//! The stores of secrets that the catalogue may refer to: AWS Secrets Manager, and Parameter Store of AWS Systems
//! Manager. A client is made only where a reference is read, so that functions which read none do not contain it.

use crate::domain::integration::{SecretReference, SecretStore};
use crate::{Error, Result};
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How the stores are reached: with a given AWS configuration, or with the one of the environment.
#[derive(Debug, Default)]
pub struct SecretStores(OnceCell<SdkConfig>);

impl SecretStores {
    /// The stores, reached with this configuration.
    pub fn by(aws: SdkConfig) -> Self {
        Self(OnceCell::new_with(Some(aws)))
    }

    /// Reads the secret that a reference names.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the store does not answer; [`Error::Internal`] when it refuses, or has no such
    /// secret.
    pub async fn read(&self, reference: &SecretReference) -> Result<SecretString> {
        let aws = self.0.get_or_init(environment).await;
        let id = &reference.id;
        let found: Option<SecretString> = match reference.store {
            SecretStore::Secretsmanager => {
                let client = aws_sdk_secretsmanager::Client::new(aws);
                let sent = client.get_secret_value().secret_id(id).send().await;
                let secret = sent.map_err(|error| failed(reference.store, error))?;
                secret.secret_string.map(Into::into)
            }
            SecretStore::Ssm => {
                let client = aws_sdk_ssm::Client::new(aws);
                let parameter = client.get_parameter().name(id).with_decryption(true);
                let sent = parameter.send().await;
                let found = sent.map_err(|error| failed(reference.store, error))?;
                found.parameter.and_then(|one| one.value).map(Into::into)
            }
        };
        let found = found.and_then(|text| member(text, reference.json_key.as_deref()));
        found
            .filter(|text| !text.expose_secret().is_empty())
            .ok_or_else(|| {
                let store = reference.store.as_str();
                Error::internal(format!("{store}: the secret holds no text where it should"))
            })
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

/// Tells failures that may pass from those that only the operator can mend. Only the code is kept, because a message
/// may quote anything.
fn failed<E: ProvideErrorMetadata, R>(store: SecretStore, error: SdkError<E, R>) -> Error {
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
        ) => Error::Unavailable(format!(
            "{store} answered {}",
            error.code().unwrap_or_default()
        )),
        (SdkError::ServiceError(_), code) => {
            Error::internal(format!("{store} answered {}", code.unwrap_or("an error")))
        }
        _ => Error::Unavailable(format!("{store} did not answer")),
    }
}
