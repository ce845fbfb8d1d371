//! Applications: whether whoever presents a `client_id` is the application of that id.

use crate::Result;
use crate::state::app::App;
use secrecy::SecretString;

/// Whether an application authenticates as it should. None has a secret, so one that presents one does not.
///
/// # Errors
/// [`crate::Error::Unavailable`], [`crate::Error::Internal`].
#[expect(clippy::unused_async, reason = "some will be looked up")]
pub async fn authenticate(
    _app: &App,
    _client_id: &str,
    presented: Option<&SecretString>,
) -> Result<bool> {
    Ok(presented.is_none())
}
