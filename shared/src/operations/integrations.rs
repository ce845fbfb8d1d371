//! The operator's catalogue of integrations: it is replaced from a file, and read through copies that each process keeps for
//! a minute.

use crate::catalogue::{Offer, is_name};
use crate::domain::event::{Action, Event, Who};
use crate::domain::id::TenantId;
use crate::domain::integration::{ClientSecret, Integration};
use crate::domain::sealed::SealedSecret;
use crate::seal::OfIntegration;
use crate::state::app::App;
use crate::state::catalogue::{Catalogue, CatalogueEntry};
use crate::table::integrations::{Change as Write, Stored};
use crate::{Error, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use tokio::sync::OnceCell;
use tracing::error;

/// The whole catalogue.
///
/// # Errors
/// [`Error::Unavailable`] when the store does not answer and there is no copy that may serve, [`Error::Internal`].
pub async fn all(app: &App) -> Result<Arc<Catalogue>> {
    let read = async {
        let stored = app.table.integrations().await?.into_iter();
        let readable = stored.filter_map(|(name, stored)| Some((name, stored?.integration)));
        Ok(Some(readable.collect()))
    };
    let copy = app.catalogue.all.get(&app.clock, read).await?;
    Ok(copy.unwrap_or_default())
}

/// One integration, whether connections can still be made from it or not: those that were go on.
///
/// # Errors
/// As [`all`].
pub async fn find(app: &App, name: &str) -> Result<Option<Arc<CatalogueEntry>>> {
    if !is_name(name) {
        return Ok(None);
    }
    let slots = || {
        let slots = app.catalogue.each.lock();
        slots.unwrap_or_else(PoisonError::into_inner)
    };
    let slot = slots().entry(name.to_owned()).or_default().clone();
    let read = async {
        let stored = app.table.integration(name).await?;
        Ok(stored.map(|stored| CatalogueEntry {
            name: name.to_owned(),
            integration: stored.integration,
            secret: OnceCell::new(),
        }))
    };
    let found = slot.get(&app.clock, read).await?;
    if found.is_none() {
        // Whoever asks for names that are none must not fill the memory.
        slots().remove(name);
    }
    Ok(found)
}

impl CatalogueEntry {
    /// The whole address of its server.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the key service does not answer; [`Error::Internal`] when it does not open.
    pub async fn address(&self, app: &App) -> Result<SecretString> {
        match &self.integration.address {
            None => Ok(self.integration.mcp_url.as_str().into()),
            Some(sealed) => {
                let what = OfIntegration::Address;
                open(app, what, &self.name, &self.integration, sealed).await
            }
        }
    }

    /// The secret of its client, opened or fetched once for each copy.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the key service or the store of secrets does not answer; [`Error::Internal`] when the secret
    /// does not open, or a reference leads nowhere.
    pub(super) async fn client_secret(&self, app: &App) -> Result<Option<SecretString>> {
        let oauth = self.integration.oauth.as_ref();
        let Some(kept) = oauth.and_then(|oauth| oauth.client_secret.as_ref()) else {
            return Ok(None);
        };
        let read = async {
            match kept {
                ClientSecret::Sealed(sealed) => {
                    let what = OfIntegration::ClientSecret;
                    open(app, what, &self.name, &self.integration, sealed).await
                }
                ClientSecret::Reference(reference) => app.secret_stores.read(reference).await,
            }
        };
        let secret = self.secret.get_or_try_init(|| read).await;
        let secret = secret.inspect_err(|cause| {
            let integration = &self.name;
            error!(integration, %cause, "a client secret of the catalogue cannot be had");
        })?;
        Ok(Some(secret.clone()))
    }
}

async fn open(
    app: &App,
    what: OfIntegration,
    name: &str,
    integration: &Integration,
    sealed: &SealedSecret,
) -> Result<SecretString> {
    let operator = TenantId::operator();
    let key = app.tenant_key(&operator, sealed.tenant_key).await?;
    key.open_of_integration(what, name, integration, sealed)
}

/// The change of an integration when a file is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It differs from what is stored.
    Changed,
    /// It is not in the file.
    Removed,
}

/// A change of one integration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub integration: String,
    /// The kind of the change.
    pub change: Kind,
    /// The fields that differ, for [`Kind::Changed`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// Makes the catalogue equal to the offers of a file, one integration after the other, each in a transaction of its own with
/// its event. Returns the changes. If a run is interrupted, the next one makes the changes that are missing. Of two runs at
/// once, the one that began to write later goes on, and the other is refused at its next write.
///
/// With `dry_run` nothing is written.
///
/// # Errors
/// [`Error::Contended`] if the catalogue was changed meanwhile; [`Error::Unavailable`], [`Error::Internal`].
pub async fn apply(
    app: &App,
    offers: &BTreeMap<String, Offer>,
    dry_run: bool,
) -> Result<Vec<Change>> {
    let mut revision = app.table.catalogue_revision().await?;
    let stored: BTreeMap<_, _> = app.table.integrations().await?.into_iter().collect();
    let mut changes = Vec::new();
    let names: BTreeSet<_> = stored.keys().chain(offers.keys()).collect();
    for name in names {
        let change = match (offers.get(name), stored.get(name)) {
            (None, _) => Some((Kind::Removed, Vec::new())),
            (Some(_), None) => Some((Kind::Added, Vec::new())),
            (Some(offer), Some(before)) => {
                let fields = differing(app, offer, before.as_ref()).await?;
                (!fields.is_empty()).then_some((Kind::Changed, fields))
            }
        };
        let Some((kind, fields)) = change else {
            continue;
        };
        if !dry_run {
            write(app, revision, name, offers.get(name), kind).await?;
            revision += 1;
        }
        changes.push(Change {
            integration: name.clone(),
            change: kind,
            fields,
        });
    }
    Ok(changes)
}

/// Takes one integration out of the catalogue. Returns whether it was there.
///
/// # Errors
/// As [`apply`].
pub async fn remove(app: &App, name: &str) -> Result<bool> {
    let revision = app.table.catalogue_revision().await?;
    let all = app.table.integrations().await?;
    if !all.iter().any(|(one, _)| one == name) {
        return Ok(false);
    }
    write(app, revision, name, None, Kind::Removed).await?;
    Ok(true)
}

async fn write(
    app: &App,
    revision: u64,
    name: &str,
    offer: Option<&Offer>,
    kind: Kind,
) -> Result<()> {
    let action = match kind {
        Kind::Added => Action::IntegrationAdded,
        Kind::Changed => Action::IntegrationChanged,
        Kind::Removed => Action::IntegrationRemoved,
    };
    let operator = TenantId::operator();
    let event = Event::new(app.now(), &operator, Who::Operator, action)?.of_integration(name);
    let written = match offer {
        None => {
            let change = Write::Remove(name);
            app.table.change_integration(revision, change, &event).await
        }
        Some(offer) => {
            let mut integration = offer.integration.clone();
            if offer.holds_secrets() {
                let key = app.current_tenant_key(&operator).await?;
                let seal = |what, secret: &Option<SecretString>| {
                    let secret = secret.as_ref();
                    secret
                        .map(|it| key.seal_of_integration(what, name, &offer.integration, it))
                        .transpose()
                };
                integration.address = seal(OfIntegration::Address, &offer.address)?;
                let sealed = seal(OfIntegration::ClientSecret, &offer.secret)?;
                if let (Some(oauth), Some(sealed)) = (&mut integration.oauth, sealed) {
                    oauth.client_secret = Some(ClientSecret::Sealed(sealed));
                }
            }
            let stored = Stored {
                name: name.to_owned(),
                integration,
            };
            let change = Write::Put(&stored);
            app.table.change_integration(revision, change, &event).await
        }
    };
    match written? {
        true => Ok(()),
        false => Err(Error::Contended),
    }
}

/// The fields in which what is offered differs from what is stored. What cannot be read, or opened, is to be written anew.
async fn differing(app: &App, offer: &Offer, before: Option<&Stored>) -> Result<Vec<String>> {
    let Some(before) = before else {
        return Ok(vec!["everything".to_owned()]);
    };
    let mut fields = BTreeSet::new();
    let (mut old, mut new) = (before.integration.clone(), offer.integration.clone());
    let secrets = [&mut old, &mut new].map(|one| one.oauth.as_mut()?.client_secret.take());
    let is_same = match (&secrets, &offer.secret) {
        ([Some(ClientSecret::Sealed(sealed)), _], Some(secret)) => {
            holds(app, OfIntegration::ClientSecret, before, sealed, secret).await?
        }
        ([old, new], None) => old == new,
        _ => false,
    };
    if !is_same {
        fields.insert("oauth.client_secret".to_owned());
    }
    let is_same = match (old.address.take(), &offer.address) {
        (Some(sealed), Some(address)) => {
            holds(app, OfIntegration::Address, before, &sealed, address).await?
        }
        (sealed, address) => sealed.is_none() && address.is_none(),
    };
    if !is_same {
        fields.insert("mcp_url".to_owned());
    }
    if old != new {
        let [old, new] = [members(&old)?, members(&new)?];
        let names = old.keys().chain(new.keys());
        let differ = names.filter(|name| old.get(*name) != new.get(*name));
        fields.extend(differ.cloned());
    }
    Ok(fields.into_iter().collect())
}

/// Whether this equals the sealed value.
async fn holds(
    app: &App,
    what: OfIntegration,
    stored: &Stored,
    sealed: &SealedSecret,
    secret: &SecretString,
) -> Result<bool> {
    match open(app, what, &stored.name, &stored.integration, sealed).await {
        Ok(kept) => Ok(kept.expose_secret() == secret.expose_secret()),
        Err(error @ Error::Unavailable(_)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// The members of an integration, those of `oauth` by themselves.
fn members(integration: &Integration) -> Result<Map<String, Value>> {
    let mut all: Map<String, Value> = match serde_json::to_value(integration) {
        Ok(Value::Object(all)) => all,
        _ => return Err(Error::internal("an integration does not encode")),
    };
    if let Some(Value::Object(oauth)) = all.remove("oauth") {
        all.insert("oauth".to_owned(), Value::Bool(true));
        all.extend(
            oauth
                .into_iter()
                .map(|(name, value)| (format!("oauth.{name}"), value)),
        );
    }
    Ok(all)
}
