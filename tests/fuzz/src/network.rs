//! A network in which every request is answered by the next piece of the input.

use futures_util::future::{BoxFuture, ready};
use hawser_core::egress::{Failure, InProcess};
use lambda_http::http;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Answers that are still to be given.
#[derive(Debug)]
pub struct Canned(Mutex<VecDeque<Vec<u8>>>);

impl Canned {
    /// Out of an input: answers are divided by a byte that JSON does not have.
    pub fn new(data: &[u8]) -> Arc<Self> {
        let answers = data.split(|byte| *byte == 0xff).map(<[u8]>::to_vec);
        Arc::new(Self(Mutex::new(answers.collect())))
    }
}

impl InProcess for Canned {
    fn send(&self, _: reqwest::Request) -> BoxFuture<'static, Result<reqwest::Response, Failure>> {
        let next = self.0.lock().unwrap().pop_front();
        Box::pin(ready(next.map_or(Err(Failure::Unreachable), |answer| {
            // The first byte is the status, up to the first line break a header.
            let (status, rest) = answer.split_first().unwrap_or((&0, &[]));
            let status = [200, 401, 404, 400, 500, 302, 204, 201][usize::from(*status) % 8];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (header, body) =
                end.map_or((&[][..], rest), |end| (&rest[..end], &rest[end + 1..]));
            let mut response = http::Response::builder()
                .status(status)
                .header("content-type", "application/json");
            if let Ok(value) = http::HeaderValue::from_bytes(header) {
                response = response.header(
                    if status == 302 {
                        "location"
                    } else {
                        "www-authenticate"
                    },
                    value,
                );
            }
            let response = response
                .body(body.to_vec())
                .map_err(|_| Failure::Unreachable)?;
            Ok(response.into())
        })))
    }
}
