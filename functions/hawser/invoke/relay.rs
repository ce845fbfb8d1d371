//! Streams a server's response to the caller, chunk by chunk. When either side disconnects, the other side ends, too.

use super::tool_filter::Filter;
use crate::http::Streamed;
use bytes::Bytes;
use hawser_core::egress::coding::Decoder;
use hawser_core::sse::{Position, is_event_stream};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use lambda_http::Error;
use lambda_http::http::header::CONTENT_ENCODING;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The maximum size of one decoded chunk of a body.
const DECODED: usize = 8 << 20;

/// Resolves when a response must be cut off, with the events that are its last; none for other bodies.
pub type EndSignal = Pin<Box<dyn Future<Output = Bytes> + Send>>;

/// The body of a server's answer, or a stream of events of our own.
pub struct Relay {
    /// The first events of a stream of our own.
    opening: Option<Bytes>,
    /// The server's body; `None` once it is exhausted.
    body: Option<reqwest::Body>,
    over: Option<EndSignal>,
    /// The state of a stream of events; `None` for other bodies.
    events: Option<Events>,
    decoder: Option<Decoder>,
    filter: Option<Filter>,
    ended: bool,
}

/// A stream of events on its way.
#[derive(Default)]
struct Events {
    position: Position,
    /// Whether it comes in a coding, in which nothing can be said in between.
    encoded: bool,
}

impl Relay {
    /// The body of a response as it arrives; it is cut off when its watch resolves.
    pub fn new(answer: reqwest::Response, over: EndSignal) -> Self {
        let headers = answer.headers();
        let encoded = headers.contains_key(CONTENT_ENCODING);
        let is_stream = is_event_stream(headers);
        Self {
            opening: None,
            events: is_stream.then(|| Events {
                encoded,
                ..Events::default()
            }),
            body: Some(answer.into()),
            over: Some(over),
            decoder: None,
            filter: None,
            ended: false,
        }
    }

    /// A stream of our own: it opens with this and then says nothing until it is over.
    pub fn stream_of_ours(opening: Bytes, over: EndSignal) -> Self {
        Self {
            opening: Some(opening),
            events: Some(Events::default()),
            body: None,
            over: Some(over),
            decoder: None,
            filter: None,
            ended: false,
        }
    }

    /// Decodes the body with this decoder.
    pub fn decoded(mut self, decoder: Option<Decoder>) -> Self {
        if let Some(events) = &mut self.events {
            events.encoded = false;
        }
        Self { decoder, ..self }
    }

    /// Filters the events of the body.
    pub fn filtered(self, filter: Filter) -> Self {
        Self {
            filter: Some(filter),
            ..self
        }
    }

    /// The relay as the body of a response.
    pub fn boxed(self) -> Streamed {
        self.boxed_unsync()
    }

    /// Ends a response that is cut off.
    fn cut_off(&mut self, last: Bytes) -> Option<Result<Bytes, Error>> {
        self.ended = true;
        self.body = None;
        match &self.events {
            // Half of anything else must not pass for the whole.
            None => Some(Err("the answer was cut off".into())),
            Some(events) if events.encoded || !events.position.is_between_events() => None,
            Some(_) => (!last.is_empty()).then_some(Ok(last)),
        }
    }

    /// The next piece of the server's answer, decoded and filtered.
    fn poll_server(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let Some(body) = &mut self.body else {
                return Poll::Pending;
            };
            let piece = match ready!(Pin::new(body).poll_frame(context)) {
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
                return Poll::Ready(piece.map(Ok));
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
                return Poll::Ready(Some(Ok(shown.into())));
            }
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let relay = &mut *self;
        if relay.ended {
            return Poll::Ready(None);
        }
        if let Some(opening) = relay.opening.take() {
            return Poll::Ready(Some(Ok(Frame::data(opening))));
        }
        if let Some(over) = &mut relay.over
            && let Poll::Ready(last) = over.as_mut().poll(context)
        {
            relay.over = None;
            let last = relay.cut_off(last);
            return Poll::Ready(last.map(|last| last.map(Frame::data)));
        }
        let piece = ready!(relay.poll_server(context));
        if let (Some(Ok(piece)), Some(events)) = (&piece, &mut relay.events) {
            events.position.pass(piece);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, &self.events, &self.decoder, &self.filter) {
            (Some(body), None, None, None) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
