//! What server and worker say to each other: frames over a socket pair.
//!
//! ```text
//! frame    kind u8 | length u32, little endian | payload [length]
//!
//! server   Settings  Question ………… (Cancel)            Question …
//! worker             Ready     Begin Data … End|Failed Idle
//! ```

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest payload, in bytes. A question's text has at most 1 MiB, and is written as JSON with what is beside it.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Bytes of an answer in one frame: what a reader holds of it.
pub(super) const DATA_BYTES: usize = 256 << 10;
/// Bytes before a payload.
const HEAD_BYTES: usize = 5;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the worker is started with.
    Settings,
    /// A [`Question`](crate::question::Question) as JSON.
    Question,
    /// Nobody waits for the answer any more.
    Cancel,
    /// The worker takes questions.
    Ready,
    /// An answer begins: [`Begin`] as JSON.
    Begin,
    /// Bytes of it.
    Data,
    /// That was all of it.
    End,
    /// In place of the rest of it a [`QueryError`](crate::QueryError) as JSON.
    Failed,
    /// Nothing of the question is left, the next one may come.
    Idle,
}

const KINDS: [Kind; 9] = [
    Kind::Settings,
    Kind::Question,
    Kind::Cancel,
    Kind::Ready,
    Kind::Begin,
    Kind::Data,
    Kind::End,
    Kind::Failed,
    Kind::Idle,
];

/// The beginning of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    /// The positions that it reflects.
    pub(super) as_of: Value,
    /// Whether the worker has all of it already.
    pub(super) whole: bool,
}

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
}

impl Frame {
    /// Reads the payload.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&'a self) -> io::Result<T> {
        serde_json::from_slice(&self.payload).map_err(io::Error::from)
    }
}

/// Sends one frame.
///
/// # Cancellation
/// Half of a frame may have been sent: the connection is of no use any more.
pub(super) async fn send<W: AsyncWrite + Unpin>(to: &mut W, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok();
    let length = length.filter(|length| *length as usize <= PAYLOAD_BYTES_MAX);
    let length = length.ok_or_else(|| too_long(payload.len()))?;
    let mut head = [0; HEAD_BYTES];
    head[0] = kind as u8;
    head[1..].copy_from_slice(&length.to_le_bytes());
    to.write_all_buf(&mut Buf::chain(&head[..], payload)).await
}

/// Sends one frame whose payload is JSON.
pub(super) async fn send_json<W, T>(to: &mut W, kind: Kind, value: &T) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
    T: Serialize,
{
    send(to, kind, &serde_json::to_vec(value).map_err(io::Error::from)?).await
}

/// Frames as they come.
#[derive(Debug)]
pub(super) struct Frames<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(super) fn new(from: R) -> Self {
        let buffer = BytesMut::new();
        Self { from, buffer }
    }

    /// The next frame; `None` when the other side has ended.
    ///
    /// # Cancellation
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.whole()? {
                return Ok(Some(frame));
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// A frame of which all bytes are there.
    fn whole(&mut self) -> io::Result<Option<Frame>> {
        let Some(head) = self.buffer.get(..HEAD_BYTES) else {
            self.buffer.reserve(HEAD_BYTES + DATA_BYTES);
            return Ok(None);
        };
        let kind = usize::from(head[0]);
        let length = u32::from_le_bytes(head[1..].try_into().expect("four bytes")) as usize;
        let kind = KINDS.get(kind).copied().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{kind}` is no kind of frame"),
            )
        })?;
        if length > PAYLOAD_BYTES_MAX {
            return Err(too_long(length));
        }
        if self.buffer.len() < HEAD_BYTES + length {
            self.buffer.reserve(HEAD_BYTES + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        Ok(Some(Frame { kind, payload }))
    }
}

fn too_long(bytes: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a frame of {bytes} bytes exceeds the limit of {PAYLOAD_BYTES_MAX}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_as_they_were_sent_however_they_are_cut() {
        let sent = [
            (Kind::Settings, vec![7; 3]),
            (Kind::Cancel, Vec::new()),
            (Kind::Data, vec![1; DATA_BYTES + 1]),
            (Kind::Idle, Vec::new()),
        ];
        for capacity in [1, 7, 64 << 10, 4 << 20] {
            let (mut near, far) = tokio::io::duplex(capacity);
            let writing = async {
                for (kind, payload) in &sent {
                    send(&mut near, *kind, payload).await.expect("sent");
                }
                drop(near);
            };
            let reading = async {
                let mut frames = Frames::new(far);
                for (kind, payload) in &sent {
                    let frame = frames.next().await.expect("whole").expect("there");
                    assert_eq!((frame.kind, &frame.payload[..]), (*kind, &payload[..]));
                }
                assert!(frames.next().await.expect("ended").is_none());
            };
            tokio::join!(writing, reading);
        }
    }

    #[tokio::test]
    async fn every_kind_is_found_again_and_nothing_else_is() {
        for (number, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for bytes in [[9, 0, 0, 0, 0], [255, 0, 0, 0, 0], [5, 0, 0, 0, 255]] {
            assert!(Frames::new(&bytes[..]).next().await.is_err(), "{bytes:?}");
        }
        // An end in the middle of a frame is an end.
        assert!(
            Frames::new(&[5, 9, 0, 0, 0, 1][..])
                .next()
                .await
                .expect("an end")
                .is_none()
        );
    }
}
