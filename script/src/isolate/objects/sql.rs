//! The SQL database of one object: SQLite in memory. What goes with a commit are the pages that are different since the last one, found
//! by comparing all: sound whatever SQLite does, and bounded since an object may keep no more than `STATE_BYTES`.
//!
//! What a program may do with it is bounded by SQLite's own means: an authorizer, limits, and a handler that is asked between steps
//! whether the script must stop. SQLite's own chance has no source in a process that opens no files: that of the host takes its place.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::Value;
use rusqlite::{Batch, Connection, Statement};
use serde_bytes::ByteBuf;

use super::allowed::{FUNCTIONS, PRAGMAS};
use super::math;
use crate::isolate::host::Host;
use crate::isolate::limits::Guard;
use crate::message::{Changes, STATE_BYTES};

/// Bytes of a page: SQLite's own default.
const PAGE_BYTES: usize = 4096;

/// Most bytes of rows that one query gives: they are all there at once.
const RESULT_BYTES: usize = 32 << 20;

/// What a value of a row takes up besides its bytes.
const CELL_BYTES: usize = 32;

/// Steps of SQLite's machine after which it is asked whether the script must stop: far less than a millisecond.
const STEPS: i32 = 10_000;

/// What an open database takes up besides its pages, in bytes.
const OPEN_BYTES: usize = 96 << 10;

/// What SQLite may allocate in this process altogether, in bytes: beyond, a query fails. Pages are bounded by themselves.
const HEAP_BYTES: i64 = 512 << 20;

/// Most pages of a database.
#[expect(clippy::cast_possible_wrap, reason = "a few thousand")]
const MOST_PAGES: i64 = (STATE_BYTES / PAGE_BYTES) as i64;

/// Bounds of SQLite's, those of the reference: variables, columns, the bytes of a pattern, of a query, of a row, parts of a compound
/// query, arguments; and nothing may be attached.
const LIMITS: [(Limit, i32); 8] = [
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 100),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 50),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_LENGTH, 4 << 20),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 5),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
];

const TRANSACTION: &str = "To execute a transaction, please use the state.storage.transaction() or state.storage.transactionSync() APIs \
    instead of the SQL BEGIN TRANSACTION or SAVEPOINT statements. The JavaScript API is safer because it will automatically roll back on \
    exceptions, and because it interacts correctly with Durable Objects' automatic atomic write coalescing.";

const BINDINGS: &str = "Wrong number of parameter bindings for SQL query.";

/// Who prepares a statement: the program, or this module; or the program has tried to begin a transaction.
const PROGRAM: u8 = 0;
const OWN: u8 = 1;
const TRIED: u8 = 2;

thread_local! {
    /// The guard of the script whose query runs on this thread.
    static RUNNING: RefCell<Option<Rc<Guard>>> = const { RefCell::new(None) };
}

/// What a query gives.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) written: u64,
    /// Whether anything may have been written.
    pub(super) writes: bool,
    bytes: usize,
}

/// An open database.
pub(super) struct Database {
    connection: Connection,
    /// All pages as they were at the last commit.
    committed: Vec<u8>,
    mode: Arc<AtomicU8>,
    /// Whether something may be different since the last commit.
    touched: bool,
}

/// The text of an error, as the reference has it.
fn text(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { error, msg, offset, .. } if *offset >= 0 => {
            format!("{msg} at offset {offset}: {}", name(error.extended_code))
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => format!("{msg}: {}", name(error.extended_code)),
        rusqlite::Error::SqliteFailure(code, Some(text)) => {
            format!("{text}: {}{}", name(code.extended_code), extended(code.extended_code))
        }
        other => format!("{other}: SQLITE_ERROR"),
    }
}

/// The name of a code of SQLite's.
fn name(code: i32) -> &'static str {
    match code & 0xff {
        3 => "SQLITE_PERM",
        4 => "SQLITE_ABORT",
        5 => "SQLITE_BUSY",
        6 => "SQLITE_LOCKED",
        7 => "SQLITE_NOMEM",
        8 => "SQLITE_READONLY",
        9 => "SQLITE_INTERRUPT",
        10 => "SQLITE_IOERR",
        11 => "SQLITE_CORRUPT",
        13 => "SQLITE_FULL",
        17 => "SQLITE_SCHEMA",
        18 => "SQLITE_TOOBIG",
        19 => "SQLITE_CONSTRAINT",
        20 => "SQLITE_MISMATCH",
        21 => "SQLITE_MISUSE",
        23 => "SQLITE_AUTH",
        25 => "SQLITE_RANGE",
        26 => "SQLITE_NOTADB",
        _ => "SQLITE_ERROR",
    }
}

/// Which constraint it was.
fn extended(code: i32) -> String {
    let kind = match code {
        275 => "CHECK",
        787 => "FOREIGNKEY",
        1299 => "NOTNULL",
        1555 => "PRIMARYKEY",
        1811 => "TRIGGER",
        2067 => "UNIQUE",
        2579 => "ROWID",
        3091 => "DATATYPE",
        _ => return String::new(),
    };
    format!(" (extended: SQLITE_CONSTRAINT_{kind})")
}

/// Whether a program may do this.
fn authorize(mode: &AtomicU8, context: &AuthContext<'_>) -> Authorization {
    if mode.load(Ordering::Relaxed) == OWN {
        return Authorization::Allow;
    }
    let own = |name: &str| name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("_cf_"));
    let allowed = match context.action {
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            mode.store(TRIED, Ordering::Relaxed);
            false
        }
        AuthAction::Unknown { .. } | AuthAction::Attach { .. } | AuthAction::Detach { .. } => false,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            let known = PRAGMAS.iter().find(|(pragma, _)| *pragma == name);
            known.is_some_and(|(_, takes)| *takes || pragma_value.is_none())
        }
        AuthAction::Function { function_name } => {
            FUNCTIONS.contains(&function_name.to_ascii_lowercase().as_str())
        }
        AuthAction::CreateVtable { module_name, table_name } => {
            let module = module_name.to_ascii_lowercase();
            !own(table_name) && (module == "fts5" || module == "fts5vocab")
        }
        AuthAction::CreateTable { table_name }
        | AuthAction::CreateTempTable { table_name }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::Insert { table_name }
        | AuthAction::Read { table_name, .. }
        | AuthAction::Update { table_name, .. }
        | AuthAction::AlterTable { table_name, .. } => !own(table_name),
        AuthAction::CreateView { view_name } | AuthAction::CreateTempView { view_name } => !own(view_name),
        _ => true,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

impl Database {
    /// A database of these pages.
    pub(super) fn open(pages: Vec<u8>, host: &Rc<dyn Host>) -> Result<Self, String> {
        let mode = Arc::new(AtomicU8::new(OWN));
        let connection = Self::connect(&pages, &mode, host).map_err(|error| text(&error))?;
        Ok(Self { connection, committed: pages, mode, touched: false })
    }

    fn connect(pages: &[u8], mode: &Arc<AtomicU8>, host: &Rc<dyn Host>) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_in_memory()?;
        if !pages.is_empty() {
            connection.deserialize_read_exact("main", pages, pages.len(), false)?;
        }
        connection.pragma_update(None, "max_page_count", MOST_PAGES)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update_and_check(None, "hard_heap_limit", HEAP_BYTES, |_| Ok(()))?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        for (limit, most) in LIMITS {
            connection.set_limit(limit, most)?;
        }
        Self::give_chance(&connection, host)?;
        math::give(&connection)?;
        let asked = Arc::clone(mode);
        connection.authorizer(Some(move |context: AuthContext<'_>| authorize(&asked, &context)))?;
        connection.progress_handler(
            STEPS,
            Some(|| RUNNING.with_borrow(|guard| guard.as_ref().is_some_and(|guard| guard.must_stop()))),
        )?;
        Ok(connection)
    }

    /// Functions of chance over the host's.
    fn give_chance(connection: &Connection, host: &Rc<dyn Host>) -> rusqlite::Result<()> {
        let mut seed = [0; 32];
        host.random(&mut seed);
        let key = Arc::new(Chance::new(&seed));
        let chance = Arc::clone(&key);
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
        connection.create_scalar_function("random", 0, flags, move |_| {
            let mut bytes = [0; 8];
            chance.fill(&mut bytes);
            Ok(i64::from_le_bytes(bytes))
        })?;
        connection.create_scalar_function("randomblob", 1, flags, move |context| {
            let length = context.get::<Option<i64>>(0)?.unwrap_or(1).clamp(1, 4 << 20);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(1)];
            key.fill(&mut bytes);
            Ok(bytes)
        })
    }

    /// Runs one statement of our own.
    fn own(&mut self, statement: &str) -> Result<(), String> {
        self.mode.store(OWN, Ordering::Relaxed);
        self.connection.execute_batch(statement).map_err(|error| text(&error))
    }

    pub(super) fn begin(&mut self, depth: usize) -> Result<(), String> {
        self.own(&format!("SAVEPOINT _cf_{depth}"))
    }

    pub(super) fn release(&mut self, depth: usize) -> Result<(), String> {
        self.own(&format!("RELEASE _cf_{depth}"))
    }

    pub(super) fn roll_back(&mut self, depth: usize) -> Result<(), String> {
        self.own(&format!("ROLLBACK TO _cf_{depth}; RELEASE _cf_{depth}"))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, host: &Rc<dyn Host>) -> Result<(), String> {
        self.connection = Self::connect(&[], &self.mode, host).map_err(|error| text(&error))?;
        self.touched = true;
        Ok(())
    }

    /// Runs a program's statements. The last one's rows; the values are for that one.
    pub(super) fn run(&mut self, guard: &Rc<Guard>, sql: &str, values: &[Value]) -> Result<Rows, String> {
        self.mode.store(PROGRAM, Ordering::Relaxed);
        RUNNING.set(Some(Rc::clone(guard)));
        let ran = self.run_all(sql, values);
        RUNNING.set(None);
        self.touched |= ran.as_ref().map_or(true, |rows| rows.writes);
        let tried = self.mode.swap(OWN, Ordering::Relaxed) == TRIED;
        ran.map_err(|error| if tried { TRANSACTION.to_owned() } else { error })
    }

    fn run_all(&self, sql: &str, values: &[Value]) -> Result<Rows, String> {
        let before = self.connection.total_changes();
        let mut batch = Batch::new(&self.connection, sql);
        let (mut rows, mut used, mut any) = (Rows::default(), values.is_empty(), false);
        // The values are for a statement with as many places for them: checked before it runs, and where there is none, in a query
        // of one statement before that.
        let single = !sql.trim_end().trim_end_matches(';').contains(';');
        while let Some(mut statement) = batch.next().map_err(|error| text(&error))? {
            any = true;
            let places = statement.parameter_count();
            let given: &[Value] = if places == 0 { &[] } else { values };
            if places != given.len() || (single && places != values.len()) {
                return Err(BINDINGS.to_owned());
            }
            used |= places > 0;
            let writes = rows.writes || !statement.readonly();
            rows = read(&mut statement, given)?;
            rows.writes = writes;
        }
        if !any {
            return Err("SQL code did not contain a statement.".to_owned());
        }
        if !used {
            return Err(BINDINGS.to_owned());
        }
        rows.written = self.connection.total_changes() - before;
        Ok(rows)
    }

    /// All pages as they are now.
    fn image(&mut self) -> Result<Vec<u8>, String> {
        if self.pages()? == 0 {
            return Ok(Vec::new());
        }
        self.connection.serialize("main").map(|data| data.to_vec()).map_err(|error| text(&error))
    }

    fn pages(&mut self) -> Result<usize, String> {
        self.mode.store(OWN, Ordering::Relaxed);
        let count = self.connection.query_row("PRAGMA page_count", (), |row| row.get::<_, u32>(0));
        count.map(|count| count as usize).map_err(|error| text(&error))
    }

    /// The bytes of all pages.
    pub(super) fn size(&mut self) -> usize {
        self.pages().map_or(0, |pages| pages * PAGE_BYTES)
    }

    /// What it takes up in memory, about: its pages now and as they were.
    pub(super) fn bytes(&self) -> usize {
        2 * self.committed.len() + OPEN_BYTES
    }

    /// Adds the pages that are different to what is committed.
    pub(super) fn take_changes(&mut self, changes: &mut Changes) -> Result<(), String> {
        if !std::mem::take(&mut self.touched) {
            return Ok(());
        }
        let image = self.image()?;
        for (at, page) in image.chunks(PAGE_BYTES).enumerate() {
            let before = self.committed.get(at * PAGE_BYTES..(at + 1) * PAGE_BYTES);
            if before != Some(page) {
                changes.pages.push((u32::try_from(at).unwrap_or(u32::MAX), ByteBuf::from(page)));
            }
        }
        if image.len() != self.committed.len() {
            changes.page_count = u32::try_from(image.len() / PAGE_BYTES).ok();
        }
        self.committed = image;
        Ok(())
    }
}

/// Runs a statement to its end.
fn read(statement: &mut Statement<'_>, values: &[Value]) -> Result<Rows, String> {
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = Rows { columns, ..Rows::default() };
    for (at, value) in values.iter().enumerate() {
        statement.raw_bind_parameter(at + 1, value).map_err(|error| text(&error))?;
    }
    let mut found = statement.raw_query();
    while let Some(row) = found.next().map_err(|error| text(&error))? {
        let mut list = Vec::with_capacity(rows.columns.len());
        for at in 0..rows.columns.len() {
            let value: Value = row.get(at).map_err(|error| text(&error))?;
            rows.bytes += CELL_BYTES
                + match &value {
                    Value::Text(text) => text.len(),
                    Value::Blob(bytes) => bytes.len(),
                    _ => 0,
                };
            list.push(value);
        }
        if rows.bytes > RESULT_BYTES {
            return Err(format!(
                "A query cannot give more than {} MiB of rows: SQLITE_TOOBIG",
                RESULT_BYTES >> 20
            ));
        }
        rows.rows.push(list);
    }
    Ok(rows)
}

/// Pages that were stored, one behind the other. `None`: some are missing or have another size.
pub(super) fn image_of(pages: Vec<(u32, ByteBuf)>) -> Option<Vec<u8>> {
    let mut image = Vec::with_capacity(pages.len() * PAGE_BYTES);
    for (at, (number, page)) in pages.into_iter().enumerate() {
        if usize::try_from(number).ok() != Some(at) || page.len() != PAGE_BYTES {
            return None;
        }
        image.extend_from_slice(&page);
    }
    Some(image)
}

/// A stream of chance that one seed of the host's gives: SQLite may be asked for it in the midst of a query.
struct Chance {
    key: ring::hmac::Key,
    count: std::sync::atomic::AtomicU64,
}

impl Chance {
    fn new(seed: &[u8]) -> Self {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, seed);
        Self { key, count: std::sync::atomic::AtomicU64::new(0) }
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let count = self.count.fetch_add(1, Ordering::Relaxed);
            let block = ring::hmac::sign(&self.key, &count.to_le_bytes());
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        }
    }
}
