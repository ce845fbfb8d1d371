//! The auth fields of a record in this contract, the rules for combining them (LangSmith 2.1, 2.4), and how the domain
//! stores them.

use super::problem::Problem;
use hawser_core::domain::server::{
    Auth, AuthLevel, GrantType, HeaderSpec, OauthConfig, Place, Secrets, Server,
};
use serde::Serialize;
use uuid::Uuid;

/// `auth_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthType {
    /// Acts like [`Self::Headers`].
    #[default]
    Unset,
    /// Static headers, if there are any.
    Headers,
    /// By [`OauthMode`].
    Oauth,
}

impl AuthType {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Headers => "headers",
            Self::Oauth => "oauth",
        }
    }

    /// Reads the wire name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Unset, Self::Headers, Self::Oauth]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// `oauth_mode`, where it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OauthMode {
    /// Each user registers and connects.
    PerUserDynamicClient,
    /// Kept and shown; we issue no shared providers.
    LegacySharedProvider,
}

impl OauthMode {
    /// The wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerUserDynamicClient => "per_user_dynamic_client",
            Self::LegacySharedProvider => "legacy_shared_provider",
        }
    }

    /// Reads the wire name. The inner `None` is the empty name, for which the default rule decides.
    pub fn parse(text: &str) -> Option<Option<Self>> {
        [
            None,
            Some(Self::PerUserDynamicClient),
            Some(Self::LegacySharedProvider),
        ]
        .into_iter()
        .find(|one| one.map_or("", Self::as_str) == text)
    }
}

/// A static header. Its value is a secret, so there is no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Its name, as sent.
    pub key: String,
    /// Its value, as sent.
    pub value: String,
}

/// The auth fields of a body. An outer `None` is a field that was not sent.
#[derive(Clone, Default)]
pub struct SentAuth {
    /// The headers that replace all others.
    pub headers: Option<Vec<Header>>,
    /// The auth type; [`AuthType::Unset`] if null was sent.
    pub auth_type: Option<AuthType>,
    /// The mode; the inner `None` leaves it to the default rule.
    pub oauth_mode: Option<Option<OauthMode>>,
    /// The provider; the inner `None` clears it.
    pub oauth_provider_id: Option<Option<Uuid>>,
}

/// The auth fields of a record. A new record starts from the default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthFields {
    /// The type, as it is shown.
    pub auth_type: AuthType,
    /// The mode; set if and only if the type is OAuth.
    pub oauth_mode: Option<OauthMode>,
    /// The provider, in the legacy mode only. Providers of users are not part of the record.
    pub oauth_provider_id: Option<Uuid>,
    /// The headers, in the order they were sent.
    pub headers: Vec<Header>,
}

impl AuthFields {
    /// The fields that a stored server shows. Settings of a sibling contract that this contract cannot express are
    /// shown as unset. Headers that each subject fills have no value to show.
    pub fn of(server: &Server, secrets: &Secrets) -> Self {
        let oauth = |mode, provider| Self {
            auth_type: AuthType::Oauth,
            oauth_mode: Some(mode),
            oauth_provider_id: provider,
            headers: Vec::new(),
        };
        let auth_type = if server.langsmith.says_headers {
            AuthType::Headers
        } else {
            AuthType::Unset
        };
        match &server.auth {
            Auth::Oauth(config) if config.grant_type == GrantType::AuthorizationCode => {
                oauth(OauthMode::PerUserDynamicClient, None)
            }
            Auth::LegacyProvider { provider_id } => {
                oauth(OauthMode::LegacySharedProvider, *provider_id)
            }
            Auth::Oauth(_) | Auth::Passthrough => Self::default(),
            Auth::None => Self {
                auth_type,
                ..Self::default()
            },
            Auth::Headers { .. } => Self {
                auth_type,
                headers: shown(server)
                    .filter_map(|spec| {
                        Some(Header {
                            key: spec.name.clone(),
                            value: secrets.get(Place::Header(&spec.name))?.to_owned(),
                        })
                    })
                    .collect(),
                ..Self::default()
            },
        }
    }

    /// These fields, replaced by those that were sent.
    ///
    /// # Errors
    /// [`Problem::ConflictingAuth`].
    pub fn with(self, sent: SentAuth) -> Result<Self, Problem> {
        let auth_type = sent.auth_type.unwrap_or(self.auth_type);
        let headers = sent.headers.unwrap_or(self.headers);
        if auth_type != AuthType::Oauth {
            let sets_oauth =
                sent.oauth_mode.flatten().is_some() || sent.oauth_provider_id.flatten().is_some();
            return if sets_oauth {
                Err(Problem::ConflictingAuth)
            } else {
                Ok(Self {
                    auth_type,
                    headers,
                    ..Self::default()
                })
            };
        }
        if !headers.is_empty() {
            return Err(Problem::ConflictingAuth);
        }
        let provider = sent.oauth_provider_id.unwrap_or(self.oauth_provider_id);
        let mode = sent
            .oauth_mode
            .unwrap_or(self.oauth_mode)
            .unwrap_or(if provider.is_some() {
                OauthMode::LegacySharedProvider
            } else {
                OauthMode::PerUserDynamicClient
            });
        Ok(Self {
            auth_type,
            oauth_mode: Some(mode),
            oauth_provider_id: provider.filter(|_| mode == OauthMode::LegacySharedProvider),
            headers,
        })
    }

    /// Whether `auth_type` is `oauth`.
    pub fn is_oauth(&self) -> bool {
        self.auth_type == AuthType::Oauth
    }

    /// Whether `auth_type` is `headers`.
    pub fn says_headers(&self) -> bool {
        self.auth_type == AuthType::Headers
    }

    /// What the domain stores for these fields.
    pub fn to_auth(&self) -> Auth {
        match self.oauth_mode {
            Some(OauthMode::PerUserDynamicClient) => {
                Auth::Oauth(Box::new(OauthConfig::discovered()))
            }
            Some(OauthMode::LegacySharedProvider) => Auth::LegacyProvider {
                provider_id: self.oauth_provider_id,
            },
            None if self.headers.is_empty() => Auth::None,
            None => Auth::Headers {
                level: AuthLevel::Global,
                headers: self.headers.iter().map(spec).collect(),
            },
        }
    }

    /// The values of the headers.
    pub fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for header in &self.headers {
            secrets.set(Place::Header(&header.key), header.value.as_str());
        }
        secrets
    }

    /// Keeps the hidden API key of a connection beside the headers that were sent. A header of the same name replaces
    /// it; then the connection's key cannot be changed any more.
    fn keep_key(
        &self,
        hidden: HeaderSpec,
        server: &mut Server,
        secrets: &mut Secrets,
        stored: &Secrets,
    ) {
        let replaced = self
            .headers
            .iter()
            .any(|header| header.key.eq_ignore_ascii_case(&hidden.name));
        if replaced || self.is_oauth() {
            server.connection.api_key = None;
            return;
        }
        if let Some(value) = stored.get(Place::Header(&hidden.name)) {
            secrets.set(Place::Header(&hidden.name), value);
        }
        match &mut server.auth {
            Auth::Headers { headers, .. } => headers.push(hidden),
            auth => {
                *auth = Auth::Headers {
                    level: AuthLevel::Global,
                    headers: vec![hidden],
                }
            }
        }
    }

    /// Stores these fields in a server, and returns the server's new secrets. Fields that show the same as before stay
    /// as they are stored, because a sibling contract may have stored more than is shown here.
    pub fn put_into(&self, server: &mut Server, stored: &Secrets) -> Secrets {
        let shown = Self::of(server, stored);
        if self == &shown {
            return stored.clone();
        }
        server.langsmith.says_headers = self.says_headers();
        let stays_headers = matches!(server.auth, Auth::Headers { .. }) && !self.is_oauth();
        if stays_headers && self.headers == shown.headers {
            return stored.clone();
        }
        let hidden = hidden_key(server).cloned();
        if hidden.is_none() {
            // The connection's key was removed before. A header of its name belongs to whoever sends it now.
            server.connection.api_key = None;
        }
        server.auth = self.to_auth();
        let mut secrets = self.secrets();
        if let Some(hidden) = hidden {
            self.keep_key(hidden, server, &mut secrets, stored);
        }
        for name in server.additional_headers.iter().flatten() {
            if let Some(value) = stored.get(Place::AdditionalHeader(name)) {
                secrets.set(Place::AdditionalHeader(name), value);
            }
        }
        secrets
    }
}

/// Whether a server has headers that this contract shows.
pub fn has_headers(server: &Server) -> bool {
    shown(server).next().is_some()
}

/// The headers whose value all callers share, except for the API key of a Kambrium connection, which that contract
/// promises never to return anywhere.
fn shown(server: &Server) -> impl Iterator<Item = &HeaderSpec> {
    let hidden = hidden_key(server);
    let shared = configured(server).filter(|spec| spec.template.is_none());
    shared.filter(move |spec| Some(*spec) != hidden)
}

/// The header that carries the API key of a Kambrium connection.
pub fn hidden_key(server: &Server) -> Option<&HeaderSpec> {
    let key = server.connection.api_key.as_ref()?;
    configured(server)
        .find(|spec| spec.name.eq_ignore_ascii_case(&key.header) && spec.template.is_none())
}

fn configured(server: &Server) -> impl Iterator<Item = &HeaderSpec> {
    match &server.auth {
        Auth::Headers { headers, .. } => headers.as_slice(),
        _ => &[],
    }
    .iter()
}

fn spec(header: &Header) -> HeaderSpec {
    HeaderSpec {
        name: header.key.clone(),
        template: None,
    }
}
