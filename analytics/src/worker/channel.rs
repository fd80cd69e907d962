//! The worker's end of the socket: takes questions one by one and answers them (W-1, W-2).

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::wire::{Begin, DATA_BYTES, Frame, Frames, Kind, send, send_json};
use crate::question::Question;
use crate::{Analytics, QueryError, SqlAnswer, SqlBody};

/// Speaks to the server that started this process.
#[derive(Debug)]
pub struct Channel {
    frames: Frames<OwnedReadHalf>,
    outgoing: OwnedWriteHalf,
}

/// Whether the question ended, or whoever asked.
enum Ended {
    Question,
    Server,
}

impl Channel {
    /// The socket that is this process's standard input. To be called inside a runtime that does nothing else, so
    /// that it always sees the server's end.
    ///
    /// # Errors
    /// When the standard input is no socket: nobody but the server starts a worker.
    pub fn standard_input() -> io::Result<Self> {
        let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Fails when it is none.
        socket.peer_addr()?;
        socket.set_nonblocking(true)?;
        let (incoming, outgoing) = UnixStream::from_std(socket)?.into_split();
        Ok(Self {
            frames: Frames::new(incoming),
            outgoing,
        })
    }

    /// What the server sends first.
    ///
    /// # Errors
    /// When the server ends or says something else.
    pub async fn settings(&mut self) -> io::Result<Bytes> {
        match self.frames.next().await? {
            Some(frame) if frame.kind == Kind::Settings => Ok(frame.payload),
            Some(frame) => Err(unexpected(&frame)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Answers questions until the server ends, and says while one is being answered.
    ///
    /// # Errors
    /// When the server says something that it should not.
    pub async fn serve(self, analytics: Analytics, busy: &watch::Sender<bool>) -> io::Result<()> {
        let Self {
            mut frames,
            mut outgoing,
        } = self;
        let (sender, mut orders) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok(Some(frame)) = frames.next().await {
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
        });
        send(&mut outgoing, Kind::Ready, &[]).await?;
        while let Some(frame) = orders.recv().await {
            match frame.kind {
                Kind::Question => {
                    let question: Question = frame.parse()?;
                    busy.send_replace(true);
                    let answered = answer(&analytics, question, &mut orders, &mut outgoing).await;
                    busy.send_replace(false);
                    match answered {
                        Ok(Ended::Question) => {}
                        // It cannot be told any more.
                        Ok(Ended::Server) | Err(_) => return Ok(()),
                    }
                }
                // It came when the question was over already.
                Kind::Cancel => {}
                _ => return Err(unexpected(&frame)),
            }
        }
        Ok(())
    }
}

fn unexpected(frame: &Frame) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server said {:?} out of turn", frame.kind),
    )
}

/// Answers one question, and returns when nothing of it is left.
async fn answer(
    analytics: &Analytics,
    question: Question,
    orders: &mut mpsc::Receiver<Frame>,
    outgoing: &mut OwnedWriteHalf,
) -> io::Result<Ended> {
    let asked = tokio::select! {
        answer = analytics.answer(question) => Some(answer),
        order = orders.recv() => match order {
            Some(_) => None,
            None => return Ok(Ended::Server),
        },
    };
    match asked {
        Some(Ok(answer)) => {
            if let Ended::Server = write(answer, orders, outgoing).await? {
                return Ok(Ended::Server);
            }
        }
        Some(Err(error)) => send_json(outgoing, Kind::Failed, &error).await?,
        None => {}
    }
    tokio::select! {
        () = free(analytics) => {}
        () = closed(orders) => return Ok(Ended::Server),
    }
    send(outgoing, Kind::Idle, &[]).await?;
    Ok(Ended::Question)
}

/// Waits for the server's end; what it says meanwhile comes too late.
async fn closed(orders: &mut mpsc::Receiver<Frame>) {
    while orders.recv().await.is_some() {}
}

async fn write(
    answer: SqlAnswer,
    orders: &mut mpsc::Receiver<Frame>,
    outgoing: &mut OwnedWriteHalf,
) -> io::Result<Ended> {
    let begin = Begin {
        as_of: answer.as_of,
        whole: matches!(answer.body, SqlBody::Whole(_)),
    };
    send_json(outgoing, Kind::Begin, &begin).await?;
    let mut body: BoxStream<'static, Result<Bytes, QueryError>> = match answer.body {
        SqlBody::Whole(bytes) => futures::stream::iter([Ok(Bytes::from(bytes))]).boxed(),
        SqlBody::Stream(stream) => stream,
    };
    loop {
        let item = tokio::select! {
            item = body.next() => item,
            order = orders.recv() => match order {
                Some(_) => return Ok(Ended::Question),
                None => return Ok(Ended::Server),
            },
        };
        match item {
            Some(Ok(bytes)) => {
                for chunk in bytes.chunks(DATA_BYTES) {
                    send(outgoing, Kind::Data, chunk).await?;
                }
            }
            Some(Err(error)) => {
                send_json(outgoing, Kind::Failed, &error).await?;
                return Ok(Ended::Question);
            }
            None => {
                send(outgoing, Kind::End, &[]).await?;
                return Ok(Ended::Question);
            }
        }
    }
}

/// Waits until every thread that computes is free at the same time: what a question leaves behind ends where it
/// next yields, and the next question must not pay for it. One that never yields is not waited for by the server.
async fn free(analytics: &Analytics) {
    let Some(compute) = analytics.compute_of_sql() else {
        return;
    };
    let threads = analytics.shared.options.threads.max(1);
    let all = Arc::new(Barrier::new(threads));
    let mut tasks = JoinSet::new();
    for _ in 0..threads {
        let all = Arc::clone(&all);
        let meets = async move {
            all.wait();
        };
        tasks.spawn_on(meets, &compute);
    }
    while tasks.join_next().await.is_some() {}
}
