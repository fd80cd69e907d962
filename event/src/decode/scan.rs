//! Strict scanning of JSON text, one value at a time, without building anything.
//!
//! A [`Scanner`] stands somewhere in the bytes of one line and steps over tokens. Whatever it steps over is right
//! by the one JSON rule, or the step is an error. The bytes are UTF-8 already.

use crate::limits::JSON_DEPTH_MAX;

/// What is wrong with a text, and at which byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: &'static str,
    pub(super) at: usize,
}

/// A string's place in the line, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether it has escapes, so that its bytes are not its text.
    pub(super) escaped: bool,
}

/// A number's place in the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Digits {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether it has neither a fraction nor an exponent.
    pub(super) integer: bool,
}

/// Keys of the objects that are being stepped over, to find duplicates. Kept between lines, so that no event
/// allocates.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Where each key of the open objects is, the innermost object's last.
    open: Vec<Key>,
    /// The text of keys that are written with escapes.
    unescaped: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    from: usize,
    to: usize,
    unescaped: bool,
}

#[derive(Debug)]
pub(super) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

type Scanned<T> = Result<T, SyntaxError>;

/// More keys than this are sorted to find duplicates; fewer are compared in pairs.
const PAIRWISE_KEYS_MAX: usize = 12;

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self::at(bytes, 0)
    }

    /// A scanner that stands there already.
    pub(super) fn at(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn error<T>(&self, message: &'static str) -> Scanned<T> {
        Err(SyntaxError { message, at: self.at })
    }

    /// The next byte that is not white space, without stepping over it.
    #[inline]
    pub(super) fn peek(&mut self) -> Scanned<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(byte);
            }
            self.at += 1;
        }
        self.error("it ends too early")
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8, message: &'static str) -> Scanned<()> {
        if self.peek()? != byte {
            return self.error(message);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over a comma (`true`) or the closing byte (`false`).
    #[inline]
    pub(super) fn more(&mut self, close: u8, message: &'static str) -> Scanned<bool> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => self.error(message),
        }
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Scanned<()> {
        match self.peek() {
            Ok(_) => self.error("something follows after the value"),
            Err(_) => Ok(()),
        }
    }

    /// Steps over a string, whose opening quote comes next.
    #[inline]
    pub(super) fn string(&mut self) -> Scanned<Text> {
        self.expect(b'"', "a string was expected here")?;
        let from = self.at;
        let mut escaped = false;
        loop {
            self.at = plain_end(self.bytes, self.at);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = Text {
                        from,
                        to: self.at,
                        escaped,
                    };
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.error("a control character is not escaped"),
                None => return self.error("it ends inside a string"),
            }
        }
    }

    /// Steps over one escape; a pair of surrogates counts as one.
    fn escape(&mut self) -> Scanned<()> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match hex(self.bytes, self.at + 2) {
                Some(0xD800..=0xDBFF) => {
                    let pair = self.bytes.get(self.at + 6..self.at + 8) == Some(b"\\u");
                    if !pair || !matches!(hex(self.bytes, self.at + 8), Some(0xDC00..=0xDFFF)) {
                        return self.error("a surrogate stands alone");
                    }
                    self.at += 12;
                    Ok(())
                }
                Some(0xDC00..=0xDFFF) => self.error("a surrogate stands alone"),
                Some(_) => {
                    self.at += 6;
                    Ok(())
                }
                None => self.error("an escape is not four hexadecimal digits"),
            },
            _ => self.error("an escape is not one of JSON's"),
        }
    }

    /// Steps over a number.
    #[inline]
    pub(super) fn number(&mut self) -> Scanned<Digits> {
        let from = self.at;
        self.at += usize::from(self.bytes.get(self.at) == Some(&b'-'));
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.error("this is not a value"),
        }
        let mut integer = true;
        if self.bytes.get(self.at) == Some(&b'.') {
            integer = false;
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        match self.bytes.get(self.at) {
            None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') => Ok(Digits {
                from,
                to: self.at,
                integer,
            }),
            Some(_) => self.error("a number is not written as JSON has it"),
        }
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Scanned<()> {
        let before = self.at;
        self.digits();
        if self.at == before {
            self.error("a digit was expected here")
        } else {
            Ok(())
        }
    }

    /// Steps over `true`, `false` or `null`.
    #[inline]
    pub(super) fn literal(&mut self, word: &'static str) -> Scanned<()> {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) != Some(word.as_bytes()) {
            return self.error("this is not a value");
        }
        self.at = end;
        match self.bytes.get(self.at) {
            None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
            Some(_) => self.error("this is not a value"),
        }
    }

    /// Steps over any value; `depth` is the number of objects and arrays that are open around it.
    pub(super) fn value(&mut self, depth: usize, keys: &mut Keys) -> Scanned<()> {
        match self.peek()? {
            b'{' => self.object(depth, keys),
            b'[' => self.array(depth, keys),
            b'"' => self.string().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number().map(drop),
        }
    }

    /// Checks the depth before an object or array is entered. The bound also bounds the recursion.
    pub(super) fn enter(&mut self, depth: usize) -> Scanned<usize> {
        if depth >= JSON_DEPTH_MAX {
            return self.error("it is nested deeper than 64 levels");
        }
        self.at += 1;
        Ok(depth + 1)
    }

    fn array(&mut self, depth: usize, keys: &mut Keys) -> Scanned<()> {
        let depth = self.enter(depth)?;
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth, keys)?;
            if !self.more(b']', "a comma or `]` was expected here")? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, depth: usize, keys: &mut Keys) -> Scanned<()> {
        let depth = self.enter(depth)?;
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        let mark = keys.mark();
        loop {
            let key = self.string()?;
            keys.push(self.bytes, key);
            self.expect(b':', "a colon was expected here")?;
            self.value(depth, keys)?;
            if !self.more(b'}', "a comma or `}` was expected here")? {
                return if keys.close(self.bytes, mark) {
                    Ok(())
                } else {
                    self.error(DUPLICATE_KEY)
                };
            }
        }
    }
}

/// The message for a key that an object has twice.
pub(super) const DUPLICATE_KEY: &str = "an object has the same key twice";

impl Keys {
    /// Forgets what an earlier line left when it failed.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.unescaped.clear();
    }

    /// Where an object's keys begin.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.open.len(), self.unescaped.len())
    }

    pub(super) fn push(&mut self, bytes: &[u8], key: Text) {
        if key.escaped {
            let from = self.unescaped.len();
            unescape(&bytes[key.from..key.to], &mut self.unescaped);
            self.open.push(Key {
                from,
                to: self.unescaped.len(),
                unescaped: true,
            });
        } else {
            self.open.push(Key {
                from: key.from,
                to: key.to,
                unescaped: false,
            });
        }
    }

    /// Forgets the keys since `mark`; `false` when two of them are the same.
    pub(super) fn close(&mut self, bytes: &[u8], mark: (usize, usize)) -> bool {
        let unescaped = &self.unescaped;
        let text = |key: &Key| {
            if key.unescaped {
                &unescaped[key.from..key.to]
            } else {
                &bytes[key.from..key.to]
            }
        };
        let keys = &mut self.open[mark.0..];
        let unique = if keys.len() <= PAIRWISE_KEYS_MAX {
            (1..keys.len()).all(|n| keys[..n].iter().all(|key| text(key) != text(&keys[n])))
        } else {
            keys.sort_unstable_by(|a, b| text(a).cmp(text(b)));
            keys.windows(2).all(|pair| text(&pair[0]) != text(&pair[1]))
        };
        self.open.truncate(mark.0);
        self.unescaped.truncate(mark.1);
        unique
    }
}

/// Where a run of bytes that mean themselves ends: at a quote, a backslash, a control character or the end.
///
/// Eight bytes at a time, by the bit tricks for "has a byte less than n" and "has a byte equal to n" from
/// Anderson, "Bit Twiddling Hacks".
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("a chunk has 8 bytes"));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found =
            has_zero(word ^ (ONES * u64::from(b'"'))) | has_zero(word ^ (ONES * u64::from(b'\\'))) | control;
        if found != 0 {
            // The lowest mark is never a false one: borrows only run upwards.
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while bytes
        .get(at)
        .is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
    {
        at += 1;
    }
    at
}

/// Four hexadecimal digits as a number.
fn hex(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |number: u16, digit| {
        let digit = (*digit as char).to_digit(16)?;
        Some(number << 4 | digit as u16)
    })
}

/// Appends the text that scanned string bytes stand for.
pub(super) fn unescape(bytes: &[u8], text: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        text.extend_from_slice(&rest[..at]);
        let (plain, length) = match rest[at + 1] {
            b'b' => (Some(8), 2),
            b'f' => (Some(12), 2),
            b'n' => (Some(b'\n'), 2),
            b'r' => (Some(b'\r'), 2),
            b't' => (Some(b'\t'), 2),
            b'u' => (None, 6),
            other => (Some(other), 2),
        };
        let mut length = length;
        if let Some(byte) = plain {
            text.push(byte);
        } else {
            let high = u32::from(hex(rest, at + 2).expect("`escape` has checked the digits"));
            let mut code = high;
            if (0xD800..=0xDBFF).contains(&high) {
                let low = u32::from(hex(rest, at + 8).expect("`escape` has checked the pair"));
                code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                length = 12;
            }
            let character = char::from_u32(code).expect("`escape` lets no lone surrogate pass");
            text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        rest = &rest[at + length..];
    }
    text.extend_from_slice(rest);
}
