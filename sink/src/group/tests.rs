//! Partitions that come and go, with tasks that say what they were told.

use event::Position;
use futures::FutureExt;
use journal::embedded::{EmbeddedJournal, EmbeddedOptions};
use tokio::sync::{Notify, mpsc};

use super::*;

/// A member whose partitions the test assigns, in front of a real journal.
#[derive(Clone, Debug)]
struct Scripted {
    assigned: watch::Sender<Assignment>,
    left: Arc<Notify>,
}

impl GroupMember for Scripted {
    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.assigned.subscribe()
    }
    fn committed(&self, _stream: &StreamName, _position: Position) {}
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.left.notify_one();
        std::future::ready(()).boxed()
    }
}

fn shares(partitions: impl IntoIterator<Item = u32>) -> Assignment {
    let stream = StreamName::parse("s").expect("allowed");
    let shares = partitions
        .into_iter()
        .map(|partition| (stream.clone(), Partition(partition)));
    Arc::new(shares.collect())
}

struct World {
    member: Scripted,
    stop: watch::Sender<bool>,
    events: mpsc::UnboundedReceiver<(u32, &'static str)>,
    /// Tasks that were released end when this says so.
    end: Arc<Notify>,
    running: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

fn start() -> World {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = EmbeddedJournal::open(EmbeddedOptions::new(directory.path())).expect("opens");
    let member = Scripted {
        assigned: watch::Sender::new(Arc::default()),
        left: Arc::default(),
    };
    let (stop, stopping) = watch::channel(false);
    let (say, events) = mpsc::unbounded_channel();
    let end = Arc::new(Notify::new());
    let sharing = Sharing {
        journal,
        group: "g".to_owned(),
        streams: vec![StreamName::parse("s").expect("allowed")],
        stopping,
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(1)),
    };
    let ending = Arc::clone(&end);
    let work = move |share: Share, mut phase: watch::Receiver<Phase>, _| {
        let (say, ending) = (say.clone(), Arc::clone(&ending));
        async move {
            let said = |what| say.send((share.1.0, what)).expect("the test listens");
            said("started");
            let told = *phase
                .wait_for(|phase| *phase != Phase::Running)
                .await
                .expect("told");
            match told {
                Phase::Released => {
                    said("released");
                    ending.notified().await;
                }
                Phase::Stopping => said("stopping"),
                Phase::Running => {}
            }
            said("ended");
        }
        .boxed()
    };
    let running = tokio::runtime::Handle::current().spawn(sharing.share(Box::new(member.clone()), work));
    World {
        member,
        stop,
        events,
        end,
        running,
        _directory: directory,
    }
}

impl World {
    async fn next(&mut self) -> (u32, &'static str) {
        self.events.recv().await.expect("a task says something")
    }
}

#[tokio::test]
async fn tasks_follow_what_is_assigned_and_end_in_order() {
    let mut world = start();
    world.member.assigned.send_replace(shares([0, 1]));
    let mut both = [world.next().await, world.next().await];
    both.sort_unstable();
    assert_eq!(both, [(0, "started"), (1, "started")]);
    world.member.assigned.send_replace(shares([1]));
    assert_eq!(world.next().await, (0, "released"));
    world.end.notify_one();
    assert_eq!(world.next().await, (0, "ended"));
    world.stop.send_replace(true);
    assert_eq!(world.next().await, (1, "stopping"));
    assert_eq!(world.next().await, (1, "ended"));
    world.running.await.expect("ends");
    world.member.left.notified().await;
}

#[tokio::test]
async fn a_partition_that_comes_back_waits_for_its_old_task() {
    let mut world = start();
    world.member.assigned.send_replace(shares([0]));
    assert_eq!(world.next().await, (0, "started"));
    world.member.assigned.send_replace(shares([]));
    assert_eq!(world.next().await, (0, "released"));
    world.member.assigned.send_replace(shares([0]));
    // The old task is still at work; were a second one started, it would say so before "ended".
    world.end.notify_one();
    assert_eq!(world.next().await, (0, "ended"));
    assert_eq!(world.next().await, (0, "started"));
    world.running.abort();
}

#[tokio::test]
async fn a_released_task_that_does_not_end_is_dropped() {
    let mut world = start();
    world.member.assigned.send_replace(shares([0]));
    assert_eq!(world.next().await, (0, "started"));
    world.member.assigned.send_replace(shares([]));
    assert_eq!(world.next().await, (0, "released"));
    world.member.assigned.send_replace(shares([0]));
    assert_eq!(
        world.next().await,
        (0, "started"),
        "and its partition is taken up again"
    );
    world.running.abort();
}
