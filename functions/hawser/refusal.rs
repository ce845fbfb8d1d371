//! Error pages of the sign-in, for errors that cannot be sent to an application (Inbound 2.3).

use crate::http::{Code, Response};
use crate::page::page;
use hawser_core::Error;
use hawser_core::operations::applications::NoApplication;
use hawser_core::operations::sign_in::SignInFailure;
use lambda_http::Body;
use tracing::{error, warn};

/// Why a request ends with an error page.
#[derive(Debug)]
pub enum Refusal {
    /// This deployment has no sign-in.
    NotOffered,
    /// The application is unknown.
    UnknownApplication,
    /// The document of the application cannot be fetched.
    ApplicationUnreachable,
    /// The document of the application is invalid, for this reason.
    ApplicationUnusable(&'static str),
    /// The redirect URI is none of the application's.
    ForeignRedirect,
    /// The person has been offboarded since they signed in.
    Offboarded,
    /// The sign-in failed.
    SignIn(SignInFailure),
}

impl From<SignInFailure> for Refusal {
    fn from(failure: SignInFailure) -> Self {
        Self::SignIn(failure)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::SignIn(SignInFailure::Failed(error))
    }
}

impl From<NoApplication> for Refusal {
    fn from(why: NoApplication) -> Self {
        match why {
            NoApplication::Unknown => Self::UnknownApplication,
            NoApplication::Unreachable => Self::ApplicationUnreachable,
            NoApplication::Unusable(why) => Self::ApplicationUnusable(why),
            NoApplication::Failed(error) => error.into(),
        }
    }
}

impl From<Refusal> for Response<Body> {
    fn from(refusal: Refusal) -> Self {
        use SignInFailure::{
            Declined, Failed, Foreign, NoTenant, NotOffered, Refused, Unreachable, Untrusted,
        };
        const AGAIN: &str = "Start again from the application.";
        let (status, code, sentence) = match &refusal {
            Refusal::NotOffered | Refusal::SignIn(NotOffered) => {
                (404, "no_sign_in", "Nobody signs in here. Ask whoever runs this service.".to_owned())
            }
            Refusal::UnknownApplication => (
                400,
                "unknown_application",
                "The application that sent you is not known here. Let it forget this service, and add it again.".to_owned(),
            ),
            Refusal::ApplicationUnreachable => (
                503,
                "application_unreachable",
                "What the application says of itself cannot be read at the moment. Try again later.".to_owned(),
            ),
            Refusal::ApplicationUnusable(why) => (
                400,
                "application_unusable",
                format!("What the application says of itself cannot be used: {why}."),
            ),
            Refusal::ForeignRedirect => (
                400,
                "foreign_redirect",
                "The application that sent you wants the answer somewhere that does not belong to it. Go no further.".to_owned(),
            ),
            Refusal::Offboarded => (
                403,
                "offboarded",
                format!("Your access was removed meanwhile. {AGAIN}"),
            ),
            Refusal::SignIn(Foreign) => (
                400,
                "foreign",
                format!("This belongs to no sign-in that was begun in this browser within ten minutes. Allow cookies. {AGAIN}"),
            ),
            Refusal::SignIn(Declined) => (
                403,
                "declined",
                format!("The sign-in was declined. {AGAIN}"),
            ),
            Refusal::SignIn(Refused(word)) => {
                warn!(word, "a sign-in failed at the identity provider");
                (
                    502,
                    "provider_refused",
                    format!("The identity provider did not let you sign in. {AGAIN}"),
                )
            }
            Refusal::SignIn(Unreachable) => (
                503,
                "provider_unreachable",
                "The identity provider does not answer at the moment. Try again later.".to_owned(),
            ),
            Refusal::SignIn(Untrusted(why)) => {
                warn!(why, "the answer of the identity provider was not accepted");
                (
                    502,
                    "provider_untrusted",
                    "The answer of the identity provider was not accepted. Whoever runs this service can find out more.".to_owned(),
                )
            }
            Refusal::SignIn(NoTenant) => (
                403,
                "no_tenant",
                "You have signed in, but you belong to no tenant of this service. Ask whoever runs it.".to_owned(),
            ),
            Refusal::SignIn(Failed(cause)) => {
                error!(%cause, "the request failed");
                match cause {
                    Error::Unavailable(_) => {
                        (503, "unavailable", format!("Something is not available at the moment. {AGAIN}"))
                    }
                    _ => (500, "internal_error", format!("Something went wrong. {AGAIN}")),
                }
            }
        };
        let shown = page(status, "Not signed in", &sentence, None, None);
        let mut response = shown.unwrap_or_else(|_| crate::http::empty(500));
        response.extensions_mut().insert(Code(code));
        response
    }
}
