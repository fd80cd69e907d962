//! Watches the bytes of an HTTP/1 connection for what hyper hides.
//!
//! # Why
//! A request with both `Content-Length` and `Transfer-Encoding` is a smuggling attempt or a broken proxy. hyper
//! 1.12 (`proto/h1/role.rs`) lets the transfer encoding win, removes the length from the headers before a
//! service sees them, and only closes the connection afterwards. We answer 400 as RFC 9112, 6.1 allows. So the
//! scanner reads the same bytes as hyper, follows the framing (heads, sized bodies, chunked bodies) and says
//! which head was ambiguous. It decides nothing else: hyper still parses, and refuses what it refuses.
//!
//! # Agreement with hyper
//! Were the scanner to lose step with hyper, it could only miss or wrongly refuse a request of the same client
//! on the same connection. A head that it cannot frame counts as ambiguous, so there is no way around it.

/// Bytes of a line that are looked at: the names, and numbers of 20 digits with much white space.
const LINE_BYTES_KEPT: usize = 128;

/// Where a connection stands between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing of the next head has come.
    Idle,
    /// A head has begun.
    Head,
    /// A body is coming, or the rest is of no interest.
    Body,
}

/// Follows the requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
    line: Vec<u8>,
    line_cut: bool,
    head: HeadFacts,
    heads: u64,
    ambiguous_head: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    RequestLine,
    Header,
    Sized(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    Stopped,
}

#[derive(Debug, Default)]
struct HeadFacts {
    content_length: Option<u64>,
    transfer_encoding: bool,
    unframed: bool,
}

impl Scanner {
    /// How many heads have been complete.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// The number of the head, from 1, after which the scanner stopped because its framing is ambiguous.
    pub(super) fn ambiguous_head(&self) -> Option<u64> {
        self.ambiguous_head
    }

    /// Where the connection stands.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::RequestLine if self.line.is_empty() => Phase::Idle,
            State::RequestLine | State::Header => Phase::Head,
            State::Sized(_)
            | State::ChunkSize
            | State::ChunkData(_)
            | State::ChunkEnd
            | State::Trailer
            | State::Stopped => Phase::Body,
        }
    }

    /// Follows the next bytes of the connection.
    pub(super) fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Stopped => return,
                State::Sized(left) | State::ChunkData(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.state = match self.state {
                            State::ChunkData(_) => State::ChunkEnd,
                            _ => State::RequestLine,
                        };
                    }
                }
                _ => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    self.keep(&bytes[..end.unwrap_or(bytes.len())]);
                    let Some(end) = end else {
                        return;
                    };
                    bytes = &bytes[end + 1..];
                    self.end_line();
                }
            }
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE_BYTES_KEPT - self.line.len();
        self.line_cut |= part.len() > room;
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self) {
        if self.line.last() == Some(&b'\r') && !self.line_cut {
            self.line.pop();
        }
        let empty = self.line.is_empty();
        match self.state {
            State::RequestLine if empty => {}
            State::RequestLine => {
                self.head = HeadFacts::default();
                self.state = State::Header;
            }
            State::Header if empty => self.end_head(),
            State::Header => self.head.read_header(&self.line, self.line_cut),
            State::ChunkSize => self.state = self.end_chunk_size(),
            State::ChunkEnd => self.state = State::ChunkSize,
            State::Trailer if empty => self.state = State::RequestLine,
            State::Trailer | State::Sized(_) | State::ChunkData(_) | State::Stopped => {}
        }
        self.line.clear();
        self.line_cut = false;
    }

    fn end_head(&mut self) {
        self.heads += 1;
        let head = &self.head;
        if head.unframed || head.transfer_encoding && head.content_length.is_some() {
            self.ambiguous_head = Some(self.heads);
            self.state = State::Stopped;
            return;
        }
        self.state = match head.content_length {
            _ if head.transfer_encoding => State::ChunkSize,
            Some(bytes) if bytes > 0 => State::Sized(bytes),
            Some(_) | None => State::RequestLine,
        };
    }

    /// Digits up to an extension or white space; hyper refuses whatever else there may be.
    fn end_chunk_size(&self) -> State {
        let digits: &[u8] = self
            .line
            .split(|byte| !byte.is_ascii_hexdigit())
            .next()
            .unwrap_or_default();
        let text = std::str::from_utf8(digits).unwrap_or_default();
        match u64::from_str_radix(text, 16) {
            Ok(0) => State::Trailer,
            Ok(bytes) => State::ChunkData(bytes),
            Err(_) => State::Stopped,
        }
    }
}

impl HeadFacts {
    fn read_header(&mut self, line: &[u8], cut: bool) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().unwrap_or_default();
        let value = parts.next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // `gzip, chunked`, or the header twice, would be taken for plain chunks by hyper.
            self.unframed |= self.transfer_encoding || cut || !value.eq_ignore_ascii_case(b"chunked");
            self.transfer_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = value.iter().all(u8::is_ascii_digit) && !cut;
            let bytes = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.unframed |= !digits || bytes.is_none();
            self.content_length = Some(bytes.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[u8] =
        b"POST / HTTP/1.1\r\ncontent-LENGTH: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    #[test]
    fn an_ambiguous_head_is_found_behind_any_body_and_at_any_split() {
        let before: [&[u8]; 5] = [
            b"",
            b"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: 68\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n!!",
            b"POST / HTTP/1.1\nTRANSFER-ENCODING: chunked\n\n5;x=y\r\n\r\n\r\n\r\r\n0A\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
            b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        ];
        for (number, prefix) in before.iter().enumerate() {
            let bytes = [prefix, BOTH].concat();
            for split in 0..bytes.len() {
                let mut scanner = Scanner::default();
                scanner.scan(&bytes[..split]);
                scanner.scan(&bytes[split..]);
                let head = if number == 0 { 1 } else { 2 };
                assert_eq!(
                    scanner.ambiguous_head(),
                    Some(head),
                    "case {number}, split at {split}"
                );
            }
        }
    }

    #[test]
    fn either_header_alone_is_fine_and_phases_follow_the_bytes() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.phase(), Phase::Idle);
        scanner.scan(b"POST / HTTP/1.1\r\ntransfer-enc");
        assert_eq!(scanner.phase(), Phase::Head);
        scanner.scan(b"oding: chunked\r\n\r\n3\r\nab");
        assert_eq!(scanner.phase(), Phase::Body);
        scanner.scan(b"c\r\n0\r\n\r\n");
        assert_eq!(scanner.phase(), Phase::Idle);
        assert_eq!((scanner.heads(), scanner.ambiguous_head()), (1, None));
    }

    #[test]
    fn a_length_that_cannot_be_read_is_ambiguous() {
        for value in [
            "+5",
            "5, 5",
            "",
            "99999999999999999999999",
            &format!("{}5", " ".repeat(200)),
        ] {
            let mut scanner = Scanner::default();
            scanner.scan(format!("POST / HTTP/1.1\r\ncontent-length:{value}\r\n\r\n").as_bytes());
            assert_eq!(scanner.ambiguous_head(), Some(1), "{value:?}");
        }
    }

    #[test]
    fn a_transfer_encoding_other_than_chunked_once_is_ambiguous() {
        for value in [
            "gzip, chunked",
            "chunked, chunked",
            "identity",
            "",
            "chunked\r\ntransfer-encoding: chunked",
        ] {
            let mut scanner = Scanner::default();
            scanner.scan(format!("POST / HTTP/1.1\r\ntransfer-encoding: {value}\r\n\r\n").as_bytes());
            assert_eq!(scanner.ambiguous_head(), Some(1), "{value:?}");
        }
    }
}
