//! A server's answer on its way to the caller: each piece as it comes, and nothing but pieces. Dropped by either side, it
//! ends at the other.

use super::offer::Filter;
use crate::http::Streamed;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use lambda_http::Error;
use lambda_http::http::header::CONTENT_TYPE;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Whether an answer is a stream of events.
pub fn is_of_events(answer: &reqwest::Response) -> bool {
    answer.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().to_ascii_lowercase();
        kind.starts_with(b"text/event-stream")
    })
}

/// Resolves when an answer must not go on.
pub type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a server's answer.
pub struct Relay {
    body: reqwest::Body,
    over: Option<Over>,
    of_events: bool,
    filter: Option<Filter>,
}

impl Relay {
    /// The body of an answer, which ends when its watch says so; with a filter only what that lets through goes on.
    pub fn new(answer: reqwest::Response, over: Over, filter: Option<Filter>) -> Self {
        Self {
            of_events: is_of_events(&answer),
            body: answer.into(),
            over: Some(over),
            filter,
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
            let piece = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => Some(piece),
                    // Headers after the body would pass by the list of those that may return.
                    Err(_) => continue,
                },
                // What went wrong between the server and us stays there.
                Some(Err(_)) => return Poll::Ready(Some(Err("the answer broke off".into()))),
                None => None,
            };
            let Some(filter) = &mut self.filter else {
                return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
            };
            let shown = match piece {
                Some(piece) => filter.push(&piece).map_err(|_| "an event is too long")?,
                None => {
                    let rest = filter.finish();
                    self.filter = None;
                    rest
                }
            };
            if !shown.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(shown.into()))));
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.filter {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
