//! Waiting for several descriptors at once.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of the descriptors is readable or has an error, or until the deadline. Returns which are, in order;
/// false for those that are `None`.
pub(crate) fn wait(sources: &[Option<BorrowedFd<'_>>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        sources.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, patience(deadline)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut results = polled.iter().map(|p| p.revents().is_some_and(|r| !r.is_empty()));
    Ok(sources.iter().map(|s| s.is_some() && results.next().unwrap_or(false)).collect())
}

fn patience(deadline: Option<Instant>) -> PollTimeout {
    let Some(at) = deadline else { return PollTimeout::NONE };
    let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
