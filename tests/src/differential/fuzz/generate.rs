//! Makes a list of operations from a seed. The same seed gives the same list for ever, as results are kept by seed: whoever changes
//! what is made here records anew.

use std::fmt;

use serde_json::{Value, json};

/// The objects that lists are about.
pub const OBJECTS: [&str; 2] = ["a", "b"];
/// Most rounds of a list, calls of a round, and operations of a call.
const ROUNDS: u64 = 4;
const CALLS: u64 = 3;
const OPERATIONS: u64 = 5;
/// How far operations are nested.
const DEPTH: u32 = 2;
/// Few keys, so that operations meet. One sorts differently by UTF-16 and by UTF-8.
const KEYS: [&str; 6] = ["k1", "k2", "k10", "K", "é", "\u{ff5e}"];
/// What is in values besides JSON.
const SPECIAL: [&str; 10] =
    ["nothing", "negative_zero", "not_a_number", "date", "bytes", "map", "set", "error", "big", "circle"];

/// Statements, with how many values each is given.
const STATEMENTS: [(&str, usize); 21] = [
    ("CREATE TABLE IF NOT EXISTS t1 (id INTEGER PRIMARY KEY, v)", 0),
    ("CREATE TABLE t2 (k TEXT UNIQUE, v NOT NULL)", 0),
    ("INSERT INTO t1 (v) VALUES (?)", 1),
    ("INSERT INTO t1 (v) VALUES (?), (?) RETURNING id, v", 2),
    ("INSERT INTO t2 VALUES ('x', ?)", 1),
    ("INSERT OR REPLACE INTO t2 VALUES (?, 1)", 1),
    ("UPDATE t1 SET v = ? WHERE id = 1", 1),
    ("DELETE FROM t1 WHERE id > ?", 1),
    ("SELECT * FROM t1 ORDER BY id", 0),
    ("SELECT count(*) AS n, max(v) AS m FROM t1", 0),
    ("SELECT 1 AS a, 2 AS a, ? AS b", 1),
    ("SELECT typeof(?1) AS t, ?1 AS v", 1),
    ("SELECT v FROM t2; SELECT k FROM t2", 0),
    ("DROP TABLE t2", 0),
    ("SELECT 1 +", 0),
    ("SELECT nothing FROM t1", 0),
    ("BEGIN TRANSACTION", 0),
    ("PRAGMA foreign_keys", 0),
    ("SELECT ?, ?", 1),
    ("SELECT json_extract(?, '$.a') AS j", 1),
    ("SELECT 9007199254740993 AS big, 0.5 AS half, x'01ff' AS blob, NULL AS none", 0),
];

/// A list: rounds of calls that are made at once.
#[derive(Debug, Clone)]
pub struct List {
    /// Each call as the interpreter takes it.
    pub rounds: Vec<Vec<Value>>,
}

impl List {
    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let mut draw = Draw { state, on: OBJECTS[0], alone: true };
        let rounds = (0..=draw.below(ROUNDS)).map(|_| draw.round()).collect();
        Self { rounds }
    }

    /// As the interpreter takes it.
    pub fn to_json(&self) -> Value {
        json!({"names": OBJECTS, "rounds": self.rounds})
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, round) in self.rounds.iter().enumerate() {
            write!(f, "{}    round {index}", if index > 0 { "\n" } else { "" })?;
            for call in round {
                write!(f, "\n      {call}")?;
            }
        }
        Ok(())
    }
}

/// Numbers that look random: splitmix64, whose every step is written down here so that no library can change it.
struct Draw {
    state: u64,
    /// The object whose operations are drawn: the second calls nobody, so that none waits for itself.
    on: &'static str,
    /// Whether the round has one call. Otherwise no section fails, since an object that is reset answers what it is just then asked
    /// in no certain order, and no object calls the other, since nothing says which of two that ask it is the first.
    alone: bool,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let length = u64::try_from(all.len()).unwrap_or(1);
        all[usize::try_from(self.below(length)).unwrap_or(0)]
    }

    fn key(&mut self) -> &'static str {
        self.of(&KEYS)
    }

    /// Calls that are made at once, or an alarm that comes.
    fn round(&mut self) -> Vec<Value> {
        if self.one_in(8) {
            return vec![json!({"on": self.of(&OBJECTS), "ring": true})];
        }
        let more = self.below(CALLS);
        self.alone = more == 0;
        (0..=more)
            .map(|_| {
                self.on = self.of(&OBJECTS);
                json!({"on": self.on, "run": self.operations(DEPTH)})
            })
            .collect()
    }

    fn operations(&mut self, depth: u32) -> Vec<Value> {
        (0..=self.below(OPERATIONS)).map(|_| self.operation(depth)).collect()
    }

    /// Operations of the object that is called.
    fn of_another(&mut self) -> Vec<Value> {
        self.on = OBJECTS[1];
        let operations = self.operations(0);
        self.on = OBJECTS[0];
        operations
    }

    fn operation(&mut self, depth: u32) -> Value {
        match self.below(if depth > 0 { 24 } else { 18 }) {
            0 => json!(["note", self.below(100)]),
            1 => json!(["get", self.key()]),
            2 => json!(["get", [self.key(), self.key(), self.key()]]),
            3 | 4 => json!(["put", self.key(), self.value(2)]),
            5 => json!(["put_all", {self.key(): self.value(1), self.key(): self.value(1)}]),
            6 => json!(["delete", self.key()]),
            7 => json!(["delete", [self.key(), self.key()]]),
            8 => json!(["list", self.range()]),
            9 => self.alarm(),
            18 | 19 => json!(["section", self.operations(depth - 1), self.end_of_section()]),
            20 => json!(["transaction", self.operations(0), self.end("return", "rollback", 3)]),
            21 => json!(["transaction", self.operations(0), self.end("return", "throw", 3)]),
            22 => json!(["transaction_sync", self.at_once(depth - 1), self.end("return", "throw", 3)]),
            23 if self.alone && self.on == OBJECTS[0] => {
                json!(["call", OBJECTS[1], self.of_another(), self.below(10)])
            }
            _ => self.in_one_turn(),
        }
    }

    /// Operations that wait for nothing.
    fn at_once(&mut self, depth: u32) -> Vec<Value> {
        let mut list: Vec<Value> = (0..=self.below(OPERATIONS)).map(|_| self.in_one_turn()).collect();
        if depth > 0 && self.one_in(2) {
            let inner: Vec<Value> = (0..=self.below(3)).map(|_| self.in_one_turn()).collect();
            list.push(json!(["transaction_sync", inner, self.end("return", "throw", 2)]));
        }
        list
    }

    fn in_one_turn(&mut self) -> Value {
        match self.below(7) {
            0 => json!(["kv_get", self.key()]),
            1 => json!(["kv_put", self.key(), self.value(1)]),
            2 => json!(["kv_delete", self.key()]),
            3 => json!(["kv_list", self.range()]),
            _ => self.statement(),
        }
    }

    fn alarm(&mut self) -> Value {
        match self.below(4) {
            0 | 1 => json!(["set_alarm", self.below(1_000)]),
            2 => json!(["get_alarm"]),
            _ => json!(["delete_alarm"]),
        }
    }

    fn statement(&mut self) -> Value {
        let (text, values) = self.of(&STATEMENTS);
        json!(["sql", text, (0..values).map(|_| self.bound()).collect::<Vec<_>>()])
    }

    /// A value for a statement.
    fn bound(&mut self) -> Value {
        match self.below(10) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!({"special": "nothing"}),
            3 => json!({"special": "bytes"}),
            4 => json!(0.25),
            5 => json!("{\"a\": [1]}"),
            6 | 7 => json!(self.below(5)),
            _ => json!(self.key()),
        }
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.below(if depth > 0 { 9 } else { 6 }) {
            0 => Value::Null,
            1 => json!(self.below(1_000)),
            2 => json!(self.one_in(2)),
            3 => json!(self.key()),
            4 => json!(1.5),
            5 | 6 => json!({"special": self.of(&SPECIAL)}),
            7 => json!([self.value(depth - 1), self.value(depth - 1)]),
            _ => json!({"x": self.value(depth - 1), "y": self.value(depth - 1)}),
        }
    }

    fn range(&mut self) -> Value {
        let mut range = serde_json::Map::new();
        if self.one_in(3) {
            range.insert("prefix".to_owned(), "k".into());
        }
        if self.one_in(4) {
            range.insert("start".to_owned(), self.key().into());
        }
        if self.one_in(6) {
            range.insert("end".to_owned(), self.key().into());
        }
        if self.one_in(3) {
            range.insert("limit".to_owned(), (1 + self.below(3)).into());
        }
        if self.one_in(3) {
            range.insert("reverse".to_owned(), true.into());
        }
        range.into()
    }

    fn end_of_section(&mut self) -> &'static str {
        if self.alone { self.end("return", "throw", 6) } else { "return" }
    }

    fn end(&mut self, usual: &'static str, other: &'static str, one_in: u64) -> &'static str {
        if self.one_in(one_in) { other } else { usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_list_for_ever() {
        assert_eq!(List::of(7).to_json(), List::of(7).to_json());
        assert_ne!(List::of(7).to_json(), List::of(8).to_json());
        let first = Draw { state: 0, on: OBJECTS[0], alone: true }.next();
        assert_eq!(first, 0xe220_a839_7b1d_cdaf, "results are kept by seed");
    }

    #[test]
    fn lists_have_all_operations() {
        let text: String = (0..200).map(|seed| List::of(seed).to_json().to_string()).collect();
        for name in ["note", "put_all", "section", "transaction_sync", "call", "ring", "set_alarm", "kv_list"]
        {
            assert!(text.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
