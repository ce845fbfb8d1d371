//! The rules for headers that Hawser is asked to send, as far as the contracts share them.

/// Whether `name` is an HTTP token (RFC 9110 5.6.2), ASCII, and not empty.
pub fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
