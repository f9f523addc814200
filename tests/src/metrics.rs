//! Reads a page of metrics as strictly as the format (Prometheus text, 0.0.4) is written down: any deviation is an
//! error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// A page.
#[derive(Debug, Default)]
pub struct Page {
    /// Families by name.
    pub families: BTreeMap<String, Family>,
}

/// The series of one name.
#[derive(Debug, Default)]
pub struct Family {
    /// Its type, from the `# TYPE` line.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    samples: BTreeMap<Series, f64>,
}

/// The labels, which identify a series.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Its name, with the ending of a histogram's part.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Page {
    /// Reads a page.
    pub fn read(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line has no end");
        let mut page = Self::default();
        let mut current: Option<String> = None;
        for line in text.lines() {
            page.line(line, &mut current).with_context(|| format!("the line {line:?}"))?;
        }
        page.families.iter().try_for_each(|(name, family)| {
            family.check(name).with_context(|| format!("the family {name}"))
        })?;
        Ok(page)
    }

    fn line(&mut self, line: &str, current: &mut Option<String>) -> Result<()> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("no help")?;
            ensure!(is_name(name), "{name:?} is no name");
            let family = Family { help: help.to_owned(), ..Family::default() };
            ensure!(self.families.insert(name.to_owned(), family).is_none(), "it comes twice");
            *current = Some(name.to_owned());
            return Ok(());
        }
        let name = current.as_ref().context("a family begins with HELP")?;
        let family = self.families.get_mut(name).context("no such family")?;
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, kind) = rest.split_once(' ').context("no type")?;
            ensure!(
                of == name && family.kind.is_empty() && family.samples.is_empty(),
                "TYPE is out of place"
            );
            ensure!(["counter", "gauge", "histogram"].contains(&kind), "{kind:?} is no type");
            family.kind = kind.to_owned();
            return Ok(());
        }
        let (series, value) = sample(line)?;
        let ending = series.name.strip_prefix(name.as_str()).context("of another family")?;
        let endings: &[&str] =
            if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        ensure!(endings.contains(&ending), "it is not a sample of a {}", family.kind);
        ensure!(family.samples.insert(series, value).is_none(), "it comes twice");
        Ok(())
    }

    /// The values of the series with these labels, and any others, added up.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let samples = self.samples().filter(|(series, _)| series.name == name && series.has(labels));
        let found: Vec<f64> = samples.map(|(_, value)| value).collect();
        ensure!(!found.is_empty(), "there is no {name}{labels:?}");
        Ok(found.iter().sum())
    }

    /// Every series there is.
    pub fn series(&self) -> BTreeSet<Series> {
        self.samples().map(|(series, _)| series.clone()).collect()
    }

    fn samples(&self) -> impl Iterator<Item = (&Series, f64)> {
        self.families
            .values()
            .flat_map(|family| family.samples.iter().map(|(series, value)| (series, *value)))
    }
}

impl Series {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|found| found == value))
    }
}

impl Family {
    /// The names of the labels that its series have, one set for all of them.
    pub fn labels(&self) -> Result<Option<Vec<String>>> {
        let mut all = self.samples.keys().map(|series| {
            series.labels.keys().filter(|name| *name != "le").cloned().collect::<Vec<String>>()
        });
        let first = all.next();
        ensure!(all.all(|labels| Some(&labels) == first.as_ref()), "series have different labels");
        Ok(first)
    }

    fn check(&self, name: &str) -> Result<()> {
        ensure!(!self.kind.is_empty(), "it has no type");
        ensure!(
            (self.kind == "counter") == name.ends_with("_total"),
            "counters, and no others, end with _total"
        );
        self.labels()?;
        let negative = self.samples.values().any(|value| *value < 0.0);
        ensure!(self.kind == "gauge" || !negative, "something was counted down");
        if self.kind == "histogram" { self.check_histogram(name) } else { Ok(()) }
    }

    /// Buckets grow, and the last one has everything.
    fn check_histogram(&self, name: &str) -> Result<()> {
        let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in self.samples.iter().filter(|(series, _)| series.name.ends_with("_bucket")) {
            let mut labels = series.labels.clone();
            let bound = number(&labels.remove("le").context("a bucket without a bound")?)?;
            buckets.entry(labels).or_default().push((bound, *value));
        }
        for (labels, mut buckets) in buckets {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            ensure!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "buckets of {labels:?} shrink");
            let count = self.samples.get(&Series { name: format!("{name}_count"), labels });
            let last = buckets.last().context("no buckets")?;
            ensure!(last.0 == f64::INFINITY && count == Some(&last.1), "the last bucket has not everything");
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    first && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn number(text: &str) -> Result<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        _ => text.parse().with_context(|| format!("{text:?} is no number")),
    }
}

fn sample(line: &str) -> Result<(Series, f64)> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    ensure!(is_name(name), "{name:?} is no name");
    let mut labels = BTreeMap::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        while let Some((label, value, after)) = label(inside)? {
            ensure!(labels.insert(label, value).is_none(), "a label comes twice");
            inside = after.strip_prefix(',').unwrap_or(after);
        }
        rest = inside.strip_prefix('}').context("no end of the labels")?;
    }
    let value = number(rest.strip_prefix(' ').context("no space before the value")?)?;
    Ok((Series { name: name.to_owned(), labels }, value))
}

/// The next label, its value, and what follows.
fn label(text: &str) -> Result<Option<(String, String, &str)>> {
    if text.starts_with('}') {
        return Ok(None);
    }
    let (name, rest) = text.split_once("=\"").context("no value of a label")?;
    ensure!(is_name(name), "{name:?} is no name of a label");
    let mut value = String::new();
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok(Some((name.to_owned(), value, &rest[at + 1..]))),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                other => bail!("{other:?} must not be escaped"),
            },
            plain => value.push(plain),
        }
    }
    bail!("no end of a label's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total A\n# TYPE a_total counter\na_total{x=\"1\\\"\",y=\"\"} 3\na_total{x=\"2\",y=\"\"} 4\n\
                        # HELP h H\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3.5\nh_count 2\n";

    #[test]
    fn a_page_is_read() {
        let page = Page::read(GOOD).unwrap();
        assert_eq!(page.sum("a_total", &[]).unwrap(), 7.0);
        assert_eq!(page.sum("a_total", &[("x", "1\"")]).unwrap(), 3.0);
        assert_eq!(page.sum("h_count", &[]).unwrap(), 2.0);
        assert!(page.sum("a_total", &[("x", "3")]).is_err());
        assert_eq!(page.families["a_total"].labels().unwrap().unwrap(), ["x", "y"]);
        assert_eq!(page.series().len(), 6);
    }

    #[test]
    fn what_is_wrong_is_found() {
        for (good, bad) in [
            ("# TYPE a_total counter\n", ""),
            ("counter", "thing"),
            ("y=\"\"} 4", "z=\"\"} 4"),
            ("x=\"2\"", "x=\"1\\\"\""),
            ("} 4", "} four"),
            ("} 4", "} -4"),
            ("h_bucket{le=\"1\"} 1", "h_bucket{le=\"1\"} 3"),
            ("h_count 2", "h_count 3"),
            ("h_sum", "g_sum"),
            ("1\\\"", "1\""),
            ("a_total", "a"),
        ] {
            assert!(Page::read(&GOOD.replace(good, bad)).is_err(), "{good} -> {bad}");
        }
    }
}
