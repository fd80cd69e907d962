//! Finds the elements of a JSON document that arrives in chunks: an array's elements, or the one object.
//!
//! Only the structure around the elements is judged here; each element is read by the same code as a line. An
//! element's end is found by counting brackets outside of strings, so a malformed element may end late or
//! early; then it is not JSON, or what follows is not, and either way the whole document is refused.

use super::BodyError;

/// Where in the document the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the document's value.
    Start,
    /// After `[`: an element or `]`.
    First,
    /// After a comma: an element.
    Next,
    /// Inside of an element.
    Element,
    /// After an element of the array: a comma or `]`.
    After,
    /// After the document's value.
    End,
}

#[derive(Debug)]
pub(super) struct Elements {
    place: Place,
    /// Whether the document is an array.
    array: bool,
    /// Whether the array is a part of something: what follows it is not looked at here.
    inside: bool,
    /// Open brackets of the current element.
    open: usize,
    in_string: bool,
    escaped: bool,
    /// Bytes before the current chunk.
    read: u64,
}

/// What one step found: bytes `from..to` of the given ones belong to the current element, which is complete or
/// goes on in the next chunk; the next step begins at `next`.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) next: usize,
    pub(super) complete: bool,
}

impl Step {
    /// No part of an element before `next`.
    pub(super) fn nothing(next: usize) -> Self {
        Self {
            from: next,
            to: next,
            next,
            complete: false,
        }
    }
}

impl Elements {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            array: false,
            inside: false,
            open: 0,
            in_string: false,
            escaped: false,
            read: 0,
        }
    }

    /// The elements of an array inside of something, whose `[` was the last of `read` bytes.
    pub(super) fn inside(read: u64) -> Self {
        Self {
            place: Place::First,
            array: true,
            inside: true,
            read,
            ..Self::new()
        }
    }

    /// Whether the document, or the array that is inside of something, has ended.
    pub(super) fn ended(&self) -> bool {
        self.place == Place::End
    }

    /// Goes on to the end of the current or next element, or to the end of the bytes.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let mut at = 0;
        while self.place != Place::Element {
            let byte = bytes.get(at).copied();
            let Some(byte) = byte.filter(|_| !(self.inside && self.ended())) else {
                self.read += at as u64;
                return Ok(Step::nothing(at));
            };
            if self.between(byte, at)? {
                at += 1;
            }
        }
        let from = at;
        let complete = self.element(bytes, &mut at);
        self.read += at as u64;
        Ok(Step {
            from,
            to: at,
            next: at,
            complete,
        })
    }

    /// The document must be complete now.
    pub(super) fn check_end(&self) -> Result<(), BodyError> {
        if self.ended() {
            Ok(())
        } else {
            Err(not_json("it ends too early", self.read))
        }
    }

    /// Takes a byte between elements; `false` when it begins an element, to which it belongs.
    fn between(&mut self, byte: u8, at: usize) -> Result<bool, BodyError> {
        let wrong = |message| Err(not_json(message, self.read + at as u64));
        self.place = match (self.place, byte) {
            (place, b' ' | b'\t' | b'\n' | b'\r') => place,
            (Place::Start, b'[') => {
                self.array = true;
                Place::First
            }
            (Place::Start, b'{') => {
                self.place = Place::Element;
                return Ok(false);
            }
            (Place::Start, _) => return wrong("an object or an array of objects was expected"),
            (Place::First, b']') => Place::End,
            (Place::First | Place::Next, b',' | b']' | b'}' | b':') => {
                return wrong("an element was expected");
            }
            (Place::First | Place::Next, _) => {
                self.place = Place::Element;
                return Ok(false);
            }
            (Place::After, b',') => Place::Next,
            (Place::After, b']') => Place::End,
            (Place::After, _) => return wrong("a comma or `]` was expected"),
            (Place::End, _) => return wrong("something follows after the document"),
            (Place::Element, _) => return Ok(false),
        };
        Ok(true)
    }

    /// Goes through the current element; `true` when its end was found, which `at` then is.
    fn element(&mut self, bytes: &[u8], at: &mut usize) -> bool {
        while let Some(&byte) = bytes.get(*at) {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                let scalar_ends = self.open == 0 && matches!(byte, b',' | b']' | b'}');
                if scalar_ends {
                    return self.end_element();
                }
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.open += 1,
                    b'}' | b']' => {
                        self.open -= 1;
                        if self.open == 0 {
                            *at += 1;
                            return self.end_element();
                        }
                    }
                    _ => {}
                }
            }
            *at += 1;
        }
        false
    }

    fn end_element(&mut self) -> bool {
        self.place = if self.array { Place::After } else { Place::End };
        true
    }
}

pub(super) fn not_json(message: &str, at: u64) -> BodyError {
    BodyError::NotJson {
        message: format!("{message} (byte {at})"),
    }
}
