//! Content codings (RFC 9110 8.4.1) of answers. Requests ask for none, but some servers and proxies compress
//! regardless.

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use std::fmt;
use std::io::{Error, Write};

/// The most codings that are decoded; one is usual.
const CODINGS: usize = 3;
/// The largest window of a zstd frame, as a power of two: 8 MiB, the most that a decoder must support (RFC 9659).
const ZSTD_WINDOW: u32 = 23;
/// The first seven bits of a Brotli stream with a "large window" of up to 1 GiB. No standard stream begins so (RFC 7932
/// 9.1), but the decoder accepts them and would hold the whole window in memory.
const BROTLI_LARGE_WINDOW: u8 = 0x11;
/// The buffer of the Brotli decoder, in bytes.
const BUFFER: usize = 4096;

/// Decodes a body piece by piece, and returns what is complete at once.
pub struct Decoder(Vec<Stage>);

/// An answer that cannot be decoded: the coding is unknown, the bytes are not of that coding, or the result is too
/// long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecodable;

enum Stage {
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// `deflate`, until the first byte shows whether it has the zlib header of the standard. Some servers send none.
    Deflate(Sink),
    Zlib(Box<ZlibDecoder<Sink>>),
    RawDeflate(Box<DeflateDecoder<Sink>>),
    /// `br`, until the first byte has shown that the window is a standard one.
    AnyBrotli(Sink),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
}

/// Holds decoded bytes up to a limit: a few bytes can decode to gigabytes.
#[derive(Default)]
struct Sink {
    decoded: Vec<u8>,
    limit: usize,
}

impl Write for Sink {
    fn write(&mut self, piece: &[u8]) -> Result<usize, Error> {
        if piece.len() > self.limit - self.decoded.len().min(self.limit) {
            return Err(Error::other("more than may come out"));
        }
        self.decoded.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decoder").field(&self.0.len()).finish()
    }
}

impl Decoder {
    /// The decoder for the codings that these headers name; `None` if there are none.
    ///
    /// # Errors
    /// [`Undecodable`] for an unknown coding, or for too many codings.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, Undecodable> {
        let mut stages = Vec::new();
        for line in headers.get_all(CONTENT_ENCODING) {
            let line = line.to_str().map_err(|_| Undecodable)?;
            for coding in line.split(',').map(|one| one.trim().to_ascii_lowercase()) {
                if !matches!(coding.as_str(), "" | "identity") {
                    stages.push(Stage::of(&coding)?);
                }
            }
        }
        // The header names codings in the order in which they were applied.
        stages.reverse();
        match stages.len() {
            0 => Ok(None),
            1..=CODINGS => Ok(Some(Self(stages))),
            _ => Err(Undecodable),
        }
    }

    /// Decodes `piece`, to at most `limit` bytes.
    ///
    /// # Errors
    /// [`Undecodable`]; the rest of the body is lost then.
    pub fn push(&mut self, piece: Bytes, limit: usize) -> Result<Bytes, Undecodable> {
        let mut decoded = piece;
        for stage in &mut self.0 {
            decoded = stage
                .push(&decoded, limit)
                .map(Bytes::from)
                .map_err(|_| Undecodable)?;
        }
        Ok(decoded)
    }
}

impl Stage {
    fn of(coding: &str) -> Result<Self, Undecodable> {
        let sink = Sink::default();
        Ok(match coding {
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(sink))),
            "deflate" => Self::Deflate(sink),
            "br" => Self::AnyBrotli(sink),
            "zstd" => {
                let decoder = zstd::stream::write::Decoder::new(sink);
                let mut decoder = decoder.map_err(|_| Undecodable)?;
                let limited = decoder.window_log_max(ZSTD_WINDOW);
                limited.map_err(|_| Undecodable)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => return Err(Undecodable),
        })
    }

    fn push(&mut self, piece: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        // The lower half of the zlib header's first byte names the method. No useful deflate block begins with these
        // bits.
        if let (Self::Deflate(sink), Some(first)) = (&mut *self, piece.first()) {
            let sink = std::mem::take(sink);
            *self = match first & 0x0f {
                8 => Self::Zlib(Box::new(ZlibDecoder::new(sink))),
                _ => Self::RawDeflate(Box::new(DeflateDecoder::new(sink))),
            };
        }
        if let (Self::AnyBrotli(sink), Some(first)) = (&mut *self, piece.first()) {
            if first & 0x7f == BROTLI_LARGE_WINDOW {
                return Err(Error::other(
                    "the window is larger than the standard has it",
                ));
            }
            let sink = std::mem::take(sink);
            let decoder = brotli_decompressor::DecompressorWriter::new(sink, BUFFER);
            *self = Self::Brotli(Box::new(decoder));
        }
        self.sink().limit = limit;
        let mut rest = piece;
        while !rest.is_empty() {
            match self.writer().write(rest)? {
                // The coded body has ended; bytes after it are ignored.
                0 => break,
                count => rest = rest.get(count..).unwrap_or_default(),
            }
        }
        self.writer().flush()?;
        Ok(std::mem::take(&mut self.sink().decoded))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Gzip(decoder) => decoder,
            Self::Deflate(sink) | Self::AnyBrotli(sink) => sink,
            Self::Zlib(decoder) => decoder,
            Self::RawDeflate(decoder) => decoder,
            Self::Brotli(decoder) => decoder,
            Self::Zstd(decoder) => decoder,
        }
    }

    fn sink(&mut self) -> &mut Sink {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Deflate(sink) | Self::AnyBrotli(sink) => sink,
            Self::Zlib(decoder) => decoder.get_mut(),
            Self::RawDeflate(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn a_brotli_window_beyond_the_standard_is_refused_before_it_is_held() {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("br"))]);
        for first in [0x11, 0x91] {
            let mut decoder = Decoder::of(&headers).unwrap().unwrap();
            let window_of_1_gib = Bytes::from(vec![first, 0x1e]);
            assert_eq!(decoder.push(window_of_1_gib, 1 << 20), Err(Undecodable));
        }
        // An empty body with the largest window of the standard.
        let mut decoder = Decoder::of(&headers).unwrap().unwrap();
        let empty = decoder.push(Bytes::from_static(&[0x3f]), 1 << 20);
        assert_eq!(empty, Ok(Bytes::new()));
    }
}
