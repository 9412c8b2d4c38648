//! Open connections, and which one to close when a limit is reached.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::connection::{Phase, PhaseCell};

/// Connections beyond the limit, for health checks only.
const RESERVE: usize = 32;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// In total.
    pub total: usize,
    /// Per address.
    pub per_address: usize,
    /// Per address, for unauthenticated clients.
    pub anonymous_per_address: usize,
}

/// How a new connection is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// In full.
    Full,
    /// Health checks only; everything else gets 503.
    HealthOnly,
}

/// An open connection.
#[derive(Debug)]
struct Open {
    address: IpAddr,
    client: Arc<Client>,
    admission: Admission,
}

/// State shared by a connection's service and the registry.
#[derive(Debug, Default)]
pub(super) struct Client {
    pub phase: Arc<PhaseCell>,
    /// Set once a request on this connection was authenticated.
    pub is_known: AtomicBool,
    /// Cancelled to close the connection.
    pub close: CancellationToken,
}

impl Client {
    fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// Whether it can be closed: unauthenticated, and no request in progress.
    fn is_expendable(&self) -> bool {
        !self.is_known() && self.phase.get() != Phase::Busy && !self.close.is_cancelled()
    }
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    /// By order of arrival.
    open: BTreeMap<u64, Open>,
    by_address: HashMap<IpAddr, usize>,
    health_only: usize,
}

/// Every open connection.
#[derive(Debug)]
pub(super) struct Registry {
    limits: ConnectionLimits,
    connections: Mutex<Connections>,
}

/// The result for a new connection.
#[derive(Debug)]
pub(super) enum Entry {
    /// Admitted; dropping the slot removes it.
    Admitted(Place),
    /// Rejected: even the reserve is used up.
    Refused,
}

/// A connection's slot.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    pub client: Arc<Client>,
    pub admission: Admission,
    /// Another connection was closed for it.
    pub has_displaced: bool,
}

impl Registry {
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self { limits, connections: Mutex::default() })
    }

    /// Admits a connection from `address`. If a limit is reached, the oldest closable connection is closed: a client that
    /// sends its request immediately is served, one that keeps connections open loses them.
    pub fn enter(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Entry {
        let mut connections = self.connections.lock();
        let mut has_displaced = false;
        let is_crowded = !is_proxy && self.is_crowded(&connections, address);
        if is_crowded {
            let of_address = |open: &Open| open.address == address;
            if !close_oldest(&connections, of_address) {
                return Entry::Refused;
            }
            has_displaced = true;
        }
        let mut admission = Admission::Full;
        if connections.open.len() - connections.health_only >= self.limits.total {
            if close_oldest(&connections, |open| open.admission == Admission::Full) {
                has_displaced = true;
            } else {
                admission = Admission::HealthOnly;
            }
        }
        if admission == Admission::HealthOnly && connections.health_only >= RESERVE {
            if !close_oldest(&connections, |open| open.admission == Admission::HealthOnly) {
                return Entry::Refused;
            }
            has_displaced = true;
        }
        let number = connections.next;
        connections.next += 1;
        let client = Arc::new(Client::default());
        connections.open.insert(number, Open { address, client: Arc::clone(&client), admission });
        *connections.by_address.entry(address).or_default() += 1;
        connections.health_only += usize::from(admission == Admission::HealthOnly);
        drop(connections);
        Entry::Admitted(Place { registry: Arc::clone(self), number, client, admission, has_displaced })
    }

    fn is_crowded(&self, connections: &Connections, address: IpAddr) -> bool {
        let count = connections.by_address.get(&address).copied().unwrap_or_default();
        if count < self.limits.anonymous_per_address {
            return false;
        }
        let anonymous = connections
            .open
            .values()
            .filter(|open| open.address == address && !open.client.is_known())
            .count();
        count >= self.limits.per_address || anonymous >= self.limits.anonymous_per_address
    }

    fn leave(&self, number: u64) {
        let mut connections = self.connections.lock();
        let Some(open) = connections.open.remove(&number) else { return };
        connections.health_only -= usize::from(open.admission == Admission::HealthOnly);
        if let Some(count) = connections.by_address.get_mut(&open.address) {
            *count -= 1;
            if *count == 0 {
                connections.by_address.remove(&open.address);
            }
        }
    }

    /// Open connections.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.connections.lock().open.len()
    }
}

/// Closes the oldest closable connection that matches `is_one_of`. Returns whether there was one.
fn close_oldest(connections: &Connections, is_one_of: impl Fn(&Open) -> bool) -> bool {
    let oldest = connections.open.values().find(|open| is_one_of(open) && open.client.is_expendable());
    oldest.inspect(|open| open.client.close.cancel()).is_some()
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits { total: 6, per_address: 5, anonymous_per_address: 3 };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn enter(registry: &Arc<Registry>, last: u8) -> Place {
        match registry.enter(address(last), false) {
            Entry::Admitted(place) => place,
            Entry::Refused => panic!("refused"),
        }
    }

    #[test]
    fn an_address_that_holds_connections_open_loses_its_oldest() {
        let registry = Registry::new(LIMITS);
        let held: Vec<Place> = (0..3).map(|_| enter(&registry, 1)).collect();
        let fourth = enter(&registry, 1);
        assert!(fourth.has_displaced && held[0].client.close.is_cancelled());
        assert!(!held[1].client.close.is_cancelled(), "one for one");
    }

    #[test]
    fn a_connection_with_a_request_under_way_is_never_displaced() {
        let registry = Registry::new(LIMITS);
        let held: Vec<Place> = (0..3).map(|_| enter(&registry, 1)).collect();
        for place in &held {
            place.client.phase.set(Phase::Busy);
        }
        assert!(matches!(registry.enter(address(1), false), Entry::Refused));
        assert!(matches!(registry.enter(address(2), false), Entry::Admitted(_)), "others get in");
    }

    #[test]
    fn known_clients_have_a_higher_limit_and_are_not_displaced() {
        let registry = Registry::new(LIMITS);
        let held: Vec<Place> = (0..5)
            .map(|_| {
                let place = enter(&registry, 1);
                place.client.is_known.store(true, Ordering::Relaxed);
                place
            })
            .collect();
        assert!(matches!(registry.enter(address(1), false), Entry::Refused));
        assert!(held.iter().all(|place| !place.client.close.is_cancelled()));
    }

    #[test]
    fn a_proxy_has_no_limit_of_its_own() {
        let registry = Registry::new(LIMITS);
        let held: Vec<Entry> = (0..6).map(|_| registry.enter(address(9), true)).collect();
        assert!(held.iter().all(|entry| matches!(entry, Entry::Admitted(place) if !place.has_displaced)));
    }

    #[test]
    fn health_is_answered_when_everything_is_busy() {
        let registry = Registry::new(LIMITS);
        let busy: Vec<Place> = (0..6)
            .map(|last| {
                let place = enter(&registry, last);
                place.client.phase.set(Phase::Busy);
                place
            })
            .collect();
        let beyond = enter(&registry, 100);
        assert_eq!(beyond.admission, Admission::HealthOnly);
        drop(busy);
        assert_eq!(enter(&registry, 101).admission, Admission::Full);
        assert_eq!(registry.count(), 1);
    }
}
