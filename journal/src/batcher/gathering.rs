//! How long a group waits for more requests: not at all, unless others are known to come.
//!
//! A group costs about the same whether it holds one request or ten: a write, an fdatasync, the switches between
//! threads around them, and whatever the readers do for a record. When requests come one by one but often, a group that
//! went as soon as the one before it was durable would hold two or three, and these costs take a large share of the
//! machine from everybody. So a group may wait until it has [`REQUESTS_MAX`] requests, or until [`LINGER`] after the
//! beginning of the group before it.
//!
//! Waiting pays only while others come. A client that waits for its answer sends nothing meanwhile, so a group that
//! waited for more requests than there are clients would wait in vain. Nobody here knows how many clients there are;
//! it is found out by trying: the number waited for grows by one when groups that had as many are some ahead of those
//! that had not, and falls to what came when a wait was in vain, or several were too short; the next try comes later and
//! later then. Groups are not counted in a row: of requests that come at random one comes alone now and then, and nobody
//! would ever try again.

use std::time::{Duration, Instant};

/// Most requests that are waited for: what a group costs is less than the requests of it by then.
const REQUESTS_MAX: usize = 16;
/// Longest time between the beginnings of two groups that a wait may make; with a timer of whole milliseconds, as
/// tokio's, a little more.
const LINGER: Duration = Duration::from_millis(1);
/// By how many the groups that had as many as were waited for must be ahead before more are: the fewest, and the most.
const TRIES_MIN: u32 = 8;
const TRIES_MAX: u32 = 1_024;
/// Waits in a row that brought too few, after which fewer are waited for.
const SHORT_MAX: u32 = 4;

/// A wait that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// How many requests there were when it began.
    pub(super) before: usize,
    /// When the last of the others came, or when it began.
    pub(super) last: Instant,
}

/// What is known of those who send. Its clock is the caller's.
#[derive(Debug)]
pub(super) struct Gathering {
    /// So many make a group that does not wait.
    wanted: usize,
    /// By how many groups those that had as many are ahead of those that had not.
    full: u32,
    /// How far they must be ahead until one more is waited for.
    tries: u32,
    /// One more is waited for, and it was not there yet.
    trying: bool,
    /// Waits in a row that brought too few.
    short: u32,
    /// When the last group began.
    begun: Option<Instant>,
}

impl Gathering {
    pub(super) fn new() -> Self {
        Self {
            wanted: 1,
            full: 0,
            tries: TRIES_MIN,
            trying: false,
            short: 0,
            begun: None,
        }
    }

    /// So many requests make a group that does not wait.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// Until when a group of so many requests waits for more; nothing when it goes now.
    pub(super) fn until(&self, requests: usize, now: Instant) -> Option<Instant> {
        let until = self.begun? + LINGER;
        (requests < self.wanted && now < until).then_some(until)
    }

    /// A group of so many requests begins `now`, after a wait or at once.
    pub(super) fn begins(&mut self, requests: usize, now: Instant, wait: Option<Wait>) {
        // Those that come so seldom that nothing would be gained by a wait tell nothing.
        let often = self.begun.is_some_and(|begun| now < begun + 2 * LINGER);
        // Late is also who had to wait for a processor, which says nothing of those who send.
        let waited_until = self.begun.map_or(now, |begun| now.min(begun + LINGER));
        self.begun = Some(now);
        if requests >= self.wanted.max(2) {
            self.short = 0;
            if wait.is_some() && self.trying {
                (self.trying, self.tries) = (false, TRIES_MIN);
            }
            // No further than the next try needs: it would rise for ever where no more are waited for.
            self.full = (self.full + u32::from(often)).min(self.tries);
            if self.full >= self.tries && self.wanted < REQUESTS_MAX {
                (self.wanted, self.full, self.trying) = (self.wanted + 1, 0, true);
            }
            return;
        }
        // Requests that come at random come alone now and then, however many there are.
        self.full = self.full.saturating_sub(1);
        let Some(wait) = wait else { return };
        self.short += 1;
        let in_vain = requests == wait.before || waited_until > wait.last + LINGER / 2;
        if in_vain || self.short >= SHORT_MAX {
            (self.wanted, self.short, self.trying) = (requests.max(1), 0, false);
            (self.full, self.tries) = (0, (self.tries * 2).min(TRIES_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Answers come so long after a group began.
    const SYNC: Duration = Duration::from_micros(250);

    /// Lets clients that wait for their answers send again after `pause`, for as many groups; gives how many groups
    /// waited in vain, and how large the last one was.
    fn closed(clients: usize, pause: Duration, groups: usize) -> (usize, usize) {
        let mut gathering = Gathering::new();
        let mut now = Instant::now();
        let mut waiting = vec![now; clients];
        let (mut vain, mut last) = (0, 0);
        for _ in 0..groups {
            waiting.sort();
            now = now.max(waiting[0]);
            let came = |now: Instant| waiting.iter().take_while(|due| **due <= now).count();
            let mut waited = None;
            let before = came(now);
            if let Some(until) = gathering.until(before, now) {
                let wanted = gathering.wanted();
                let enough = waiting.get(wanted - 1).copied().filter(|due| *due <= until);
                vain += usize::from(enough.is_none());
                now = enough.unwrap_or(until);
                let last = waiting[came(now) - 1];
                waited = Some(Wait { before, last });
            }
            last = came(now);
            gathering.begins(last, now, waited);
            now += SYNC;
            waiting[..last].fill(now + pause);
        }
        (vain, last)
    }

    #[test]
    fn clients_that_wait_for_their_answers_are_gathered_and_hardly_ever_waited_for_in_vain() {
        assert_eq!(closed(1, Duration::from_micros(100), 10_000), (0, 1));
        for clients in 2..8 {
            let (vain, last) = closed(clients, Duration::from_micros(100), 10_000);
            assert!(
                vain < 20,
                "{clients} clients: {vain} of 10,000 groups waited in vain"
            );
            assert_eq!(last, clients);
        }
    }

    /// Requests that come every `gap`, whatever the answers do; gives the mean size of a group, and the longest wait.
    fn open(gap: Duration, requests: u32) -> (f64, Duration) {
        let mut gathering = Gathering::new();
        let begin = Instant::now();
        let due = |request: u32| begin + gap * request;
        let (mut now, mut next, mut groups, mut longest) = (begin, 0, 0, Duration::ZERO);
        while next < requests {
            let first = next;
            now = now.max(due(next));
            let came = |now: Instant| (now.duration_since(begin).as_nanos() / gap.as_nanos()) as u32 + 1;
            let mut waited = None;
            let before = (came(now) - first) as usize;
            if let Some(until) = gathering.until(before, now) {
                now = due(first + gathering.wanted() as u32 - 1).min(until);
                let last = due(came(now) - 1);
                waited = Some(Wait { before, last });
            }
            next = came(now);
            gathering.begins((next - first) as usize, now, waited);
            groups += 1;
            now += SYNC;
            longest = longest.max(now - due(first));
        }
        (f64::from(requests) / f64::from(groups), longest)
    }

    #[test]
    fn requests_that_come_often_share_a_group_and_others_are_not_kept() {
        let (mean, longest) = open(Duration::from_micros(100), 10_000);
        assert!(mean > 8.0, "{mean} requests a group");
        assert!(longest <= LINGER + SYNC, "{longest:?}");
        let (mean, longest) = open(Duration::from_micros(900), 1_000);
        assert!(
            mean < 1.01 && longest == SYNC,
            "{mean} requests a group, {longest:?}"
        );
    }

    /// Requests that come at random, on an average every `gap`, and now and then, once in so many groups, nothing is
    /// taken for 2 ms, as on a busy machine; gives the mean size of a group.
    fn at_random(gap: Duration, stalls: u32, groups: u32, seed: u64) -> f64 {
        println!("seed {seed}");
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut gathering = Gathering::new();
        let (mut now, mut due, mut requests) = (Instant::now(), Instant::now(), 0);
        for _ in 0..groups {
            now = now.max(due);
            let mut came = 0;
            let mut take = |until: Instant, enough: usize, came: &mut usize| {
                let mut last = None;
                while due <= until && *came < enough {
                    last = Some(due);
                    *came += 1;
                    let share: f64 = random.random_range(f64::MIN_POSITIVE..1.0);
                    due += gap.mul_f64(-share.ln());
                }
                last
            };
            take(now, usize::MAX, &mut came);
            let before = came;
            let wait = gathering.until(before, now).map(|until| {
                let last = take(until, gathering.wanted(), &mut came).unwrap_or(now);
                let enough = came >= gathering.wanted();
                now = if enough { last } else { until };
                Wait { before, last }
            });
            if random.random_ratio(1, stalls) {
                now += 2 * LINGER;
            }
            gathering.begins(came, now, wait);
            requests += came;
            now += SYNC;
        }
        requests as f64 / f64::from(groups)
    }

    #[test]
    fn requests_that_come_at_random_share_groups_also_after_waits_that_were_in_vain() {
        for seed in 0..10 {
            let mean = at_random(Duration::from_micros(80), 100, 20_000, seed);
            assert!(mean > 8.0, "{mean} requests a group");
        }
    }

    #[test]
    fn after_any_number_of_full_groups_and_a_wait_in_vain_the_next_try_comes_as_late_as_ever() {
        let mut gathering = Gathering::new();
        let mut now = Instant::now();
        for _ in 0..5_000 {
            now += SYNC;
            gathering.begins(REQUESTS_MAX, now, None);
            assert!(gathering.full <= gathering.tries);
        }
        let until = gathering.until(2, now).expect("it waits for the others");
        let wait = Wait { before: 2, last: now };
        gathering.begins(2, until, Some(wait));
        assert_eq!(gathering.wanted(), 2);
        now = until;
        for _ in 1..2 * TRIES_MIN {
            now += SYNC;
            gathering.begins(2, now, None);
            assert_eq!(gathering.wanted(), 2);
        }
        gathering.begins(2, now + SYNC, None);
        assert_eq!(gathering.wanted(), 3);
    }

    #[test]
    fn after_many_clients_one_alone_is_kept_once() {
        let mut gathering = Gathering::new();
        let mut now = Instant::now();
        for _ in 0..1_000 {
            now += SYNC;
            gathering.begins(REQUESTS_MAX, now, None);
        }
        assert_eq!(gathering.wanted(), REQUESTS_MAX);
        now += SYNC;
        let until = gathering.until(1, now).expect("it waits for the others");
        let wait = Wait { before: 1, last: now };
        gathering.begins(1, until, Some(wait));
        assert_eq!(gathering.until(1, until + SYNC), None);
    }
}
