//! Deduplicates concurrent work by name: all callers share one result. The work goes on even if all of them go away.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared};

pub(super) type Flight<T> = Shared<LocalBoxFuture<'static, T>>;

/// Pending work by name.
pub(super) struct Flights<T: Clone> {
    flying: Rc<RefCell<HashMap<String, Flight<T>>>>,
}

impl<T: Clone> Default for Flights<T> {
    fn default() -> Self {
        Self { flying: Rc::default() }
    }
}

impl<T: Clone> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.flying.borrow().keys()).finish()
    }
}

impl<T: Clone + 'static> Flights<T> {
    /// Joins the pending work with this name, or starts it.
    pub(super) fn join(&self, name: String, work: impl FnOnce() -> LocalBoxFuture<'static, T>) -> Flight<T> {
        if let Some(flight) = self.flying.borrow().get(&name) {
            return flight.clone();
        }
        let (flying, work, key) = (Rc::clone(&self.flying), work(), name.clone());
        let flight = async move {
            let done = work.await;
            flying.borrow_mut().remove(&key);
            done
        };
        let flight = flight.boxed_local().shared();
        self.flying.borrow_mut().insert(name, flight.clone());
        tokio::task::spawn_local(flight.clone());
        flight
    }

    /// The pending work with this name, if there is any.
    pub(super) fn joined(&self, name: &str) -> Option<Flight<T>> {
        self.flying.borrow().get(name).cloned()
    }

    /// Whether work with this name is pending.
    pub(super) fn has(&self, name: &str) -> bool {
        self.flying.borrow().contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn concurrent_callers_share_the_work_and_later_ones_start_it_again() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let (flights, begun) = (Flights::default(), Rc::new(Cell::new(0)));
                let work = || {
                    let begun = Rc::clone(&begun);
                    flights.join("x".to_owned(), || {
                        Box::pin(async move {
                            begun.set(begun.get() + 1);
                            tokio::task::yield_now().await;
                            begun.get()
                        })
                    })
                };
                let (first, second) = (work(), work());
                drop(work());
                assert!(flights.has("x"));
                assert_eq!((first.await, second.await), (1, 1));
                assert!(!flights.has("x"));
                assert_eq!(work().await, 2);
            })
            .await;
    }
}
