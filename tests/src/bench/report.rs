//! The result of a bench: a table for people, a file for programs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Ratios, values and remarks of one bench, under flat names with the unit last.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    ratios: Map<String, Value>,
    values: Map<String, Value>,
    remarks: Vec<String>,
}

impl Report {
    /// An empty report.
    pub fn new(bench: &'static str) -> Self {
        Self { bench, ratios: Map::new(), values: Map::new(), remarks: Vec::new() }
    }

    /// Adds a ratio of Berth to its peer.
    pub fn ratio(&mut self, name: impl Into<String>, berth: f64, peer: f64) {
        self.ratios.insert(name.into(), rounded(berth / peer));
    }

    /// Adds a measured value.
    pub fn value(&mut self, name: impl Into<String>, value: f64) {
        self.values.insert(name.into(), rounded(value));
    }

    /// Adds what a reader must know to read the numbers right.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Prints it, and writes it to `target/bench/NAME.json`.
    pub fn finish(self) -> Result<()> {
        println!();
        for (title, entries) in [("values", &self.values), ("ratios, Berth to its peer", &self.ratios)] {
            println!("{title}");
            for (name, value) in entries {
                println!("  {name:<28}{value:>12}");
            }
        }
        self.remarks.iter().for_each(|remark| println!("note: {remark}"));
        let path = self.path();
        let parent = path.parent().context("the report has a directory")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let file = json!({
            "bench": self.bench, "ratios": self.ratios, "values": self.values, "remarks": self.remarks,
        });
        fs::write(&path, format!("{file:#}\n")).with_context(|| format!("write {}", path.display()))?;
        println!("written to {}", path.display());
        Ok(())
    }

    fn path(&self) -> PathBuf {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
        checkout.join("target/bench").join(format!("{}.json", self.bench))
    }
}

/// Three digits after the point are more than any of this is exact to.
fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}
