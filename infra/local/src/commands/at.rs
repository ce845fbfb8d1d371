//! Which table a command works on: that of a data folder, or a table on AWS.

use super::Outcome;
use clap::Args;
use hawser_core::App;
use hawser_core::domain::id::TenantId;
use hawser_core::domain::subject::{Subject, SubjectType};
use hawser_core::state::config::{Config, KeyServiceConfig};
use hawser_core::table::Table;
use hawser_local::TABLE;
use hawser_local::identity::Identity;
use hawser_local::store::Store;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct DataFolder {
    /// The folder that holds the store and the keys
    #[arg(long, default_value = ".hawser")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct At {
    #[command(flatten)]
    pub(crate) data: DataFolder,
    /// A table on AWS, reached by the usual AWS environment, instead of a data folder
    #[arg(long)]
    pub(crate) table: Option<String>,
}

impl At {
    /// The table and, if it is in a data folder, the store that serves it.
    pub(crate) async fn open(&self) -> Outcome<(Table, Option<Store>)> {
        if let Some(name) = &self.table {
            return Ok((hawser_local::aws::table(name).await?, None));
        }
        Identity::open(&self.data.data_dir)?;
        let store = Store::open(Some(&self.data.data_dir)).await?;
        let client = aws_sdk_dynamodb::Client::from_conf(store.client_config().build());
        Ok((Table::new(client, TABLE), Some(store)))
    }

    /// An application that can open keys: those of the data folder, or those that this KMS key wraps. `None` for a
    /// table on AWS without a KMS key.
    pub(crate) async fn app(
        &self,
        key: Option<&str>,
        store: Option<&Store>,
    ) -> Outcome<Option<App>> {
        let Some(table) = &self.table else {
            let store = store.ok_or("there is no store")?;
            let key = Identity::open(&self.data.data_dir)?.master_key().clone();
            let config = Config::bare(TABLE, KeyServiceConfig::Key(key));
            let client = aws_sdk_dynamodb::Client::from_conf(store.client_config().build());
            return Ok(Some(App::new(config, client, |_| {
                unreachable!("the key is a file's")
            })?));
        };
        Ok(match key {
            Some(key) => {
                let config = Config::bare(table, KeyServiceConfig::Kms(key.to_owned()));
                Some(App::connect(config).await?)
            }
            None => None,
        })
    }
}

/// A subject that may have records, from the command line.
pub(crate) fn record_holder(text: &str) -> Outcome<Subject> {
    let subject = Subject::parse(text).filter(|one| one.kind() != SubjectType::ExternalIdentity);
    Ok(subject.ok_or("--subject must be user:NAME or virtualaccount:NAME")?)
}

pub(crate) fn tenant_id(name: &str) -> Outcome<TenantId> {
    Ok(TenantId::parse(name).ok_or("--tenant must have 1 to 255 characters")?)
}
