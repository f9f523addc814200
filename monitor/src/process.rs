//! Process metrics from the kernel, under Prometheus's standard names (`process_*`). Values that cannot be read are
//! left out.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

use crate::page::Page;

/// This process.
#[derive(Debug)]
pub struct Process {
    started: SystemTime,
}

impl Process {
    /// A process that has started now.
    pub fn started_now() -> Self {
        Self { started: SystemTime::now() }
    }

    /// Adds its metrics to a page.
    pub fn add_to(&self, page: &mut Page) {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.gauge("process_start_time_seconds", "When the process started, in seconds since 1970")
            .is(started);
        if let Some(cpu) = cpu_time() {
            page.counter("process_cpu_seconds_total", "CPU time of the process, its own and the kernel's")
                .is(cpu);
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = bytes_of("VmRSS", &status) {
            page.gauge("process_resident_memory_bytes", "Memory of the process that is in RAM").is(bytes);
        }
        if let Some(bytes) = bytes_of("VmSize", &status) {
            page.gauge("process_virtual_memory_bytes", "Addresses that the process has mapped").is(bytes);
        }
        if let Some(threads) = value_of("Threads", &status).and_then(|text| text.parse::<u64>().ok()) {
            page.gauge("process_threads", "Threads of the process").is(threads);
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory's own descriptor.
            let open = entries.count().saturating_sub(1);
            page.gauge("process_open_fds", "File descriptors that are open").is(open);
        }
        if let Ok((most, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            page.gauge("process_max_fds", "Most file descriptors that may be open").is(most);
        }
    }
}

fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = usage.user_time() + usage.system_time();
    Some(Duration::from_micros(u64::try_from(time.num_microseconds()).ok()?))
}

fn value_of<'a>(name: &str, status: &'a str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn bytes_of(name: &str, status: &str) -> Option<u64> {
    let kib: u64 = value_of(name, status)?.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_kernel_writes_them() {
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t 12 kB\nThreads:\t3\n";
        assert_eq!(bytes_of("VmRSS", status), Some(12 << 10));
        assert_eq!(bytes_of("VmSize", status), Some(2 << 20));
        assert_eq!(value_of("Threads", status), Some("3"));
        assert_eq!(bytes_of("VmSwap", status), None);
    }

    #[test]
    fn everything_is_known_of_this_process() {
        let mut page = Page::default();
        Process::started_now().add_to(&mut page);
        let text = page.text();
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE process_")).count(), 7, "{text}");
        let open = text.lines().find_map(|line| line.strip_prefix("process_open_fds ")).unwrap();
        assert!(open.parse::<u64>().unwrap() >= 3, "{text}");
    }
}
