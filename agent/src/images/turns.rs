//! Turns at spool files: one attempt at a time fetches into one and unpacks from it, the others wait.
//!
//! Images share layers, and a layer may be unpacked onto several others: each attempt would take away the file of
//! another one, or write into it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type SpoolFiles = Rc<RefCell<HashMap<String, SpoolFile>>>;

/// Who uses which file.
#[derive(Debug, Default)]
pub(super) struct Turns {
    files: SpoolFiles,
}

#[derive(Debug)]
struct SpoolFile {
    /// How many have the turn or wait for it.
    users: usize,
    turn: Arc<Semaphore>,
}

/// The turn at a file, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    user: User,
    _permit: Option<OwnedSemaphorePermit>,
}

/// One that has the turn or waits for it.
#[derive(Debug)]
struct User {
    files: SpoolFiles,
    name: String,
}

impl Turns {
    /// Waits for the turn at the file with this name.
    pub(super) async fn take(&self, name: String) -> Turn {
        let turn = {
            let mut files = self.files.borrow_mut();
            let new = || SpoolFile { users: 0, turn: Arc::new(Semaphore::new(1)) };
            let file = files.entry(name.clone()).or_insert_with(new);
            file.users += 1;
            Arc::clone(&file.turn)
        };
        let user = User { files: Rc::clone(&self.files), name };
        // Never closed.
        Turn { user, _permit: turn.acquire_owned().await.ok() }
    }

    /// Whether somebody has the turn at this file, or waits for it.
    pub(super) fn are_wanted(&self, name: &str) -> bool {
        self.files.borrow().contains_key(name)
    }
}

impl Turn {
    /// Whether others wait for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.user.files.borrow().get(&self.user.name).is_some_and(|file| file.users > 1)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut files = self.files.borrow_mut();
        if let Some(file) = files.get_mut(&self.name) {
            file.users -= 1;
            if file.users == 0 {
                files.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_and_others_wait_or_go_away() {
        let turns = Turns::default();
        let first = turns.take("x".to_owned()).await;
        assert!(!first.is_awaited() && turns.are_wanted("x") && !turns.are_wanted("y"));
        drop(turns.take("y".to_owned()).await);
        let mut second = Box::pin(turns.take("x".to_owned()));
        assert!((&mut second).now_or_never().is_none() && first.is_awaited());
        {
            let mut third = Box::pin(turns.take("x".to_owned()));
            assert!((&mut third).now_or_never().is_none());
        }
        drop(first);
        let second = second.await;
        assert!(!second.is_awaited());
        drop(second);
        assert!(!turns.are_wanted("x"));
    }
}
