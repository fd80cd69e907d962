//! Sockets: listeners, how many connections may be open, and what happens when the system refuses one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use super::Phase;

/// File descriptors that are kept for files and the journal when connections are counted.
const DESCRIPTORS_KEPT: u64 = 1_024;

/// The wait after the system refused to accept (out of descriptors or memory): it does not get better by asking
/// again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections that may wait in the kernel for `accept`.
const BACKLOG: u32 = 4_096;

/// One accepted connection; its place is free again when this is dropped.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: OwnedSemaphorePermit,
}

/// Raises the soft limit of file descriptors to the hard one, and gives it; `None` when there is none. To be done
/// before anything is opened: a long journal has many segments, and each is an open file.
pub(crate) fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let mut raised = limit;
        raised.current = limit.maximum;
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
        }
    }
    limit.current
}

/// Raises the limit of file descriptors and gives how many connections fit.
pub(super) fn connections_max(wanted: u64) -> u64 {
    let Some(descriptors) = raise_open_files() else {
        return wanted;
    };
    let fits = descriptors.saturating_sub(DESCRIPTORS_KEPT.min(descriptors / 2));
    if fits < wanted {
        tracing::warn!(
            wanted,
            fits,
            descriptors,
            "fewer connections than configured: raise the limit of open files"
        );
    }
    fits.min(wanted)
}

/// Binds every address, or none.
pub(super) fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, String> {
    let bound = addresses.iter().map(|address| {
        bind_one(*address).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("listen on `{address}`: the port is taken by another process")
            }
            _ => format!("listen on `{address}`: {error}"),
        })
    });
    bound.collect()
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        tokio::net::TcpSocket::new_v6()?
    };
    // A restart must not wait for connections of the last process to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until a shutdown begins, one connection at a time and only while there is a place for it: others wait in the
/// kernel, where they cost us nothing.
pub(super) async fn accept(
    listener: TcpListener,
    places: Arc<Semaphore>,
    mut phase: watch::Receiver<Phase>,
    mut handle: impl FnMut(Accepted),
) {
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
            accepted = next => accepted,
        };
        match accepted {
            None => return,
            Some((Ok((stream, peer)), place)) => {
                // Answers are small and whole: waiting to fill a packet only delays them.
                let _ = stream.set_nodelay(true);
                handle(Accepted { stream, peer, place });
            }
            Some((Err(error), _)) if of_one_connection(&error) => {}
            Some((Err(error), _)) => {
                metrics::counter!("tidemill_accept_errors_total").increment(1);
                tracing::warn!(%error, "accepting connections fails, tries again");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Whether only the connection that was to be accepted is to blame.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
