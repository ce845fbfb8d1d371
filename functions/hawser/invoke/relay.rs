//! Streams a server's response to the caller, chunk by chunk. When either side disconnects, the other side ends, too.

use super::tool_filter::Filter;
use crate::http::Streamed;
use bytes::Bytes;
use hawser_core::egress::coding::Decoder;
use hawser_core::sse::is_event_stream;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use lambda_http::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The maximum size of one decoded chunk of a body.
const DECODED: usize = 8 << 20;

/// Resolves when a response must be cut off.
pub type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a server's answer.
pub struct Relay {
    body: reqwest::Body,
    over: Option<Over>,
    of_events: bool,
    decoder: Option<Decoder>,
    filter: Option<Filter>,
}

impl Relay {
    /// The body of a response as it arrives; it is cut off when its watch resolves.
    pub fn new(answer: reqwest::Response, over: Over) -> Self {
        Self {
            of_events: is_event_stream(answer.headers()),
            body: answer.into(),
            over: Some(over),
            decoder: None,
            filter: None,
        }
    }

    /// The same, decoded.
    pub fn decoded(self, decoder: Option<Decoder>) -> Self {
        Self { decoder, ..self }
    }

    /// The same, filtered.
    pub fn filtered(self, filter: Filter) -> Self {
        Self {
            filter: Some(filter),
            ..self
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
                    Ok(piece) => Some(match &mut self.decoder {
                        Some(decoder) => decoder
                            .push(piece, DECODED)
                            .map_err(|_| "the answer cannot be decoded")?,
                        None => piece,
                    }),
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
        match (&self.decoder, &self.filter) {
            (None, None) => self.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
