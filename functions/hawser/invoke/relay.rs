//! A server's answer on its way to the caller: each piece as it comes, and nothing but pieces. Dropped by either side, it
//! ends at the other.

use crate::http::Streamed;
use bytes::Bytes;
use hawser_core::operations::invoke::Watch;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use lambda_http::Error;
use lambda_http::http::header::CONTENT_TYPE;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of a server's answer.
pub struct Relay {
    body: reqwest::Body,
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    of_events: bool,
}

impl Relay {
    /// The body of an answer, which ends when its watch says so.
    pub fn new(answer: reqwest::Response, watch: Watch) -> Self {
        let of_events = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes().to_ascii_lowercase();
            kind.starts_with(b"text/event-stream")
        });
        Self {
            body: answer.into(),
            over: Some(Box::pin(watch.over())),
            of_events,
        }
    }

    /// As an endpoint's body.
    pub fn boxed(self) -> Streamed {
        self.boxed_unsync()
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let over = self.over.as_mut();
        if over.is_some_and(|over| over.as_mut().poll(context).is_ready()) {
            self.over = None;
            self.body = reqwest::Body::from(Bytes::new());
            // Events may end at any time; half of anything else must not pass for the whole.
            return Poll::Ready((!self.of_events).then(|| Err("the answer was cut off".into())));
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                // Headers after the body would pass by the list of those that may return.
                Some(Ok(frame)) if frame.is_trailers() => {}
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                // What went wrong between the server and us stays there.
                Some(Err(_)) => return Poll::Ready(Some(Err("the answer broke off".into()))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
