//! Permits for the connections of a listener: so many in all, for one client, and before a client has authenticated.
//! When there is no permit left, the connection that has been waiting longest without a request loses its own; one that
//! carries a request never does. A connection whose client takes too long to send a head loses it too.
//!
//! ```text
//!  admitted ──▶ Head ──request──▶ Busy ──end of the response──▶ Idle ──first byte──▶ Head
//!                │ too long, or oldest when there is no permit     │
//!                └────────────────▶ closed ◀──────────────────────┘
//! ```
//!
//! Does not know sockets, or what is served on a connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often connections whose time is over are looked for.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often a connection that is to end is asked whether its request has come. Only asked while a daemon ends.
const HEAD_POLL: Duration = Duration::from_millis(10);
/// How many waiting connections one search for the oldest finds, so that a flood does not search once for each.
const CANDIDATES: usize = 64;
/// Leading bits of an IPv6 address that are one client: whoever has one address of such a network has all.
const CLIENT_BITS: u32 = 64;

/// How many connections there may be, and how long they may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections at once.
    pub total: usize,
    /// Most of one client: an address (IPv6: a /64), or who it has authenticated as.
    pub per_client: usize,
    /// Where clients authenticate: what is left to those that have not.
    pub anonymous: Option<Anonymous>,
    /// Longest time from a connection's begin, or from the first byte of a later request, to the end of its head.
    pub head: Duration,
    /// Longest time between two requests.
    pub idle: Duration,
}

/// How many connections there may be whose clients have not authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Anonymous {
    /// Most at once.
    pub total: usize,
    /// Most of one address (IPv6: of a /64).
    pub per_address: usize,
}

/// Whether an address is a proxy that stands for many clients, so that the limit for one client is not for it.
pub type StandsForMany = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The connections of one listener, which may have several sockets.
pub struct Connections {
    listener: &'static str,
    limits: Limits,
    stands_for_many: StandsForMany,
    began: Instant,
    table: Mutex<Table>,
    counts: Counts,
}

/// What has become of connections, since the start.
#[derive(Debug, Default)]
struct Counts {
    refused: AtomicU64,
    closed: AtomicU64,
}

/// The numbers of a listener's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The listener's name.
    pub listener: &'static str,
    /// Open connections.
    pub open: usize,
    /// Connections that were closed as soon as they came, since there was no permit.
    pub refused: u64,
    /// Waiting connections that were closed, for another or because they took too long.
    pub closed: u64,
}

/// Who shares a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    /// Processes of this machine, and proxies that stand for many: without a limit of their own.
    Many,
    /// The address, or the network that counts as one.
    Address(IpAddr),
    /// Who has authenticated.
    Known(u64),
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    clients: HashMap<Key, BTreeMap<u64, Arc<Inner>>>,
    open: usize,
    anonymous: usize,
    /// Waiting connections that a search found, the oldest first, with the state that they had.
    candidates: VecDeque<(Key, u64, u64)>,
    swept_ms: u64,
}

/// What is known of one connection, by the table and by its permit.
#[derive(Debug)]
struct Inner {
    /// The phase in the lowest two bits, and above them since when, in milliseconds.
    state: AtomicU64,
    /// Who it has authenticated as; 0 is nobody.
    known: AtomicU64,
    lost: AtomicBool,
    notify: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head = 0,
    Idle = 1,
    Busy = 2,
}

impl Inner {
    fn enter(&self, phase: Phase, now_ms: u64) {
        self.state.store(word(phase, now_ms), Ordering::Relaxed);
    }

    /// Since when it waits, or None if it carries a request.
    fn waits_since_ms(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Relaxed);
        (phase(state) != Phase::Busy).then_some(state >> 2)
    }

    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        self.notify.notify_one();
    }
}

fn word(phase: Phase, now_ms: u64) -> u64 {
    now_ms << 2 | phase as u64
}

fn phase(state: u64) -> Phase {
    match state & 3 {
        0 => Phase::Head,
        1 => Phase::Idle,
        _ => Phase::Busy,
    }
}

/// The part of an address that stands for one client: all of an IPv4 address, the network of an IPv6 one.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (u128::BITS - CLIENT_BITS);
            IpAddr::V6((u128::from(address) & mask).into())
        }
        v4 => v4,
    }
}

impl Connections {
    /// No connections so far. `listener` names it in logs and metrics.
    pub fn new(listener: &'static str, limits: Limits, stands_for_many: StandsForMany) -> Arc<Self> {
        Arc::new(Self {
            listener,
            limits,
            stands_for_many,
            began: Instant::now(),
            table: Mutex::default(),
            counts: Counts::default(),
        })
    }

    /// The numbers for metrics.
    pub fn figures(&self) -> Figures {
        Figures {
            listener: self.listener,
            open: self.table().open,
            refused: self.counts.refused.load(Ordering::Relaxed),
            closed: self.counts.closed.load(Ordering::Relaxed),
        }
    }

    /// The listener's name.
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// A permit for a new connection, or None if there is none. Without `address` it is a process of this machine.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Arc<Permit>> {
        let (key, now_ms) = (self.key(address), self.now_ms());
        let mut table = self.table();
        if !self.make_room(&mut table, key) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = table.next;
        let inner = Arc::new(Inner {
            state: AtomicU64::new(word(Phase::Head, now_ms)),
            known: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            notify: Notify::new(),
        });
        table.next += 1;
        table.insert(key, id, Arc::clone(&inner));
        drop(table);
        let key = Mutex::new(key);
        Some(Arc::new(Permit { connections: Arc::clone(self), id, key, inner }))
    }

    fn key(&self, address: Option<IpAddr>) -> Key {
        match address.map(|address| address.to_canonical()) {
            Some(address) if !address.is_loopback() && !(self.stands_for_many)(address) => {
                Key::Address(client_network(address))
            }
            _ => Key::Many,
        }
    }

    /// Closes waiting connections until there is a permit for one of this client; false if that does not help.
    fn make_room(&self, table: &mut Table, key: Key) -> bool {
        let own = match (key, self.limits.anonymous) {
            (Key::Address(_), Some(anonymous)) => anonymous.per_address,
            (Key::Many, _) => usize::MAX,
            _ => self.limits.per_client,
        };
        let lacks = |table: &Table| table.of(key) >= own;
        if lacks(table) && !self.close(table.oldest_of(key), table) {
            return false;
        }
        let anonymous = self.limits.anonymous.filter(|_| !matches!(key, Key::Known(_)));
        if anonymous.is_some_and(|anonymous| table.anonymous >= anonymous.total)
            && !self.close(table.oldest(|key| !matches!(key, Key::Known(_))), table)
        {
            return false;
        }
        table.open < self.limits.total || self.close(table.oldest(|_| true), table)
    }

    /// Closes this connection, if there is one.
    fn close(&self, found: Option<(Key, u64)>, table: &mut Table) -> bool {
        let Some(inner) = found.and_then(|(key, id)| table.remove(key, id)) else { return false };
        self.counts.closed.fetch_add(1, Ordering::Relaxed);
        inner.lose();
        true
    }

    /// Closes connections that have waited too long. Called at least every [`SWEEP_INTERVAL`], by any number of
    /// callers.
    pub fn sweep(&self) {
        self.sweep_at(self.now_ms());
    }

    fn sweep_at(&self, now_ms: u64) {
        let mut table = self.table();
        if now_ms < table.swept_ms.saturating_add(ms(SWEEP_INTERVAL) / 2) {
            return;
        }
        table.swept_ms = now_ms;
        let late = |inner: &Inner| {
            let state = inner.state.load(Ordering::Relaxed);
            let limit = match phase(state) {
                Phase::Head => self.limits.head,
                Phase::Idle => self.limits.idle,
                Phase::Busy => return false,
            };
            now_ms.saturating_sub(state >> 2) > ms(limit)
        };
        let all =
            table.clients.iter().flat_map(|(key, permits)| permits.iter().map(move |permit| (*key, permit)));
        let over: Vec<_> =
            all.filter(|(_, (_, inner))| late(inner)).map(|(key, (id, _))| (key, *id)).collect();
        for found in over {
            self.close(Some(found), &mut table);
        }
    }

    fn now_ms(&self) -> u64 {
        ms(self.began.elapsed())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Table {
    fn of(&self, key: Key) -> usize {
        self.clients.get(&key).map_or(0, BTreeMap::len)
    }

    fn insert(&mut self, key: Key, id: u64, inner: Arc<Inner>) {
        self.open += 1;
        self.anonymous += usize::from(!matches!(key, Key::Known(_)));
        self.clients.entry(key).or_default().insert(id, inner);
    }

    fn remove(&mut self, key: Key, id: u64) -> Option<Arc<Inner>> {
        let permits = self.clients.get_mut(&key)?;
        let inner = permits.remove(&id)?;
        if permits.is_empty() {
            self.clients.remove(&key);
        }
        self.open -= 1;
        self.anonymous -= usize::from(!matches!(key, Key::Known(_)));
        Some(inner)
    }

    /// The connection of this client that waits longest.
    fn oldest_of(&self, key: Key) -> Option<(Key, u64)> {
        let permits = self.clients.get(&key)?.iter();
        let waiting = permits.filter_map(|(id, inner)| Some((inner.waits_since_ms()?, *id)));
        waiting.min().map(|(_, id)| (key, id))
    }

    /// The connection that waits longest, of all clients that may have to go.
    fn oldest(&mut self, may_go: impl Fn(&Key) -> bool) -> Option<(Key, u64)> {
        for fresh in [false, true] {
            if fresh {
                self.look_for_candidates(&may_go);
            }
            while let Some((key, id, state)) = self.candidates.pop_front() {
                let still = self.clients.get(&key).and_then(|permits| permits.get(&id));
                let still = still.is_some_and(|inner| inner.state.load(Ordering::Relaxed) == state);
                if still && may_go(&key) {
                    return Some((key, id));
                }
            }
        }
        None
    }

    fn look_for_candidates(&mut self, may_go: &impl Fn(&Key) -> bool) {
        let clients = self.clients.iter().filter(|(key, _)| may_go(key));
        let all =
            clients.flat_map(|(key, permits)| permits.iter().map(move |(id, inner)| (*key, *id, inner)));
        let mut waiting: Vec<(u64, Key, u64, u64)> = all
            .map(|(key, id, inner)| (key, id, inner.state.load(Ordering::Relaxed)))
            .filter(|(.., state)| phase(*state) != Phase::Busy)
            .map(|(key, id, state)| (state >> 2, key, id, state))
            .collect();
        if waiting.len() > CANDIDATES {
            waiting.select_nth_unstable(CANDIDATES);
            waiting.truncate(CANDIDATES);
        }
        waiting.sort_unstable();
        self.candidates = waiting.into_iter().map(|(_, key, id, state)| (key, id, state)).collect();
    }
}

/// One connection's permit. Given back when the last clone is dropped.
pub struct Permit {
    connections: Arc<Connections>,
    id: u64,
    key: Mutex<Key>,
    inner: Arc<Inner>,
}

impl Permit {
    /// Returns when the permit is lost: the connection must be closed.
    pub async fn lost(&self) {
        while !self.inner.lost.load(Ordering::Relaxed) {
            self.inner.notify.notified().await;
        }
    }

    /// Returns once no head of a request is awaited or under way: the connection carries a request, or is between two.
    pub async fn until_not_in_head(&self) {
        while phase(self.inner.state.load(Ordering::Relaxed)) == Phase::Head {
            tokio::time::sleep(HEAD_POLL).await;
        }
    }

    /// Bytes have arrived: if no request is under way, the head of one has begun.
    pub fn received(&self) {
        if phase(self.inner.state.load(Ordering::Relaxed)) == Phase::Idle {
            self.inner.enter(Phase::Head, self.connections.now_ms());
        }
    }

    /// A request is under way until the result is dropped.
    pub fn request(self: &Arc<Self>) -> Busy {
        self.inner.enter(Phase::Busy, 0);
        Busy(Some(Arc::clone(self)))
    }

    /// The client has authenticated as `who`, whose limit counts from now on. False if that has no permit left: the
    /// connection must be closed.
    pub fn authenticated(&self, who: u64) -> bool {
        let who = who.max(1);
        if self.inner.known.load(Ordering::Relaxed) == who {
            return true;
        }
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = self.connections.table();
        if table.remove(*key, self.id).is_none() {
            return false;
        }
        *key = Key::Known(who);
        if !self.connections.make_room(&mut table, *key) {
            return false;
        }
        table.insert(*key, self.id, Arc::clone(&self.inner));
        self.inner.known.store(who, Ordering::Relaxed);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let key = *self.key.lock().unwrap_or_else(PoisonError::into_inner);
        // Not there any more if it was lost.
        drop(self.connections.table().remove(key, self.id));
    }
}

/// A request under way on a connection.
#[must_use = "the request has ended when this is dropped"]
pub struct Busy(Option<Arc<Permit>>);

impl Busy {
    /// The connection carries no other requests: it has become something else, a WebSocket for example.
    pub fn for_ever(mut self) {
        self.0 = None;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.inner.enter(Phase::Idle, permit.connections.now_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        total: 8,
        per_client: 4,
        anonymous: None,
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    fn connections(limits: Limits) -> Arc<Connections> {
        Connections::new("test", limits, Box::new(|address| address == IpAddr::from([192, 0, 2, 1])))
    }

    fn is_lost(permit: &Permit) -> bool {
        permit.inner.lost.load(Ordering::Relaxed)
    }

    fn set_waiting(permit: &Permit, phase: Phase, since_ms: u64) {
        permit.inner.enter(phase, since_ms);
    }

    #[test]
    fn a_clients_oldest_waiting_connection_makes_room_for_its_next() {
        let connections = connections(LIMITS);
        let permits: Vec<_> = (0..4).map(|_| connections.admit(address("10.0.0.1")).unwrap()).collect();
        let busy = permits[0].request();
        for (index, permit) in permits.iter().enumerate().skip(1) {
            set_waiting(permit, Phase::Head, 10 - index as u64);
        }
        let _other = connections.admit(address("10.0.0.2")).unwrap();
        assert!(permits.iter().all(|permit| !is_lost(permit)));
        let fifth = connections.admit(address("10.0.0.1")).unwrap();
        assert_eq!(
            permits.iter().map(|permit| is_lost(permit)).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        drop((busy, fifth));
        assert_eq!((connections.figures().open, connections.figures().closed), (4, 1));
        drop(permits);
        assert_eq!((connections.figures().open, connections.table().clients.len()), (1, 1));
    }

    #[test]
    fn requests_are_never_cut_off() {
        let connections = connections(LIMITS);
        let permits: Vec<_> = (0..4).map(|_| connections.admit(address("10.0.0.1")).unwrap()).collect();
        let mut busy: Vec<_> = permits.iter().map(Permit::request).collect();
        assert!(connections.admit(address("10.0.0.1")).is_none());
        assert_eq!(connections.figures().refused, 1);
        busy.pop().unwrap().for_ever();
        assert!(connections.admit(address("10.0.0.1")).is_none());
        busy.pop();
        assert!(connections.admit(address("10.0.0.1")).is_some());
        assert!(is_lost(&permits[2]) && !is_lost(&permits[3]));
    }

    #[test]
    fn networks_of_ipv6_count_as_one_client_and_proxies_as_many() {
        let connections = connections(LIMITS);
        let _six: Vec<_> = (1..=5).map(|n| connections.admit(address(&format!("2001:db8::{n}")))).collect();
        assert_eq!((connections.figures().open, connections.figures().closed), (4, 1));
        for many in ["127.0.0.1", "::1", "::ffff:127.0.0.9", "192.0.2.1"] {
            assert_eq!(connections.key(address(many)), Key::Many, "{many}");
        }
        assert_eq!(connections.key(None), Key::Many);
        let same = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| connections.key(address(text)));
        assert_eq!(same[0], same[1]);
        assert_ne!(same[0], connections.key(address("2001:db8:0:1::1")));
        assert_eq!(connections.key(address("::ffff:10.0.0.1")), Key::Address([10, 0, 0, 1].into()));
    }

    #[test]
    fn with_all_places_taken_the_oldest_of_all_goes() {
        let connections = connections(Limits { per_client: 2, ..LIMITS });
        let permits: Vec<_> =
            (0..8).map(|n| connections.admit(address(&format!("10.0.0.{n}"))).unwrap()).collect();
        for (index, permit) in permits.iter().enumerate() {
            set_waiting(permit, Phase::Idle, 100 + index as u64);
        }
        let _busy = permits[0].request();
        let mut newer = Vec::new();
        for n in 0..3 {
            newer.push(connections.admit(address(&format!("10.0.1.{n}"))).unwrap());
            set_waiting(&newer[n], Phase::Head, 1000);
        }
        assert_eq!(permits.iter().position(|permit| !is_lost(permit)), Some(0));
        assert_eq!(permits.iter().filter(|permit| is_lost(permit)).count(), 3);
        assert!(newer.iter().all(|permit| !is_lost(permit)));
        // One that has been busy since the search is not chosen.
        let _busy = permits[4].request();
        let _next = connections.admit(address("10.0.2.1")).unwrap();
        assert!(!is_lost(&permits[4]) && is_lost(&permits[5]));
    }

    #[test]
    fn who_has_not_authenticated_has_a_smaller_part() {
        let anonymous = Some(Anonymous { total: 4, per_address: 2 });
        let connections = connections(Limits { per_client: 3, anonymous, ..LIMITS });
        let known: Vec<_> = (0..3).map(|_| connections.admit(address("127.0.0.1")).unwrap()).collect();
        assert!(known.iter().all(|permit| permit.authenticated(7)));
        let _strangers: Vec<_> = (0..9).map(|n| connections.admit(address(&format!("10.0.0.{n}")))).collect();
        assert_eq!((connections.figures().open, connections.table().anonymous), (7, 4));
        assert!(known.iter().all(|permit| !is_lost(permit)));
        let _same: Vec<_> = (0..9).map(|_| connections.admit(address("10.0.1.1"))).collect();
        assert_eq!(connections.table().of(Key::Address([10, 0, 1, 1].into())), 2);
        // The limit of one who is known.
        let busy: Vec<_> = known.iter().map(Permit::request).collect();
        let fourth = connections.admit(address("127.0.0.1")).unwrap();
        assert!(!fourth.authenticated(7) && known[0].authenticated(7));
        drop((busy, known));
        assert!(connections.admit(address("127.0.0.1")).unwrap().authenticated(7));
    }

    #[tokio::test]
    async fn heads_and_pauses_that_take_too_long_end_the_connection() {
        let connections = connections(LIMITS);
        let permits = [0; 4].map(|_| connections.admit(None).unwrap());
        let [silent, paused, slow, busy] = &permits;
        let _request = busy.request();
        drop(paused.request());
        drop(slow.request());
        slow.received();
        let lost = || permits.each_ref().map(|permit| is_lost(permit));
        connections.sweep_at(9_000);
        assert_eq!(lost(), [false; 4]);
        connections.sweep_at(11_000);
        assert_eq!(lost(), [true, false, true, false]);
        silent.lost().await;
        connections.sweep_at(61_000);
        assert_eq!(lost(), [true, true, true, false]);
        assert_eq!(connections.figures().open, 1);
    }
}
