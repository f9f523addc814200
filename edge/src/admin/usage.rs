//! The usage of containers: sums, and single records.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use berth_api::lists::{Paged, RecordListing};
use berth_api::usage::{RecordPage, RecordView, UsageParameters, UsageRow, UsageSums, UsageTable};
use berth_common::clock::wall_ms;
use berth_common::ids::ObjectKey;
use berth_engine::UsageRecord;
use berth_store::{Store, UsageKey};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, Time};

use super::Admin;
use super::live;
use super::problem::{Denied, Problem, Wrong};
use super::read::{NOT_READ, Parameters, invalid};
use crate::usage::sums::{RowKey, Sums, Table, Window};

/// Records that are read from the store at once.
const READ_AHEAD: usize = 1_024;
/// Records on a page by default.
const PAGE: usize = 1_000;

fn shown(sums: Sums) -> UsageSums {
    UsageSums {
        instances: sums.instances,
        live: sums.live,
        estimated: sums.estimated,
        instance_seconds: sums.lived_ms as f64 / 1e3,
        vcpu_seconds: sums.cpu_us as f64 / 1e6,
        memory_gib_seconds: sums.memory_byte_ms as f64 / 1e3 / f64::from(1 << 30),
        disk_gb_seconds: sums.disk_byte_ms as f64 / 1e12,
        sent_bytes: sums.sent_bytes.values().sum(),
        sent_bytes_by_region: sums.sent_bytes,
        received_bytes: sums.received_bytes,
    }
}

fn row(((app, class, name), sums): (RowKey, Sums)) -> UsageRow {
    UsageRow { app, class, name, sums: shown(sums) }
}

fn record(record: UsageRecord) -> RecordView {
    let object = record.key.id();
    let ObjectKey { app, class, name } = record.key;
    RecordView {
        app,
        class,
        name,
        object,
        instance: record.instance,
        generation: record.generation,
        node: record.node,
        region: record.region,
        started_ms: record.started_ms,
        lived_cs: record.lived_cs,
        cpu_us: record.cpu_us,
        memory_bytes: record.memory_bytes,
        disk_bytes: record.disk_bytes,
        cpu_sixteenths: record.cpu_sixteenths,
        sent_bytes: record.sent_bytes,
        received_bytes: record.received_bytes,
        reason: record.reason,
        estimated: record.estimated,
    }
}

/// Sums up the usage of containers in a time window, running ones included.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", params(UsageParameters),
    responses((status = 200, body = UsageTable), Denied, Wrong))]
pub(super) async fn sum(
    State(admin): State<Arc<Admin>>,
    Parameters(UsageParameters { from, to, by, app }): Parameters<UsageParameters>,
) -> Result<Json<UsageTable>, Problem> {
    let mut window = window(from.as_deref(), to.as_deref(), wall_ms())?;
    let by = by.unwrap_or_default();
    // Running instances first: one that ends in between has a record then, and is counted once.
    let mut running = live::all(&admin.mailboxes, &admin.shards, &admin.nodes).await;
    // The reported usage is from before now.
    let now_ms = wall_ms();
    if to.is_none() {
        window.to_ms = now_ms;
    }
    let store = Arc::clone(&admin.store);
    let summed = tokio::task::spawn_blocking(move || {
        let mut table = Table::new(window, by, app);
        each_since(&*store, window.from_ms, |record| {
            running.remove(&record.instance);
            table.add(&record.into()).map_err(|error| invalid("by", error))
        })?;
        let mut untold = 0;
        for running in running.into_values() {
            let before = table.total.instances;
            table.add(&running.life.over_by(now_ms)).map_err(|error| invalid("by", error))?;
            untold += if running.reported { 0 } else { table.total.instances - before };
        }
        Ok::<_, Problem>((table, untold))
    });
    let (table, untold) = summed.await.map_err(|error| Problem::internal(&error))??;
    let rows = table.rows.into_iter().map(row).collect();
    let Window { from_ms, to_ms } = window;
    Ok(Json(UsageTable { from_ms, to_ms, by, rows, total: shown(table.total), untold }))
}

/// Reads all records of containers that ended at this time or later: one that ended later may have run before.
fn each_since(
    store: &dyn Store,
    from_ms: u64,
    mut each: impl FnMut(UsageRecord) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let mut after = UsageKey::at(from_ms);
    loop {
        let page = store.usage(Some(after), READ_AHEAD)?;
        let Some(last) = page.last().map(UsageKey::of) else { return Ok(()) };
        after = last;
        page.into_iter().try_for_each(&mut each)?;
    }
}

/// Lists the usage records of containers that have ended, ordered by their end.
#[utoipa::path(get, path = "/v1/usage/records", tag = "usage", params(RecordListing),
    responses((status = 200, body = RecordPage), Denied, Wrong))]
pub(super) async fn records(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<RecordListing>,
) -> Result<Json<RecordPage>, Problem> {
    let window = window(listing.from.as_deref(), listing.to.as_deref(), wall_ms())?;
    let (cursor, limit) = listing.page::<UsageKey>(PAGE)?;
    let after = cursor.unwrap_or(UsageKey::at(window.from_ms)).max(UsageKey::at(window.from_ms));
    let store = Arc::clone(&admin.store);
    let found = tokio::task::spawn_blocking(move || store.usage(Some(after), limit)).await;
    let mut found = found.map_err(|error| Problem::internal(&error))??;
    let whole = found.len() == limit;
    found.retain(|record| record.ended_ms() < window.to_ms);
    let last = found.last().map(UsageKey::of).filter(|_| whole && found.len() == limit);
    let next_cursor = last.map(|key| key.to_string());
    Ok(Json(RecordPage { records: found.into_iter().map(record).collect(), next_cursor }))
}

fn window(from: Option<&str>, to: Option<&str>, now_ms: u64) -> Result<Window, Problem> {
    let to_ms = to.map_or(Ok(now_ms), |text| moment("to", text))?;
    let from_ms = from.map_or(Ok(month_of(now_ms)), |text| moment("from", text))?;
    if from_ms > to_ms {
        return Err(invalid("from", format!("is after `to`: {from_ms} and {to_ms}, in ms since 1970")));
    }
    Ok(Window { from_ms, to_ms })
}

/// A time in milliseconds since 1970: as that number, as RFC 3339, or as a date, which is the start of that day in UTC.
fn moment(field: &'static str, text: &str) -> Result<u64, Problem> {
    let day = time::macros::format_description!("[year]-[month]-[day]");
    let ms = text.parse::<u64>().ok().or_else(|| {
        let midnight = |day: Date| OffsetDateTime::new_utc(day, Time::MIDNIGHT);
        let read = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| Date::parse(text, day).map(midnight));
        read.ok().and_then(since_1970)
    });
    ms.ok_or_else(|| {
        let expected = "expected milliseconds since 1970, 2026-03-01T12:00:00Z, or 2026-03-01";
        Problem::field(
            StatusCode::BAD_REQUEST,
            NOT_READ,
            field,
            format!("{text:?} is not a time: {expected}"),
        )
    })
}

fn since_1970(at: OffsetDateTime) -> Option<u64> {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The start of the month, in UTC, that a time is in.
fn month_of(now_ms: u64) -> u64 {
    let seconds = i64::try_from(now_ms / 1_000).unwrap_or_default();
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let first = now.replace_day(1).unwrap_or(now).replace_time(Time::MIDNIGHT);
    since_1970(first).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_three_ways() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1772366400000", Some(1_772_366_400_000)),
            ("2026-03-01T12:00:00Z", Some(1_772_366_400_000)),
            ("2026-03-01T13:00:00.005+01:00", Some(1_772_366_400_005)),
            ("2026-03-01", Some(1_772_323_200_000)),
            ("1969-01-01", None),
            ("2026-02-30", None),
            ("yesterday", None),
            ("", None),
            ("-5", None),
        ] {
            assert_eq!(moment("from", text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_window_is_this_month_until_now_by_default() {
        let now_ms = moment("to", "2026-03-31T23:59:59Z").unwrap();
        let month = window(None, None, now_ms).unwrap();
        assert_eq!((month.from_ms, month.to_ms), (moment("from", "2026-03-01").unwrap(), now_ms));
        assert!(window(Some("2026-04-01"), None, now_ms).is_err());
        assert!(window(Some("5"), Some("5"), now_ms).is_ok(), "an empty one is one");
    }
}
