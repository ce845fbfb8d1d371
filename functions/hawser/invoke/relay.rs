//! A server's answer on its way to the caller: each piece as it comes. Dropped by either side, it ends at the other.

use super::offer::Filter;
use crate::http::Streamed;
use bytes::Bytes;
use hawser_core::operations::invoke::Watch;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use lambda_http::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The body of a server's answer.
pub struct Relay {
    body: reqwest::Body,
    over: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    filter: Option<Filter>,
}

impl Relay {
    /// The body of an answer; with a watch, it ends when that says so, and with a filter only what that lets through goes on.
    pub fn new(answer: reqwest::Response, watch: Option<Watch>, filter: Option<Filter>) -> Self {
        Self {
            body: answer.into(),
            over: watch.map(|watch| Box::pin(watch.over()) as _),
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
            return Poll::Ready(None);
        }
        loop {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            // What went wrong between the server and us stays there.
            let frame = frame.map(|frame| frame.map_err(|_| "the answer broke off".into()));
            let Some(filter) = &mut self.filter else {
                return Poll::Ready(frame);
            };
            let shown = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) => filter.push(&piece).map_err(|_| "an event is too long")?,
                Some(Ok(Err(_))) => continue,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
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
        match (&self.over, &self.filter) {
            (None, None) => self.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
