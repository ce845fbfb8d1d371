//! The manifest of an MCP server: read with all its rules (TrueFoundry 5), and shown with its secrets redacted
//! (TrueFoundry 10). `<REDACTED>` sent where a secret belongs keeps the stored one, under the conditions of
//! [`Manifest::resolve`].

mod parse;
mod present;
mod rules;

pub use parse::{Manifest, read_identity, secret_value};
pub use present::Registration;
pub use rules::{header_value_rule, https_url_rule};

use super::problem::{Fault, Problem};
use super::secret_reference::{Resolved, Sent};
use hawser_core::App;
use hawser_core::domain::address;
use hawser_core::domain::address::origin;
use hawser_core::domain::caller::Caller;
use hawser_core::domain::endpoint_method::RevocationMethod;
use hawser_core::domain::json::{Exact, Members};
use hawser_core::domain::server::{Auth, Place, Secrets, Server};
use secrecy::ExposeSecret;
use serde_json::value::RawValue;
use std::collections::BTreeSet;

pub use hawser_core::domain::address::REDACTED;

/// A secret place of a manifest, with what was sent there.
#[derive(Debug)]
pub struct SecretInput {
    place: OwnedPlace,
    path: String,
    value: Sent,
}

#[derive(Debug)]
enum OwnedPlace {
    Header(String),
    AdditionalHeader(String),
    ClientSecret,
    TokenParam(String),
}

impl OwnedPlace {
    fn borrow(&self) -> Place<'_> {
        match self {
            Self::Header(name) => Place::Header(name),
            Self::AdditionalHeader(name) => Place::AdditionalHeader(name),
            Self::ClientSecret => Place::ClientSecret,
            Self::TokenParam(name) => Place::TokenParam(name),
        }
    }
}

impl Manifest {
    /// The secrets that the manifest refers to.
    ///
    /// # Errors
    /// As [`Resolved::read`].
    pub async fn follow_references(&self, app: &App, caller: &Caller) -> Result<Resolved, Problem> {
        let sent = self.secrets.iter();
        Resolved::read(app, caller, sent.map(|one| (one.path.as_str(), &one.value))).await
    }

    /// The secret values: those that were sent or referred to, and for each redacted one what is stored at the same place of the same
    /// kind of authentication, as long as it still goes to the same origin. Otherwise an edit could send a secret, that
    /// its author cannot read, to another host.
    ///
    /// # Errors
    /// [`Problem::RedactedValueUnknown`].
    pub fn resolve(
        &self,
        referred: &Resolved,
        stored: Option<(&Server, &Secrets)>,
    ) -> Result<Secrets, Problem> {
        let mut secrets = Secrets::default();
        let mut unknown = Vec::new();
        for input in &self.secrets {
            let place = input.place.borrow();
            let kept = || {
                stored
                    .filter(|(server, _)| self.keeps(server, place))
                    .and_then(|(_, old)| old.get(place))
            };
            let sent = referred.value(&input.path, &input.value);
            match sent.map(ExposeSecret::expose_secret).or_else(kept) {
                Some(value) => secrets.set(place, value),
                None => unknown.push(Fault {
                    path: input.path.clone(),
                    message: "no stored secret can stand in for it",
                }),
            }
        }
        if unknown.is_empty() {
            Ok(secrets)
        } else {
            Err(Problem::RedactedValueUnknown(unknown))
        }
    }

    /// The same with its tags, which are taken from the text of the request: a parser of 64-bit numbers changes longer ones.
    pub fn with_tags(self, body: &[u8]) -> Self {
        let members = |json: &RawValue| serde_json::from_str::<Members>(json.get()).ok();
        let body: Option<Members> = serde_json::from_slice(body).ok();
        let manifest = body.and_then(|body| members(body.last("manifest")?));
        let tags = manifest.as_ref().and_then(|manifest| manifest.last("tags"));
        let tags = tags.filter(|tags| tags.get().starts_with('{'));
        Self {
            tags: tags.map(Exact::of),
            ..self
        }
    }

    /// The address, with what is stored in the place of its redacted values.
    ///
    /// # Errors
    /// [`Problem::RedactedValueUnknown`].
    pub fn address(&self, stored: Option<(&Server, &Secrets)>) -> Result<String, Problem> {
        let stored = stored.map(|(server, secrets)| secrets.address(server));
        address::restored(&self.url, stored).map_err(|_| {
            Problem::RedactedValueUnknown(vec![Fault {
                path: "manifest.url".to_owned(),
                message: "no stored secret can stand in for it",
            }])
        })
    }

    /// Whether any secret was sent in the clear.
    pub fn sends_secrets(&self) -> bool {
        address::has_values(&self.url) || self.secrets.iter().any(|input| !input.value.is_kept())
    }

    fn keeps(&self, server: &Server, place: Place<'_>) -> bool {
        let same_kind = std::mem::discriminant(&server.auth) == std::mem::discriminant(&self.auth);
        // The client's secret goes to the revocation endpoint too. A named issuer may name one, and so may whoever publishes
        // metadata at the authorization endpoint's origin.
        let destinations = |url: &str, auth: &Auth| match (place, auth) {
            (Place::ClientSecret | Place::TokenParam(_), Auth::Oauth(oauth)) => {
                let issuer = oauth.issuer.as_deref();
                let token = oauth.token_url.as_deref().or(issuer).unwrap_or(url);
                let method = oauth.revocation.map(|revocation| revocation.method);
                let documented = method.and_then(RevocationMethod::endpoint);
                let revocation = oauth.revocation_url.as_deref().or(documented);
                let authorization = oauth.authorization_url.as_deref();
                [Some(token), authorization, issuer, revocation]
                    .into_iter()
                    .flatten()
                    .map(origin)
                    .collect()
            }
            _ => BTreeSet::from([origin(url)]),
        };
        let no_new_destination =
            destinations(&self.url, &self.auth).is_subset(&destinations(&server.url, &server.auth));
        no_new_destination && (same_kind || matches!(place, Place::AdditionalHeader(_)))
    }

    /// `before` with this manifest in place of its own, at this address. Moved to another origin it no longer is a connection whose owner can
    /// change the key: that owner sees no address, and would send the next key there unawares.
    pub fn applied_to(&self, before: &Server, address: String) -> Server {
        let mut connection = before.connection.clone();
        if origin(&before.url) != origin(&self.url) {
            connection.api_key = None;
        }
        Server {
            connection,
            url: address,
            description: Some(self.description.clone()),
            auth: self.auth.clone(),
            additional_headers: self.additional_headers.clone(),
            manifest: self.rest.clone(),
            tags: self.tags.clone(),
            ..before.clone()
        }
    }
}
