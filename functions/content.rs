//! The body of a request as its endpoint reads it: without the content coding that it was sent in, and without a byte order mark.
//! In one place for every endpoint, so that all contracts take the same.

use crate::hawser::unrouted::{Unrouted, unsupported_coding};
use crate::http::{self, Request};
use flate2::read::MultiGzDecoder;
use lambda_http::Body;
use lambda_http::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use std::io::Read;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Undoes the coding. What comes out is cut off behind `limit`, the most that the endpoint takes: it then sees a body that is too
/// large, whatever would still come. What is said to be gzip and is not stays as it is, and the endpoint sees no JSON.
///
/// # Errors
/// 415 where the coding is another one than gzip.
pub fn decode(request: &mut Request, limit: usize) -> Result<(), Unrouted> {
    let Some(coding) = http::header(request, CONTENT_ENCODING.as_str()) else {
        return Ok(());
    };
    if http::body(request).is_empty() {
        return Ok(());
    }
    match coding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => return Ok(()),
        "gzip" | "x-gzip" => {}
        _ => return Err(unsupported_coding(request.uri().path())),
    }
    let mut decoded = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = MultiGzDecoder::new(http::body(request)).take(most);
    if reader.read_to_end(&mut decoded).is_ok() {
        *request.body_mut() = match String::from_utf8(decoded) {
            Ok(text) => Body::Text(text),
            Err(bytes) => Body::Binary(bytes.into_bytes()),
        };
        request.headers_mut().remove(CONTENT_ENCODING);
        request.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(())
}

/// Takes a byte order mark away, as RFC 8259 8.1 allows.
pub fn unmark(request: &mut Request) {
    if let Some(rest) = http::body(request).strip_prefix(BYTE_ORDER_MARK) {
        *request.body_mut() = Body::Binary(rest.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn no_more_comes_out_than_shows_that_it_is_too_large() {
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        coder.write_all(&[b' '; 4096]).unwrap();
        let bomb = coder.finish().unwrap();
        for (limit, length) in [(0, 1), (100, 101), (4095, 4096), (4096, 4096)] {
            let mut request = Request::new(Body::Binary(bomb.clone()));
            let coding = "gzip".parse().unwrap();
            request.headers_mut().insert(CONTENT_ENCODING, coding);
            decode(&mut request, limit).unwrap();
            assert_eq!(http::body(&request).len(), length, "{limit}");
            assert!(request.headers().is_empty());
        }
    }
}
