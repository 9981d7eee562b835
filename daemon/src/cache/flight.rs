//! Single flight: equal compiles at the same time are done once.
//!
//! Who comes first leads, the others wait for what it lands. Invariant: a leader that goes away
//! without landing (its client hung up, its job was killed) wakes everybody who waits, and one of
//! them leads instead; so nobody waits for something that nobody does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::entry::Kept;
use super::key::Key;

type Landed = Option<Arc<Kept>>;

/// What is being done now.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Key, watch::Receiver<Landed>>>);

/// The part of one job in a flight.
#[derive(Debug)]
pub enum Seat {
    /// It does the work.
    Leader(Leader),
    /// Another one does.
    Waiter(Waiter),
}

/// Who does the work.
#[derive(Debug)]
pub struct Leader {
    flights: Arc<Flights>,
    key: Key,
    sender: watch::Sender<Landed>,
}

/// Who waits for it.
#[derive(Debug)]
pub struct Waiter(watch::Receiver<Landed>);

impl Flights {
    /// Joins the flight of `key`, or leads a new one.
    pub(super) fn join(self: &Arc<Self>, key: Key) -> Seat {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return Seat::Waiter(Waiter(flight.clone()));
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(key, receiver);
        Seat::Leader(Leader {
            flights: Arc::clone(self),
            key,
            sender,
        })
    }
}

impl Leader {
    /// What it is about.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Gives the result to everybody who waits, and to who comes while this lives.
    pub(super) fn land(&self, kept: Arc<Kept>) {
        self.sender.send_replace(Some(kept));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let flights = self.flights.0.lock();
        flights
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

impl Waiter {
    /// Waits for the result; none when the leader went away without one.
    pub async fn landed(mut self) -> Option<Arc<Kept>> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([1; 32]);

    fn leader(flights: &Arc<Flights>) -> Leader {
        match flights.join(KEY) {
            Seat::Leader(leader) => leader,
            Seat::Waiter(_) => panic!("somebody leads already"),
        }
    }

    fn waiter(flights: &Arc<Flights>) -> Waiter {
        match flights.join(KEY) {
            Seat::Leader(_) => panic!("nobody leads"),
            Seat::Waiter(waiter) => waiter,
        }
    }

    #[tokio::test]
    async fn everybody_who_waits_gets_what_the_leader_lands() {
        let flights = Arc::new(Flights::default());
        let first = leader(&flights);
        let waiters: Vec<_> = (0..100).map(|_| waiter(&flights)).collect();
        let kept = Arc::new(Kept::default());
        first.land(Arc::clone(&kept));
        let late = waiter(&flights);
        for waiter in waiters.into_iter().chain([late]) {
            assert_eq!(waiter.landed().await, Some(Arc::clone(&kept)));
        }
        drop(first);
        drop(leader(&flights));
    }

    #[tokio::test]
    async fn a_leader_that_goes_away_is_followed_by_another() {
        let flights = Arc::new(Flights::default());
        let first = leader(&flights);
        let (one, two) = (waiter(&flights), waiter(&flights));
        drop(first);
        assert_eq!(one.landed().await, None);
        assert_eq!(two.landed().await, None);
        let second = leader(&flights);
        assert!(matches!(flights.join(KEY), Seat::Waiter(_)));
        drop(second);
    }
}
