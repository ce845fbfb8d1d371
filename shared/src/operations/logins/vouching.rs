//! Asking the identity provider whether it still vouches for the subject of a login.

use crate::Result;
use crate::domain::login::{Identity, Login};
use crate::operations::sign_in::{self, Vouched};
use crate::state::app::App;
use secrecy::SecretString;

/// What the provider says.
pub enum Vouching {
    /// Who the person is now. A refresh token takes the place of the one that was sent.
    Vouched {
        /// The person; of another subject than the login's it counts as a refusal.
        identity: Identity,
        /// The provider's next refresh token, if it gave one.
        refresh_token: Option<SecretString>,
    },
    /// That the refresh token is not good, or no longer: nothing vouches for the login any more.
    Refused,
    /// Nothing that could be used; it may later.
    Unanswered,
}

/// Asks the provider, with the refresh token that it gave for this login.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
pub(super) async fn ask(app: &App, login: &Login, token: SecretString) -> Result<Vouching> {
    let vouched = sign_in::vouch(app, &login.tenant, login.subject(), &token).await?;
    Ok(match vouched {
        Vouched::For(now) => Vouching::Vouched {
            identity: now.identity,
            refresh_token: now.refresh_token,
        },
        Vouched::NoMore => Vouching::Refused,
        Vouched::Unknown => Vouching::Unanswered,
    })
}
