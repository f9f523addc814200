//! The counters as metrics, summed up over the shards. `docs/metrics.md` lists them all.

use berth_monitor::Page;
use berth_monitor::cells::{Counter, Durations, Histogram, Level};
use berth_monitor::page::Family;

use super::{ClassCounts, ClassKey, Metrics, Requests, STATUSES, ShardCounts, Statuses};

impl Metrics {
    /// Adds all counters to the page.
    pub(crate) fn add_to(&self, page: &mut Page) {
        self.requests(page);
        self.starts(page);
        self.clients(page);
        self.due.add_to(page);
    }

    fn requests(&self, page: &mut Page) {
        let classes = self.classes().clone();
        let answered =
            page.counter("berth_edge_requests_total", "Requests, by the class of the answer's status");
        statuses(answered, &[("app", ""), ("class", "")], self.of_shards(|shard| &shard.unrouted));
        for (key, counts) in &classes {
            statuses(answered, &labels(key), counts.of_shards(|shard| &shard.answered));
        }
        let took = page.histogram("berth_edge_request_duration_seconds", "Time until the head of the answer");
        for (key, counts) in &classes {
            took.with(&labels(key), sum(counts.of_shards(|shard| &shard.took)));
        }
        let in_flight = page.gauge(
            "berth_edge_requests_in_flight",
            "Requests whose answer has not ended, WebSockets left out",
        );
        for (key, counts) in &classes {
            in_flight.with(&labels(key), level(counts.of_shards(|shard| &shard.in_flight)));
        }
        let open = page.gauge("berth_edge_websockets_open", "WebSockets that are open");
        for (key, counts) in &classes {
            open.with(&labels(key), level(counts.of_shards(|shard| &shard.websockets)));
        }
        let files =
            page.counter("berth_edge_file_requests_total", "Requests for static files, which no class has");
        statuses(files, &[], self.of_shards(|shard| &shard.files));
        let programs =
            page.counter("berth_edge_program_requests_total", "Requests for programs, which no class has");
        statuses(programs, &[], self.of_shards(|shard| &shard.programs));
    }

    fn starts(&self, page: &mut Page) {
        let classes = self.classes().clone();
        let sent = page.counter("berth_edge_starts_total", "Instances that a node was told to start");
        for (key, counts) in &classes {
            sent.with(&labels(key), counts.starts.sent.get());
        }
        let failed = page.counter(
            "berth_edge_starts_failed_total",
            "Of those, the ones that were refused or ended before they answered",
        );
        for (key, counts) in &classes {
            failed.with(&labels(key), counts.starts.failed.get());
        }
        let took = page.histogram(
            "berth_edge_start_duration_seconds",
            "Time from the request that wants an instance until it answers",
        );
        for (key, counts) in &classes {
            took.with(&labels(key), counts.starts.took.read());
        }
    }

    fn clients(&self, page: &mut Page) {
        let refused = page
            .counter("berth_edge_refusals_total", "Requests that the edge answered in place of an instance");
        let all: Vec<Vec<_>> = self.shards.iter().map(|shard| shard.refusals.all().collect()).collect();
        for (index, (reason, _)) in all.first().into_iter().flatten().enumerate() {
            let count: u64 = all.iter().filter_map(|shard| shard.get(index)).map(|(_, count)| count).sum();
            refused.with(&[("reason", reason)], count);
        }
        page.counter("berth_edge_client_received_bytes_total", "Bytes from clients")
            .is(total(self.of_shards(|shard| &shard.received_bytes)));
        page.counter("berth_edge_client_sent_bytes_total", "Bytes to clients")
            .is(total(self.of_shards(|shard| &shard.sent_bytes)));
        let admin = page.counter("berth_edge_admin_requests_total", "Requests to the admin API");
        statuses(admin, &[], std::iter::once(&self.admin));
        page.counter(
            "berth_edge_admin_logins_failed_total",
            "Requests to the admin API without a known token",
        )
        .is(self.failed_logins.get());
    }

    fn of_shards<'a, T: 'a>(&'a self, of: impl Fn(&'a ShardCounts) -> &'a T) -> impl Iterator<Item = &'a T> {
        self.shards.iter().map(of)
    }
}

impl ClassCounts {
    fn of_shards<'a, T: 'a>(&'a self, of: impl Fn(&'a Requests) -> &'a T) -> impl Iterator<Item = &'a T> {
        self.shards.iter().map(move |shard| of(shard))
    }
}

fn labels((app, class): &ClassKey) -> [(&'static str, &str); 2] {
    [("app", app.as_str()), ("class", class.as_str())]
}

fn statuses<'a>(
    family: &mut Family,
    labels: &[(&'static str, &str)],
    of_shards: impl Iterator<Item = &'a Statuses>,
) {
    let of_shards: Vec<&Statuses> = of_shards.collect();
    for (index, status) in STATUSES.into_iter().enumerate() {
        let labels = [labels, &[("status", status)]].concat();
        family.with(&labels, total(of_shards.iter().map(|statuses| &statuses.0[index])));
    }
}

fn total<'a>(of_shards: impl Iterator<Item = &'a Counter>) -> u64 {
    of_shards.map(Counter::get).sum()
}

/// A single level may be below zero, wrapped around: only the sum is meaningful.
fn level<'a>(of_shards: impl Iterator<Item = &'a Level>) -> u64 {
    of_shards.map(Level::get).fold(0, u64::wrapping_add)
}

fn sum<'a>(of_shards: impl Iterator<Item = &'a Durations>) -> Histogram {
    of_shards.fold(Histogram::default(), |mut sum, more| {
        sum += more.read();
        sum
    })
}
