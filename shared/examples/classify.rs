//! Says of each address on standard input, one a line, whether egress takes it for public: `1` or `0`. For
//! `tests/ssrf/addresses.py`, which compares these verdicts with another classifier's.

use hawser_core::egress::is_public;
use std::io::{BufWriter, Error, Write, read_to_string, stdin, stdout};

fn main() -> Result<(), Error> {
    let mut out = BufWriter::new(stdout().lock());
    for line in read_to_string(stdin())?.lines() {
        let addr = line.parse().map_err(Error::other)?;
        writeln!(out, "{}", u8::from(is_public(addr)))?;
    }
    out.flush()
}
