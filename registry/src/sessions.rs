//! Uploads that take several requests: each has an id, and belongs to the repository that it was begun for.
//!
//! A request takes an upload out and puts it back, so that no two write to the same one. Takes the time as an argument.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_common::image::Repository;

use crate::content::{Content, ContentError, Upload};

/// How long an upload without requests is kept: longer than any client waits before a retry.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
/// Most at once: fewer than the content store allows, so that uploads in one request find room too.
pub const MAX_SESSIONS: usize = 128;

/// Why an upload cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is none with this id.
    #[error(
        "there is no such upload: it was finished or cancelled, or nobody went on with it for {} minutes; begin another",
        IDLE.as_secs() / 60
    )]
    Unknown,
    /// Another request is writing to it.
    #[error("another request is writing to this upload")]
    Busy,
    /// There are too many.
    #[error(
        "{MAX_SESSIONS} uploads are open, which is the most there can be: finish or cancel some, or try again later"
    )]
    TooMany,
    /// It could not be begun.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// The open uploads.
#[derive(Debug, Default)]
pub struct Sessions {
    /// By id. The lock is held only for a look-up.
    open: Mutex<HashMap<String, Session>>,
}

#[derive(Debug)]
struct Session {
    repository: Repository,
    /// None while a request writes to it.
    upload: Option<Upload>,
    last_use: Instant,
}

impl Sessions {
    /// Begins an upload with this id, which must not be guessable.
    pub fn begin(
        &self,
        id: String,
        repository: Repository,
        content: &Content,
        now: Instant,
    ) -> Result<(), SessionError> {
        self.expire(now);
        if self.lock().len() >= MAX_SESSIONS {
            return Err(SessionError::TooMany);
        }
        let upload = Some(content.begin()?);
        self.lock().insert(id, Session { repository, upload, last_use: now });
        Ok(())
    }

    /// Takes an upload out to write to it.
    pub fn take(&self, id: &str, repository: &Repository, now: Instant) -> Result<Upload, SessionError> {
        self.expire(now);
        let mut open = self.lock();
        let session = open.get_mut(id).filter(|session| session.repository == *repository);
        let session = session.ok_or(SessionError::Unknown)?;
        session.last_use = now;
        session.upload.take().ok_or(SessionError::Busy)
    }

    /// Puts an upload back. If it was cancelled in the meantime, it is dropped.
    pub fn put_back(&self, id: &str, upload: Upload, now: Instant) {
        if let Some(session) = self.lock().get_mut(id) {
            session.upload = Some(upload);
            session.last_use = now;
        }
    }

    /// The received bytes.
    pub fn length(&self, id: &str, repository: &Repository, now: Instant) -> Result<u64, SessionError> {
        self.expire(now);
        let mut open = self.lock();
        let session = open.get_mut(id).filter(|session| session.repository == *repository);
        let session = session.ok_or(SessionError::Unknown)?;
        session.last_use = now;
        session.upload.as_ref().map(Upload::length).ok_or(SessionError::Busy)
    }

    /// Ends an upload. False if there is none.
    pub fn remove(&self, id: &str, repository: &Repository) -> bool {
        let mut open = self.lock();
        let known = open.get(id).is_some_and(|session| session.repository == *repository);
        // The file is removed after the lock is released.
        let removed = if known { open.remove(id) } else { None };
        drop(open);
        removed.is_some()
    }

    /// Ends abandoned uploads. One that is being written to is in use.
    pub fn expire(&self, now: Instant) {
        let idle = |session: &Session| {
            session.upload.is_some() && now.saturating_duration_since(session.last_use) >= IDLE
        };
        let expired: Vec<Session> =
            self.lock().extract_if(|_, session| idle(session)).map(|(_, s)| s).collect();
        drop(expired);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use berth_common::image::Digest;

    use super::*;
    use crate::content::Limits;

    fn store() -> (tempfile::TempDir, Content, Sessions, Repository) {
        let directory = tempfile::tempdir().unwrap();
        let limits = Limits { blob_bytes: 100, total_bytes: 1000 };
        let content = Content::open(directory.path(), limits).unwrap();
        (directory, content, Sessions::default(), "a/b".parse().unwrap())
    }

    #[test]
    fn an_upload_is_continued_where_it_was() {
        let (_directory, content, sessions, repository) = store();
        let now = Instant::now();
        sessions.begin("id".to_owned(), repository.clone(), &content, now).unwrap();
        let mut upload = sessions.take("id", &repository, now).unwrap();
        upload.write(b"he").unwrap();
        assert!(matches!(sessions.take("id", &repository, now), Err(SessionError::Busy)));
        sessions.put_back("id", upload, now);
        assert_eq!(sessions.length("id", &repository, now).unwrap(), 2);
        let other = "other".parse().unwrap();
        assert!(matches!(sessions.take("id", &other, now), Err(SessionError::Unknown)));
        assert!(!sessions.remove("id", &other));
        let mut upload = sessions.take("id", &repository, now).unwrap();
        upload.write(b"y").unwrap();
        assert!(sessions.remove("id", &repository));
        upload.finish(&Digest::of(b"hey")).unwrap();
        assert_eq!(content.used().0, 3);
    }

    #[test]
    fn idle_uploads_are_dropped_unless_they_are_being_written_to() {
        let (_directory, content, sessions, repository) = store();
        let (now, later) = (Instant::now(), Instant::now() + IDLE);
        for id in ["idle", "busy"] {
            sessions.begin(id.to_owned(), repository.clone(), &content, now).unwrap();
        }
        let mut idle = sessions.take("idle", &repository, now).unwrap();
        idle.write(&[0; 50]).unwrap();
        sessions.put_back("idle", idle, now);
        let busy = sessions.take("busy", &repository, now).unwrap();
        sessions.expire(later);
        assert_eq!(content.used().0, 0);
        assert!(matches!(sessions.length("idle", &repository, later), Err(SessionError::Unknown)));
        sessions.put_back("busy", busy, later);
        assert_eq!(sessions.length("busy", &repository, later).unwrap(), 0);
    }

    #[test]
    fn the_number_of_uploads_is_limited_and_a_cancelled_one_leaves_nothing() {
        let (_directory, content, sessions, repository) = store();
        let now = Instant::now();
        for n in 0..MAX_SESSIONS {
            sessions.begin(n.to_string(), repository.clone(), &content, now).unwrap();
        }
        let more = sessions.begin("x".to_owned(), repository.clone(), &content, now);
        assert!(matches!(more, Err(SessionError::TooMany)));
        let mut taken = sessions.take("0", &repository, now).unwrap();
        taken.write(&[0; 10]).unwrap();
        assert!(sessions.remove("0", &repository));
        sessions.put_back("0", taken, now);
        assert_eq!((content.used().0, content.usage().uploads), (0, MAX_SESSIONS - 1));
    }
}
