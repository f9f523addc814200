//! Watches which instances run, by what the witness in each writes (`tests/probe`): the times are of the machine's one clock, so two
//! instances of an object that run at once are seen, however short.
//!
//! ```text
//! a thread: every node's new containers ──▶ open `/witness` in each, and keep it open when the container is gone
//! at the end: read all ──▶ by object, in order of their first time: the last time of one is before the first of the next
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use berth_cluster::cgroup;

use crate::cluster::Cluster;

/// How often is looked for new containers: most live for seconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Variables that Berth gives to each container.
const INSTANCE: &str = "BERTH_DEPLOYMENT_ID=";
const OBJECT: &str = "BERTH_OBJECT_NAME=";

/// The watch over a cluster. It ends with this value.
#[derive(Debug)]
pub struct Watch {
    groups: Arc<Vec<PathBuf>>,
    found: Arc<Mutex<BTreeMap<String, Testimony>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One instance's file.
#[derive(Debug)]
struct Testimony {
    object: String,
    file: File,
}

/// What was found out at the end.
#[derive(Debug)]
pub struct Verdict {
    /// How many instances of each object have run.
    pub instances: BTreeMap<String, usize>,
}

/// While an instance has run, in milliseconds of `CLOCK_BOOTTIME`.
#[derive(Debug)]
struct Life {
    instance: String,
    first_ms: u64,
    last_ms: u64,
}

impl Watch {
    /// Watches all nodes of a cluster.
    pub fn begin(cluster: &Cluster) -> Self {
        let groups =
            Arc::new(cluster.nodes().iter().map(|node| node.cgroup().to_owned()).collect::<Vec<_>>());
        let (found, over) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (groups, found, over) = (Arc::clone(&groups), Arc::clone(&found), Arc::clone(&over));
            move || {
                while !over.load(Ordering::Relaxed) {
                    look(&groups, &found);
                    thread::sleep(LOOK_EVERY);
                }
            }
        });
        Self { groups, found, over, thread: Some(thread) }
    }

    /// Ends the watch. Fails if two instances of an object have run at once.
    pub fn end(mut self) -> Result<Verdict> {
        self.stop()?;
        look(&self.groups, &self.found);
        let mut lives = BTreeMap::<String, Vec<Life>>::new();
        for (instance, testimony) in std::mem::take(&mut *lock(&self.found)) {
            let object = testimony.object.clone();
            lives.entry(object).or_default().extend(testimony.read(instance)?);
        }
        lives.iter_mut().try_for_each(|(object, lives)| one_after_the_other(object, lives))?;
        Ok(Verdict { instances: lives.into_iter().map(|(object, lives)| (object, lives.len())).collect() })
    }

    fn stop(&mut self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the watch has panicked"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // One that has panicked is told of where its end is asked for.
        let _ = self.stop();
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the file of each instance that is new.
fn look(groups: &[PathBuf], found: &Mutex<BTreeMap<String, Testimony>>) {
    for group in groups.iter().flat_map(|group| cgroup::beginning_with(group, "container-")) {
        for pid in cgroup::processes(&group) {
            let Some((instance, object)) = names(pid) else { continue };
            let mut found = lock(found);
            if found.contains_key(&instance) {
                continue;
            }
            // Not there yet, or not any more.
            let Ok(file) = File::open(format!("/proc/{pid}/root/witness")) else { continue };
            found.insert(instance, Testimony { object, file });
        }
    }
}

/// The instance and the object of a process, by its environment.
fn names(pid: i32) -> Option<(String, String)> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let of = |name| environment.split('\0').find_map(|pair| pair.strip_prefix(name)).map(str::to_owned);
    Some((of(INSTANCE)?, of(OBJECT)?))
}

impl Testimony {
    /// None of an instance that was gone before it wrote anything.
    fn read(mut self, instance: String) -> Result<Option<Life>> {
        let mut text = String::new();
        self.file.read_to_string(&mut text).with_context(|| format!("read what {instance} has written"))?;
        // It may have been killed in the middle of a line.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let times = whole.lines().map(str::parse).collect::<Result<Vec<u64>, _>>().context("a time")?;
        let life = times.first().zip(times.last());
        Ok(life.map(|(first, last)| Life { instance, first_ms: *first, last_ms: *last }))
    }
}

fn one_after_the_other(object: &str, lives: &mut [Life]) -> Result<()> {
    lives.sort_by_key(|life| life.first_ms);
    for pair in lives.windows(2) {
        let [before, after] = pair else { continue };
        let (last, first) = (before.last_ms, after.first_ms);
        let both = format!("{} until {last} ms, {} from {first} ms", before.instance, after.instance);
        ensure!(last < first, "object {object} has run twice at once: {both}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(instance: &str, first_ms: u64, last_ms: u64) -> Life {
        Life { instance: instance.to_owned(), first_ms, last_ms }
    }

    #[test]
    fn two_at_once_are_found_whatever_their_order() {
        let mut fine = [life("b", 60, 90), life("a", 10, 50)];
        one_after_the_other("o", &mut fine).unwrap();
        let mut twice = [life("b", 50, 90), life("a", 10, 50)];
        assert!(one_after_the_other("o", &mut twice).unwrap_err().to_string().contains("twice at once"));
    }
}
