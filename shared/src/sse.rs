//! Event streams (HTML 9.2), split into events without changing a byte.

use reqwest::header::{CONTENT_TYPE, HeaderMap};

/// The byte order mark, which the first line may begin with.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Splits a stream into events of limited length.
#[derive(Debug)]
pub struct Events {
    /// The bytes of the next event so far.
    pending: Vec<u8>,
    /// Where the last line of those bytes begins.
    line: usize,
    /// Whether the last byte was a carriage return. A line feed after it belongs to the same end of line.
    after_return: bool,
    limit: usize,
}

/// An event with its fields and ends of lines, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event(Vec<u8>);

/// An event is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl Events {
    /// A splitter for events of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            pending: Vec::new(),
            line: 0,
            after_return: false,
            limit,
        }
    }

    /// Takes a piece of the stream, and returns the events that end in it.
    ///
    /// # Errors
    /// [`TooLong`]; the rest of the stream is lost then.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut complete = Vec::new();
        let mut bytes = piece.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let begins = self.pending.len();
            self.pending.push(byte);
            match byte {
                // The line feed of an end of line whose carriage return was in the piece before.
                b'\n' if std::mem::take(&mut self.after_return) => self.line = self.pending.len(),
                b'\n' | b'\r' => {
                    let is_blank = self.line == begins;
                    let second = bytes.next_if(|next| (byte, *next) == (b'\r', b'\n'));
                    self.pending.extend(second);
                    self.after_return = byte == b'\r' && second.is_none();
                    self.line = self.pending.len();
                    if is_blank {
                        complete.extend(self.take());
                    }
                }
                _ => self.after_return = false,
            }
            if self.pending.len() > self.limit {
                return Err(TooLong);
            }
        }
        Ok(complete)
    }

    /// The bytes of an event that the stream did not end. By the standard they are no event, but some clients take them
    /// for one.
    pub fn take(&mut self) -> Option<Event> {
        self.line = 0;
        Some(std::mem::take(&mut self.pending))
            .filter(|bytes| !bytes.is_empty())
            .map(Event)
    }
}

impl Event {
    /// The bytes of the event, as it was sent.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Whether the event has this type.
    pub fn is_of(&self, kind: &str) -> bool {
        let mut lines = self.lines();
        lines.any(|line| field_of(line, b"event") == Some(kind.as_bytes()))
    }

    /// The event's data; `None` if it has no `data` field.
    pub fn data(&self) -> Option<String> {
        let lines: Vec<_> = self.lines().filter_map(data_of).collect();
        let bytes = lines.join(&b'\n');
        (!lines.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same event with a line feed at the end of each line that ends in a carriage return alone. Some parsers know
    /// only line feeds, and would join such lines to one field.
    pub fn with_line_feeds(mut self) -> Self {
        for at in 0..self.0.len() {
            if self.0[at] == b'\r' && self.0.get(at + 1) != Some(&b'\n') {
                self.0[at] = b'\n';
            }
        }
        self
    }

    /// The same event with other data, which must not contain an end of line.
    pub fn with_data(&self, data: &str) -> Self {
        let mut bytes = Vec::new();
        for line in self.lines().filter(|line| data_of(line).is_none()) {
            // A line that begins with a byte order mark is no field, but would become one as the first line of an
            // event.
            if !line.is_empty() && !line.starts_with(BOM) {
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
            }
        }
        bytes.extend_from_slice(format!("data: {data}\n\n").as_bytes());
        Self(bytes)
    }

    /// The lines without their ends. A carriage return before a line feed leaves an empty line, which means nothing.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.0.strip_prefix(BOM).unwrap_or(&self.0);
        bytes.split(|byte| matches!(byte, b'\n' | b'\r'))
    }
}

/// Where a stream that is being passed on stands, so that Hawser can add an event of its own between those of the
/// server.
#[derive(Debug, Default)]
pub struct Position {
    /// The last bytes that were passed on.
    tail: Vec<u8>,
}

impl Position {
    /// The most bytes that the end of an event has.
    const TAIL: usize = 4;

    /// Records a piece of the stream that was passed on.
    pub fn pass(&mut self, piece: &[u8]) {
        self.tail
            .extend_from_slice(&piece[piece.len().saturating_sub(Self::TAIL)..]);
        self.tail
            .drain(..self.tail.len().saturating_sub(Self::TAIL));
    }

    /// Whether an event may be added here.
    pub fn is_between_events(&self) -> bool {
        let ends: [&[u8]; 2] = [b"\n\n", b"\n\r\n"];
        self.tail.is_empty() || ends.iter().any(|end| self.tail.ends_with(end))
    }
}

/// An event of the default type with this message as its data.
pub fn event_of(message: &serde_json::Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// Whether an answer is a stream of events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes().to_ascii_lowercase();
        kind.starts_with(b"text/event-stream")
    })
}

/// The value of a line that is a `data` field; `None` for any other line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    field_of(line, b"data")
}

/// The value of a line that is the field `name`; `None` for any other line.
fn field_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_event_of_our_own_breaks_none() {
        for (passed, between) in [
            (vec![], true),
            (vec!["data: 1\n\n"], true),
            (vec!["data: 1\r\n\r\n"], true),
            (vec!["data: 1\n", "\n"], true),
            (vec!["data: 1\n\n", ""], true),
            (vec!["id: 1\n"], false),
            (vec!["id: 1\r\n"], false),
            (vec!["id: 1\r\r"], false),
            (vec!["data: 1\n\n", "d"], false),
        ] {
            let mut position = Position::default();
            passed
                .iter()
                .for_each(|piece| position.pass(piece.as_bytes()));
            assert_eq!(position.is_between_events(), between, "{passed:?}");
        }
    }

    fn split(pieces: &[&str]) -> Vec<String> {
        let mut events = Events::new(1000);
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(events.push(piece.as_bytes()).unwrap());
        }
        all.extend(events.take());
        let text = |event: Event| String::from_utf8(event.into_bytes()).unwrap();
        all.into_iter().map(text).collect()
    }

    fn data(text: &str) -> Option<String> {
        Event(text.as_bytes().to_vec()).data()
    }

    #[test]
    fn an_event_ends_with_a_blank_line_however_lines_end() {
        for end in ["\n", "\r", "\r\n"] {
            let one = format!("id: 1{end}data: a{end}{end}");
            let two = format!(": comment{end}data: b{end}{end}");
            let events = split(&[&one, &two]);
            assert_eq!(events.concat(), format!("{one}{two}"));
            let found: Vec<_> = events.iter().filter_map(|one| data(one)).collect();
            assert_eq!(found, ["a", "b"], "{end:?}");
        }
        assert_eq!(
            split(&["data: a\r", "\n\r", "\ndata: b"]).concat(),
            "data: a\r\n\r\ndata: b"
        );
    }

    #[test]
    fn an_event_is_there_as_soon_as_its_blank_line_is() {
        let mut events = Events::new(1000);
        assert_eq!(events.push(b"data: a\n").unwrap(), []);
        assert_eq!(events.push(b"\n").unwrap().len(), 1);
        assert_eq!(events.push(b"data: b\r\r").unwrap().len(), 1);
        assert_eq!(events.push(b"data: c\r\n\r").unwrap().len(), 1);
        assert_eq!(events.push(b"\ndata: d\n\n").unwrap().len(), 1);
    }

    #[test]
    fn data_is_what_the_standard_says() {
        assert_eq!(
            data("data: a\ndata:b\ndata\nid: 1\n\n").as_deref(),
            Some("a\nb\n")
        );
        assert_eq!(data("data:  a\n\n").as_deref(), Some(" a"));
        assert_eq!(data("\u{feff}data: a\n\n").as_deref(), Some("a"));
        assert_eq!(data("id: 1\ndatabase: a\nevent: x\n\n"), None);
    }

    #[test]
    fn other_data_makes_no_field_of_what_was_none() {
        let event = Event("data: a\n\u{feff}data: b\n\n".as_bytes().to_vec());
        assert_eq!(event.data().as_deref(), Some("a"));
        assert_eq!(event.with_data("x").data().as_deref(), Some("x"));
    }

    #[test]
    fn a_carriage_return_alone_becomes_a_line_feed() {
        let event = Event(b"id: 1\r\ndata:\r{\r\n\r".to_vec());
        assert_eq!(
            event.with_line_feeds().into_bytes(),
            b"id: 1\r\ndata:\n{\r\n\n"
        );
    }

    #[test]
    fn other_data_leaves_the_other_fields() {
        let event =
            Event(b"id: 7\r\nevent: message\r\ndata: a\r\ndata: b\r\nretry: 5\r\n\r\n".to_vec());
        assert_eq!(
            event.with_data("{}").into_bytes(),
            b"id: 7\nevent: message\nretry: 5\ndata: {}\n\n"
        );
    }

    #[test]
    fn a_long_event_is_refused() {
        let mut events = Events::new(8);
        assert_eq!(events.push(b"12345678"), Ok(vec![]));
        assert_eq!(events.push(b"9"), Err(TooLong));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_changed_wherever_it_is_cut(text in "[ab:\n\r ]{0,40}", at in 0usize..40) {
            let at = at.min(text.len());
            let (one, two) = text.split_at(at);
            prop_assert_eq!(split(&[one, two]).concat(), text.clone());
            let cut: Vec<_> = split(&[one, two]).iter().filter_map(|one| data(one)).collect();
            let whole: Vec<_> = split(&[&text]).iter().filter_map(|one| data(one)).collect();
            prop_assert_eq!(cut, whole);
        }
    }
}
