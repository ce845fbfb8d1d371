//! The embedded store: DynamoDB's API over SQLite, on a loopback port of its own, reached through the real SDK.

use crate::TABLE;
use crate::template::Template;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use hawser_core::domain::id::random;
use std::fs::{File, OpenOptions, Permissions};
use std::io::Error;
use std::net::Ipv4Addr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tracing::{error, warn};

/// A running store. It stops when this is dropped.
pub struct Store {
    url: String,
    access_key: String,
    /// `None` if the store is another process.
    embedded: Option<(dynoxide::Database, oneshot::Sender<()>)>,
}

impl Store {
    /// Opens the store of a data folder, or one in memory, and creates the table if there is none.
    ///
    /// # Errors
    /// The file cannot be opened, or no port is free.
    pub async fn open(folder: Option<&Path>) -> Result<Self, Error> {
        let database = match folder {
            Some(folder) => {
                let file = folder.join("hawser.db");
                private_file(&file)?;
                let path = file
                    .to_str()
                    .ok_or_else(|| Error::other("the data folder's name is not UTF-8"))?;
                dynoxide::Database::new(path)
            }
            None => dynoxide::Database::memory(),
        };
        let database = database
            .map_err(|error| Error::other(format!("the store cannot be opened: {error:?}")))?;
        let listener = hidden_listener().await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel::<()>();
        serve_apart(listener, database.clone(), stopped)?;
        Self::with_table(Self {
            url,
            access_key: "local".to_owned(),
            embedded: Some((database, stop)),
        })
        .await
    }

    /// Another implementation of DynamoDB, at this address. Its account is new: the access key is random, and emulators
    /// tell accounts apart by it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn at(url: &str) -> Result<Self, Error> {
        let number = u64::from_be_bytes(random::<8>().map_err(Error::other)?);
        Self::with_table(Self {
            url: url.to_owned(),
            access_key: format!("{:012}", number % 1_000_000_000_000),
            embedded: None,
        })
        .await
    }

    async fn with_table(self) -> Result<Self, Error> {
        let client = aws_sdk_dynamodb::Client::from_conf(self.client_config().build());
        Template::load()?.create_table(&client, TABLE).await?;
        Ok(self)
    }

    /// Removes items past their `ttl`, as DynamoDB does by itself.
    pub async fn forget_expired(&self) {
        let Some((database, _)) = &self.embedded else {
            return;
        };
        let database = database.clone();
        let swept = tokio::task::spawn_blocking(move || database.sweep_ttl().map(drop)).await;
        if !matches!(swept, Ok(Ok(()))) {
            warn!(?swept, "expired items could not be removed from the store");
        }
    }

    /// The URL that the store listens at.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The access key that clients of the store use.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The configuration of a client of the store. Proxies of the environment are ignored.
    pub fn client_config(&self) -> aws_sdk_dynamodb::config::Builder {
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&self.url)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(
                &self.access_key,
                "local",
                None,
                None,
                "local",
            ))
    }
}

/// Serves a store on a thread of its own. The store blocks while it waits for its file or for another request, and
/// would stop everything else on a shared thread.
fn serve_apart(
    listener: TcpListener,
    database: dynoxide::Database,
    stopped: oneshot::Receiver<()>,
) -> Result<(), Error> {
    let listener = listener.into_std()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        let served = runtime.block_on(async {
            let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
            let stopped = async {
                let _ = stopped.await;
            };
            dynoxide::server::serve_with_shutdown(listener, database, stopped).await
        });
        if let Err(error) = served {
            error!(error, "the store cannot be served");
        }
    };
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(serve)?;
    Ok(())
}

/// A file that only its owner may read. It is made if there is none.
///
/// # Errors
/// The file cannot be opened for writing.
pub fn private_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path)?;
    // A file from before may be readable by others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A listener on a loopback address that a web page cannot guess. The store authenticates nobody and answers every
/// origin; at a known address a page in any browser of this machine could talk to it.
async fn hidden_listener() -> Result<TcpListener, Error> {
    let [a, b, c] = random::<3>().map_err(Error::other)?;
    let anywhere = Ipv4Addr::new(127, a, b, c.clamp(1, 254));
    match TcpListener::bind((anywhere, 0)).await {
        Ok(listener) => Ok(listener),
        // Some systems have only one loopback address.
        Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
    }
}
