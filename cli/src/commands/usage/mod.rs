//! `berth usage`: the resources that containers used in a period, and their cost.

mod rates;

use std::fs;

use anyhow::{Context, Result};
use berth_api::client::encode;
use berth_api::usage::{UsageRow, UsageSums, UsageTable};
use berth_common::ids::{ClassName, ObjectName};
use bytesize::ByteSize;
use serde_json::Value;
use time::{Duration, OffsetDateTime, Time};

use self::rates::{Bill, Rates};
use crate::admin::Admin;
use crate::args::usage::{By, Usage};
use crate::failure::bad_input;
use crate::{ids, output};

/// Most months of one bill: records are not kept longer, and each month is one request.
const MAX_MONTHS: usize = 24;
/// Headings of the sums, behind what a row is for.
const SUMS: [&str; 6] = ["CONTAINERS", "TIME", "VCPU-S", "MEMORY GIB-S", "DISK GB-S", "SENT"];
const BILL: [&str; 6] = ["ITEM", "USED", "INCLUDED", "UNIT", "RATE", "PRICE"];

pub(crate) async fn run(args: &Usage) -> Result<()> {
    let rates = args.price.then(|| read_rates(args)).transpose()?;
    let admin = args.show.admin.edge()?;
    let (from, to) = (args.from.as_deref(), args.to.as_deref());
    let mut answer = ask(&admin, args, from, to).await?;
    let table: UsageTable = serde_json::from_value(answer.clone()).context("the edge's answer")?;
    if let Some(app) = args.app.name().filter(|_| table.rows.is_empty()) {
        ids::expect_app(&admin, app).await?;
    }
    let bill = match rates {
        Some(rates) => Some(rates.bill(&by_months(&admin, args, &table).await?)),
        None => None,
    };
    if args.show.json {
        if let (Some(bill), Some(answer)) = (&bill, answer.as_object_mut()) {
            answer.insert("bill".to_owned(), serde_json::to_value(bill)?);
        }
        return output::json(&answer);
    }
    show(args.by, &table)?;
    bill.map_or(Ok(()), |bill| show_bill(&bill))
}

fn read_rates(args: &Usage) -> Result<Rates> {
    let Some(file) = &args.rates else { return Rates::built_in() };
    let read = fs::read_to_string(file).map_err(anyhow::Error::from).and_then(|text| Rates::parse(&text));
    read.with_context(|| format!("the rates in {}", file.display())).map_err(bad_input)
}

/// The sums from the edge. A time range that it rejects is a usage error.
async fn ask(admin: &Admin, args: &Usage, from: Option<&str>, to: Option<&str>) -> Result<Value> {
    let by = match args.by {
        By::Object => "object",
        By::Class => "class",
        By::App => "app",
    };
    let mut path = format!("/v1/usage?by={by}");
    let app = args.app.name().map(|app| app.as_str());
    for (name, value) in [("from", from), ("to", to), ("app", app)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    admin.get(&path).await.map_err(|error| if error.is_bad_input() { bad_input(error) } else { error.into() })
}

/// The same, month by month (UTC).
async fn by_months(admin: &Admin, args: &Usage, whole: &UsageTable) -> Result<Vec<UsageSums>> {
    let parts = months_between(whole.from_ms, whole.to_ms);
    if parts.len() > MAX_MONTHS {
        return Err(bad_input(anyhow::anyhow!("a price is for {MAX_MONTHS} months at most: give --from")));
    }
    if parts.len() <= 1 {
        // To the last digit what is shown above it.
        return Ok(vec![whole.total.clone()]);
    }
    let mut months = Vec::new();
    for (from, to) in parts {
        let answer = ask(admin, args, Some(&from.to_string()), Some(&to.to_string())).await?;
        let month: UsageTable = serde_json::from_value(answer).context("the edge's answer")?;
        months.push(month.total);
    }
    Ok(months)
}

/// Splits a period at month boundaries (UTC), in milliseconds since 1970.
fn months_between(from_ms: u64, to_ms: u64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut from = from_ms;
    while from < to_ms {
        let to = next_month(from).filter(|next| *next > from).unwrap_or(to_ms).min(to_ms);
        parts.push((from, to));
        from = to;
    }
    parts
}

/// The beginning of the month after the one that a moment is in.
fn next_month(at_ms: u64) -> Option<u64> {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(at_ms / 1_000).ok()?).ok()?;
    // A month after its first day is in the next one, whatever its length.
    let next = at.replace_day(1).ok()?.checked_add(Duration::days(31))?.replace_day(1).ok()?;
    u64::try_from(next.replace_time(Time::MIDNIGHT).unix_timestamp()).ok()?.checked_mul(1_000)
}

fn show(by: By, table: &UsageTable) -> Result<()> {
    let names: &[&str] = match by {
        By::Object => &["APP", "CLASS", "OBJECT"],
        By::Class => &["APP", "CLASS"],
        By::App => &["APP"],
    };
    let headings: Vec<&str> = names.iter().copied().chain(SUMS).collect();
    let mut rows: Vec<Vec<String>> = table.rows.iter().map(row).collect();
    if rows.len() > 1 {
        let mut total = vec![String::new(); names.len()];
        total[0] = "(all)".to_owned();
        total.extend(sums(&table.total));
        rows.push(total);
    }
    output::table(&headings, rows)?;
    if table.total.estimated > 0 {
        output::note!(
            "the end of {} of them is estimated: what looked after them was gone",
            table.total.estimated
        );
    }
    if table.untold > 0 {
        output::note!(
            "{} live on nodes that do not tell: their CPU time and bytes are missing",
            table.untold
        );
    }
    Ok(())
}

fn row(row: &UsageRow) -> Vec<String> {
    let names = [
        Some(row.app.as_str()),
        row.class.as_ref().map(ClassName::as_str),
        row.name.as_ref().map(ObjectName::as_str),
    ];
    names.into_iter().flatten().map(str::to_owned).chain(sums(&row.sums)).collect()
}

fn sums(sums: &UsageSums) -> [String; 6] {
    let live = if sums.live > 0 { format!(" ({} live)", sums.live) } else { String::new() };
    [
        format!("{}{live}", sums.instances),
        format!("{:.2}s", sums.instance_seconds),
        format!("{:.2}", sums.vcpu_seconds),
        format!("{:.2}", sums.memory_gib_seconds),
        format!("{:.2}", sums.disk_gb_seconds),
        ByteSize(sums.sent_bytes).display().si().to_string(),
    ]
}

fn show_bill(bill: &Bill) -> Result<()> {
    let item = |item: &rates::Item| {
        let (used, included) = (format!("{:.3}", item.used), format!("{:.3}", item.included));
        let price = format!("{:.4}", item.price);
        vec![item.what.clone(), used, included, item.unit.to_owned(), item.rate.to_string(), price]
    };
    let mut rows: Vec<_> = bill.items.iter().map(item).collect();
    let mut total = vec![String::new(); BILL.len()];
    (total[0], total[BILL.len() - 1]) = (format!("in all, {}", bill.currency), format!("{:.4}", bill.total));
    rows.push(total);
    output::line("")?;
    Ok(output::table(&BILL, rows)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_at_the_beginnings_of_months() {
        // 2026-01-31T23:00Z, 2026-02-01, 2026-03-01, 2026-03-01T01:00Z.
        let at = [1_769_900_400_000, 1_769_904_000_000, 1_772_323_200_000, 1_772_326_800_000];
        assert_eq!(months_between(at[0], at[3]), [(at[0], at[1]), (at[1], at[2]), (at[2], at[3])]);
        assert_eq!(months_between(at[0], at[1]), [(at[0], at[1])]);
        assert_eq!(months_between(at[1], at[1]), []);
        assert!(months_between(0, u64::MAX).len() > 12, "no time is too long");
    }

    #[test]
    fn an_answer_becomes_rows() {
        let text = r#"{"app":"a","class":"C","name":"o","instances":2,"live":1,"estimated":0,"instance_seconds":1.25,
            "vcpu_seconds":0.5,"memory_gib_seconds":0.3125,"disk_gb_seconds":2.5,"sent_bytes":1500,"received_bytes":1,
            "sent_bytes_by_region":{"weur":1500}}"#;
        let text = row(&serde_json::from_str(text).unwrap());
        assert_eq!(text, ["a", "C", "o", "2 (1 live)", "1.25s", "0.50", "0.31", "2.50", "1.5 kB"]);
    }
}
