//! How tokens are revoked at an authorization server, and how clients authenticate there.

use serde::{Deserialize, Serialize};

/// How an authorization server has tokens revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RevocationMethod {
    /// By RFC 7009.
    #[default]
    Rfc7009,
    /// GitHub: `DELETE /applications/{client_id}/token`. Access tokens only.
    Github,
    /// HubSpot: `DELETE /oauth/v1/refresh-tokens/{token}`. Refresh tokens only.
    Hubspot,
    /// Slack: `auth.revoke`, with the token as the credential.
    Slack,
}

impl RevocationMethod {
    /// The names in operators' settings.
    pub const NAMES: [&str; 4] = ["rfc7009", "github", "hubspot", "slack"];

    /// Reads one of [`Self::NAMES`].
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "rfc7009" => Self::Rfc7009,
            "github" => Self::Github,
            "hubspot" => Self::Hubspot,
            "slack" => Self::Slack,
            _ => return None,
        })
    }

    /// The provider's documented endpoint; `None` for [`Self::Rfc7009`]. [`crate::oauth::revocation`] appends the
    /// client's id or the token where the provider wants it.
    pub const fn endpoint(self) -> Option<&'static str> {
        match self {
            Self::Rfc7009 => None,
            Self::Github => Some("https://api.github.com/applications"),
            Self::Hubspot => Some("https://api.hubapi.com/oauth/v1/refresh-tokens"),
            Self::Slack => Some("https://slack.com/api/auth.revoke"),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde lends the field")]
    pub(crate) fn is_standard(&self) -> bool {
        *self == Self::Rfc7009
    }
}

/// How a client authenticates at an endpoint (RFC 7591 `token_endpoint_auth_method`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// With its id alone.
    #[serde(rename = "none")]
    None,
    /// With HTTP Basic.
    #[serde(rename = "client_secret_basic")]
    Basic,
    /// With HTTP Basic and the id in the form as well. RFC 6749 2.3.1 does not mean that, but some servers require it.
    #[serde(rename = "client_secret_basic_with_id")]
    BasicWithId,
    /// With the secret in the form.
    #[serde(rename = "client_secret_post")]
    Post,
}

impl ClientAuth {
    /// The registered names.
    pub const NAMES: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];

    /// Reads a registered name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "client_secret_basic" => Self::Basic,
            "client_secret_post" => Self::Post,
            _ => return None,
        })
    }

    /// The registered name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic | Self::BasicWithId => "client_secret_basic",
            Self::Post => "client_secret_post",
        }
    }

    /// The methods to try with a client secret at an issuer that lists these, most widely supported first. An issuer
    /// that lists none supports HTTP Basic (RFC 8414 2), and possibly others.
    pub fn ways(listed: Option<&[String]>) -> Vec<Self> {
        let Some(listed) = listed else {
            return vec![Self::Basic, Self::Post, Self::BasicWithId];
        };
        let lists = |method: Self| listed.iter().any(|name| name == method.as_str());
        match (lists(Self::Post), lists(Self::Basic)) {
            (true, true) => vec![Self::Post, Self::Basic, Self::BasicWithId],
            (false, true) => vec![Self::Basic, Self::BasicWithId],
            (_, false) => vec![Self::Post],
        }
    }
}
