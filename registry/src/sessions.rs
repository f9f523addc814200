//! Uploads that take several requests: each has an id, and belongs to the repository that it was begun for.
//!
//! A request takes an upload out and puts it back, so that no two write to the same one. Takes the time as an argument.
//! An upload outlives the edge: its bytes are in a file that is named after it, and beside it lies whose it is.
//!
//! ```text
//! UPLOADS/upload-ID        the bytes so far
//! UPLOADS/upload-ID.json   the repository, and the boot of the machine: after a crash of the machine it is not known
//!                          which of the bytes are on the disk, and the upload is begun anew
//! ```

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_common::image::Repository;
use serde::{Deserialize, Serialize};

use crate::content::{Content, ContentError, Upload};

/// How long an upload without requests is kept: longer than any client waits before a retry.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
/// Most at once: fewer than the content store allows, so that uploads in one request find room too.
pub const MAX_SESSIONS: usize = 128;
/// The beginning of the names of their files, and the end of those that say whose they are.
const PREFIX: &str = "upload-";
const NOTE: &str = ".json";

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
#[derive(Debug)]
pub struct Sessions {
    content: Content,
    /// The boot id of the machine.
    boot: String,
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

/// Whose an upload is.
#[derive(Serialize, Deserialize)]
struct Note {
    repository: Repository,
    boot: String,
}

/// The boot id of the machine, from the service manager or the kernel, which an edge under systemd does not see. Without
/// either it is one that no other run has: uploads then begin anew.
fn boot_id() -> String {
    let told = std::env::var("BERTH_BOOT_ID").ok().filter(|id| !id.is_empty());
    let known = told.or_else(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok());
    let id = known.unwrap_or_else(|| format!("{}-{:?}", std::process::id(), std::time::SystemTime::now()));
    id.trim().replace('-', "")
}

impl Sessions {
    /// Those that an earlier edge left, to be gone on with. What cannot be is removed.
    pub fn open(content: &Content, now: Instant) -> io::Result<Self> {
        let sessions = Self { content: content.clone(), boot: boot_id(), open: Mutex::default() };
        for name in content.uploads_named(PREFIX)? {
            let Some(id) = name.strip_prefix(PREFIX).filter(|name| !name.ends_with(NOTE)) else { continue };
            match sessions.left(id).ok().flatten() {
                Some((repository, upload)) => {
                    let session = Session { repository, upload: Some(upload), last_use: now };
                    sessions.lock().insert(id.to_owned(), session);
                }
                None => sessions.erase(id),
            }
        }
        for name in content.uploads_named(PREFIX)? {
            let id = name.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(NOTE));
            if let Some(id) = id.filter(|id| !sessions.lock().contains_key(*id)) {
                sessions.erase(id);
            }
        }
        Ok(sessions)
    }

    /// An upload of an earlier edge, if its bytes are known.
    fn left(&self, id: &str) -> Result<Option<(Repository, Upload)>, ContentError> {
        let note = std::fs::read(self.content.upload_path(&format!("{PREFIX}{id}{NOTE}")))?;
        let note: Option<Note> = serde_json::from_slice(&note).ok();
        let Some(note) = note.filter(|note| note.boot == self.boot) else { return Ok(None) };
        Ok(Some((note.repository, self.content.resume(&format!("{PREFIX}{id}"))?)))
    }

    /// Begins an upload with this id, which must not be guessable.
    pub fn begin(&self, id: String, repository: Repository, now: Instant) -> Result<(), SessionError> {
        self.expire(now);
        if self.lock().len() >= MAX_SESSIONS {
            return Err(SessionError::TooMany);
        }
        let note = Note { repository: repository.clone(), boot: self.boot.clone() };
        let note = serde_json::to_vec(&note).map_err(io::Error::from);
        let path = self.content.upload_path(&format!("{PREFIX}{id}{NOTE}"));
        let begun = note
            .and_then(|note| std::fs::write(path, note))
            .map_err(ContentError::from)
            .and_then(|()| self.content.resume(&format!("{PREFIX}{id}")));
        match begun {
            Ok(upload) => {
                let session = Session { repository, upload: Some(upload), last_use: now };
                self.lock().insert(id, session);
                Ok(())
            }
            Err(error) => {
                self.erase(&id);
                Err(error.into())
            }
        }
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
        match self.lock().get_mut(id) {
            Some(session) => {
                session.upload = Some(upload);
                session.last_use = now;
            }
            None => upload.discard(),
        }
    }

    /// Gives an upload back that was lost with its request: what its file has is gone on with.
    pub fn recover(&self, id: &str, repository: &Repository, now: Instant) {
        match self.content.resume(&format!("{PREFIX}{id}")) {
            Ok(upload) => self.put_back(id, upload, now),
            Err(_) => {
                self.remove(id, repository);
                self.erase(id);
            }
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

    /// Ends an upload with its bytes, unless they were taken out. False if there is none.
    pub fn remove(&self, id: &str, repository: &Repository) -> bool {
        let mut open = self.lock();
        let known = open.get(id).is_some_and(|session| session.repository == *repository);
        // The file is removed after the lock is released.
        let removed = if known { open.remove(id) } else { None };
        drop(open);
        if let Some(session) = removed {
            self.end(id, session);
            return true;
        }
        false
    }

    /// Ends abandoned uploads. One that is being written to is in use.
    pub fn expire(&self, now: Instant) {
        let idle = |session: &Session| {
            session.upload.is_some() && now.saturating_duration_since(session.last_use) >= IDLE
        };
        let expired: Vec<_> = self.lock().extract_if(|_, session| idle(session)).collect();
        for (id, session) in expired {
            self.end(&id, session);
        }
    }

    fn end(&self, id: &str, session: Session) {
        self.content.remove_upload(&format!("{PREFIX}{id}{NOTE}"));
        if let Some(upload) = session.upload {
            upload.discard();
        }
    }

    /// Removes the files of an upload.
    fn erase(&self, id: &str) {
        self.content.remove_upload(&format!("{PREFIX}{id}{NOTE}"));
        self.content.remove_upload(&format!("{PREFIX}{id}"));
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

    fn open(directory: &std::path::Path) -> (Content, Sessions) {
        let limits = Limits { blob_bytes: 100, total_bytes: 1000 };
        let content = Content::open(directory, limits).unwrap();
        let sessions = Sessions::open(&content, Instant::now()).unwrap();
        (content, sessions)
    }

    fn store() -> (tempfile::TempDir, Content, Sessions, Repository) {
        let directory = tempfile::tempdir().unwrap();
        let (content, sessions) = open(directory.path());
        (directory, content, sessions, "a/b".parse().unwrap())
    }

    fn files(directory: &tempfile::TempDir) -> usize {
        std::fs::read_dir(directory.path().join("uploads")).unwrap().count()
    }

    #[test]
    fn uploads_are_gone_on_with_by_the_next_edge() {
        let (directory, content, sessions, repository) = store();
        let now = Instant::now();
        for id in ["idle", "busy", "lost"] {
            sessions.begin(id.to_owned(), repository.clone(), now).unwrap();
            let mut upload = sessions.take(id, &repository, now).unwrap();
            upload.write(b"he").unwrap();
            sessions.put_back(id, upload, now);
        }
        // One is being written to when the edge ends, another is cancelled, and one request never gets further.
        let mut busy = sessions.take("busy", &repository, now).unwrap();
        busy.write(b"l").unwrap();
        assert!(sessions.remove("lost", &repository));
        let mut alone = content.begin().unwrap();
        alone.write(b"x").unwrap();
        std::mem::forget(alone);
        drop((busy, sessions, content));
        let (content, sessions) = open(directory.path());
        assert_eq!((content.used().0, content.usage().uploads, files(&directory)), (5, 2, 4));
        assert_eq!(sessions.length("idle", &repository, now).unwrap(), 2);
        assert!(matches!(sessions.length("idle", &"x".parse().unwrap(), now), Err(SessionError::Unknown)));
        let mut upload = sessions.take("busy", &repository, now).unwrap();
        upload.write(b"lo").unwrap();
        sessions.remove("busy", &repository);
        upload.finish(&Digest::of(b"hello")).unwrap();
        // The blob, and the other upload.
        assert_eq!(content.used().0, 5 + 2);
        let later = Instant::now() + IDLE;
        sessions.expire(later);
        assert_eq!(files(&directory), 0);
    }

    #[test]
    fn uploads_of_before_a_crash_of_the_machine_are_removed() {
        let (directory, content, sessions, repository) = store();
        let now = Instant::now();
        for id in ["a", "b"] {
            sessions.begin(id.to_owned(), repository.clone(), now).unwrap();
        }
        drop((sessions, content));
        let uploads = directory.path().join("uploads");
        let note = r#"{"repository":"a/b","boot":"another"}"#;
        std::fs::write(uploads.join("upload-a.json"), note).unwrap();
        std::fs::remove_file(uploads.join("upload-b")).unwrap();
        let (content, sessions) = open(directory.path());
        for id in ["a", "b"] {
            assert!(matches!(sessions.length(id, &repository, now), Err(SessionError::Unknown)));
        }
        assert_eq!((content.usage().uploads, files(&directory)), (0, 0));
    }

    #[test]
    fn an_upload_is_continued_where_it_was() {
        let (_directory, content, sessions, repository) = store();
        let now = Instant::now();
        sessions.begin("id".to_owned(), repository.clone(), now).unwrap();
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
    fn an_upload_that_was_lost_with_its_request_is_recovered_unless_it_was_cancelled() {
        let (directory, content, sessions, repository) = store();
        let now = Instant::now();
        for id in ["id", "cancelled"] {
            sessions.begin(id.to_owned(), repository.clone(), now).unwrap();
            let mut upload = sessions.take(id, &repository, now).unwrap();
            upload.write(b"he").unwrap();
        }
        assert!(matches!(sessions.length("id", &repository, now), Err(SessionError::Busy)));
        assert!(sessions.remove("cancelled", &repository));
        ["id", "cancelled"].into_iter().for_each(|id| sessions.recover(id, &repository, now));
        assert_eq!((sessions.length("id", &repository, now).unwrap(), content.used().0), (2, 2));
        assert_eq!(files(&directory), 2, "the one, with its note");
    }

    #[test]
    fn idle_uploads_are_dropped_unless_they_are_being_written_to() {
        let (_directory, content, sessions, repository) = store();
        let (now, later) = (Instant::now(), Instant::now() + IDLE);
        for id in ["idle", "busy"] {
            sessions.begin(id.to_owned(), repository.clone(), now).unwrap();
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
            sessions.begin(n.to_string(), repository.clone(), now).unwrap();
        }
        let more = sessions.begin("x".to_owned(), repository.clone(), now);
        assert!(matches!(more, Err(SessionError::TooMany)));
        let mut taken = sessions.take("0", &repository, now).unwrap();
        taken.write(&[0; 10]).unwrap();
        assert!(sessions.remove("0", &repository));
        sessions.put_back("0", taken, now);
        assert_eq!((content.used().0, content.usage().uploads), (0, MAX_SESSIONS - 1));
    }
}
