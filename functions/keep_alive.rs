//! Comments on event streams that are silent, so that nothing on the way takes them for dead: a REST API ends a stream after
//! five minutes without a byte, other proxies after one.

use crate::http::Streamed;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use lambda_http::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// A line that clients ignore. Without an empty line after it, since that would end an event which has begun.
const COMMENT: &[u8] = b":\n";

/// An event stream that is never silent for long.
pub struct KeepAlive {
    body: Streamed,
    silence: Duration,
    timer: Pin<Box<Sleep>>,
    /// Where a comment may stand. After a lone carriage return it may not: a line feed may still belong to that.
    at_line_start: bool,
}

impl KeepAlive {
    /// A comment is sent on `body` after so much silence.
    pub fn new(body: Streamed, silence: Duration) -> Self {
        Self {
            body,
            silence,
            timer: Box::pin(sleep(silence)),
            at_line_start: true,
        }
    }

    /// As an endpoint's body.
    pub fn boxed(self) -> Streamed {
        self.boxed_unsync()
    }

    fn restart(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.silence);
    }
}

impl Body for KeepAlive {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let data = match &frame {
                Some(Ok(frame)) => frame.data_ref(),
                _ => None,
            };
            if let Some(last) = data.and_then(|data| data.last()) {
                self.at_line_start = *last == b'\n';
                self.restart();
            }
            return Poll::Ready(frame);
        }
        if self.timer.as_mut().poll(context).is_ready() {
            self.restart();
            // Wakes this task when it is time again.
            let _ = self.timer.as_mut().poll(context);
            if self.at_line_start {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(COMMENT)))));
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// A body that brings these pieces; nothing, where there is none, until it is asked again.
    fn body(pieces: &[Option<&'static str>]) -> Streamed {
        let mut pieces: VecDeque<_> = pieces.iter().copied().collect();
        let stream = stream::poll_fn(move |_| match pieces.pop_front() {
            Some(None) => Poll::Pending,
            Some(Some(piece)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece))))),
            None => Poll::Ready(None),
        });
        StreamBody::new(stream).boxed_unsync()
    }

    #[tokio::test]
    async fn a_comment_stands_where_a_line_may_begin_and_nowhere_else() {
        let silent = [
            None,
            Some("data: 1\n"),
            None,
            Some("data: 2"),
            None,
            Some("\r"),
            None,
            Some("\n\n"),
            None,
        ];
        let mut kept = KeepAlive::new(body(&silent), Duration::from_millis(1));
        let mut seen = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        for _ in &silent {
            // It is time for a comment at every step.
            kept.timer.as_mut().await;
            seen.push(match Pin::new(&mut kept).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => Some(frame.into_data().unwrap()),
                Poll::Ready(end) => panic!("{end:?}"),
                Poll::Pending => None,
            });
        }
        let expected = [
            Some(":\n"),
            Some("data: 1\n"),
            Some(":\n"),
            Some("data: 2"),
            None,
            Some("\r"),
            None,
            Some("\n\n"),
            Some(":\n"),
        ];
        assert_eq!(seen, expected.map(|one| one.map(Bytes::from)));
        let end = Pin::new(&mut kept).poll_frame(&mut context);
        assert!(matches!(end, Poll::Ready(None)));
    }

    #[tokio::test]
    async fn a_stream_that_is_not_silent_is_left_alone() {
        let pieces = [Some("data: 1\n\n"), None, Some("data: 2\n\n")];
        let mut kept = KeepAlive::new(body(&pieces), Duration::from_secs(3600));
        let mut context = Context::from_waker(Waker::noop());
        let mut seen = Vec::new();
        for _ in 0..4 {
            if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut kept).poll_frame(&mut context) {
                seen.extend(frame.into_data().unwrap());
            }
        }
        assert_eq!(String::from_utf8(seen).unwrap(), "data: 1\n\ndata: 2\n\n");
    }
}
