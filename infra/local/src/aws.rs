//! AWS for the command line, with the same credentials that the AWS CLI would use. Errors say what is missing.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use hawser_core::table::Table;
use std::error::Error;

/// A table on AWS. Credentials come from the environment, a profile (SSO, `credential_process`, a login session, an
/// assumed role), web identity, or the machine.
///
/// # Errors
/// What is missing, in words: the region, the credentials, the table, or the connection to DynamoDB.
pub async fn table(name: &str) -> Result<Table, Box<dyn Error>> {
    let aws = aws_config::defaults(BehaviorVersion::latest()).load().await;
    let region = usable(&aws).await?;
    let client = Client::new(&aws);
    match client.describe_table().table_name(name).send().await {
        Err(SdkError::ServiceError(refused)) => match refused.err().code() {
            Some("ResourceNotFoundException") => {
                let hint = "is it another region, or another account?";
                return Err(format!("there is no table {name} in {region}: {hint}").into());
            }
            // Permission to describe the table is not needed to use it.
            Some("AccessDeniedException") => {}
            code => {
                let code = code.unwrap_or("an error");
                return Err(format!("DynamoDB in {region} answered {code}").into());
            }
        },
        Err(error) => {
            let cause = DisplayErrorContext(&error);
            return Err(format!("DynamoDB in {region} cannot be reached: {cause}").into());
        }
        Ok(_) => {}
    }
    Ok(Table::new(client, name))
}

/// The region. Fails if there is none, or if there are no credentials.
async fn usable(aws: &SdkConfig) -> Result<String, Box<dyn Error>> {
    let region = aws
        .region()
        .ok_or("no AWS region: set AWS_REGION, or region in the profile (AWS_PROFILE)")?;
    let provider = aws.credentials_provider().ok_or("no AWS credentials")?;
    match provider.provide_credentials().await {
        Ok(_) => Ok(region.to_string()),
        Err(CredentialsError::CredentialsNotLoaded(_)) => {
            Err("no AWS credentials: set AWS_PROFILE, \
            run `aws sso login` or `aws login`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .into())
        }
        Err(error) => {
            let cause = DisplayErrorContext(&error);
            Err(format!("no AWS credentials: {cause}").into())
        }
    }
}
