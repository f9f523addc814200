//! The SQL database of an object.

use super::edge::{Edge, app, with};
use crate::message::{Effect, Event};

/// Runs this in a method of an object, and gives what it returns.
fn inside(body: &str) -> String {
    let members = format!(
        "async run() {{ const {{ storage }} = this.ctx; const {{ sql }} = storage;
        const caught = async (run) => {{ try {{ return await run(); }} catch (error) {{ return String(error); }} }}; {body} }}"
    );
    with(&members, "return json(await stub.run());").get("/")
}

#[test]
fn values_go_in_and_come_back_as_the_reference_has_it() {
    let said = inside(
        "const one = (query, ...values) => sql.exec(query, ...values).one();
        const blob = one('SELECT ? AS b', new Uint8Array([1, 2])).b;
        return [one('SELECT ? AS v', true), one('SELECT ? AS v', null), one('SELECT ? AS v', undefined), one('SELECT ? AS v', 1.5), one('SELECT ? AS v', 'é'),
            blob instanceof ArrayBuffer, [...new Uint8Array(blob)], one('SELECT 1 AS a, 2 AS a'), one('SELECT 9007199254740993 AS n').n,
            await caught(() => sql.exec('SELECT ?', 1n)), one('SELECT -9.5 AS x').x];",
    );
    assert_eq!(
        said,
        r#"[{"v":"true"},{"v":null},{"v":null},{"v":1.5},{"v":"é"},true,[1,2],{"a":2},9007199254740992,"TypeError: Cannot convert a BigInt value to a number",-9.5]"#
    );
}

#[test]
fn cursors_give_their_rows_once() {
    let said = inside(
        "sql.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, ?), (2, ?)', 'a', 'b');
        const cursor = sql.exec('SELECT * FROM t ORDER BY id');
        const first = cursor.next();
        sql.exec('INSERT INTO t VALUES (3, ?)', 'c');
        return [cursor.columnNames, first, cursor.toArray(), cursor.next(), cursor.rowsRead, [...sql.exec('SELECT id FROM t')], [...sql.exec('SELECT id, name FROM t LIMIT 1').raw()],
            sql.exec('UPDATE t SET name = 1').rowsWritten, await caught(() => sql.exec('SELECT * FROM t').one()), await caught(() => sql.exec('SELECT * FROM t WHERE id = 9').one()),
            sql.exec('SELECT 1 AS a; SELECT 2 AS b').toArray(), sql.databaseSize > 4096];",
    );
    assert_eq!(
        said,
        r#"[["id","name"],{"done":false,"value":{"id":1,"name":"a"}},[{"id":2,"name":"b"}],{"done":true},2,[{"id":1},{"id":2},{"id":3}],[[1,"a"]],3,"Error: Expected exactly one result from SQL query, but got multiple results.","Error: Expected exactly one result from SQL query, but got no results.",[{"b":2}],true]"#
    );
}

#[test]
fn what_is_wrong_is_said() {
    let said = inside(
        "sql.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
        return [await caught(() => sql.exec('SELECT ?, ?', 1)), await caught(() => sql.exec('INSERT INTO t VALUES (1)', 5)), sql.exec('SELECT count(*) AS n FROM t').one().n,
            await caught(() => sql.exec('SELEC 1')), await caught(() => sql.exec('SELECT * FROM nope')), await caught(() => { sql.exec('INSERT INTO t VALUES (1)'); sql.exec('INSERT INTO t VALUES (1)'); }), await caught(() => sql.exec('  -- nothing'))];",
    );
    assert_eq!(
        said,
        r#"["Error: Wrong number of parameter bindings for SQL query.","Error: Wrong number of parameter bindings for SQL query.",0,"Error: near \"SELEC\": syntax error at offset 0: SQLITE_ERROR","Error: no such table: nope: SQLITE_ERROR","Error: UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)","Error: SQL code did not contain a statement."]"#
    );
}

#[test]
fn what_programs_may_not_do_is_refused() {
    let refused = [
        "BEGIN",
        "SAVEPOINT x",
        "COMMIT",
        "ATTACH 'x' AS y",
        "CREATE TABLE _cf_KV (a)",
        "CREATE TABLE _CF_x (a)",
        "PRAGMA journal_mode = WAL",
        "PRAGMA hard_heap_limit = 1",
        "PRAGMA page_size = 512",
        "PRAGMA max_page_count = 1",
        "SELECT sqlite_version()",
        "SELECT load_extension('x')",
        "SELECT readfile('/etc/passwd')",
        "CREATE VIRTUAL TABLE v USING dbstat",
        "VACUUM INTO '/tmp/x'",
    ];
    for query in refused {
        let said = inside(&format!("return await caught(() => {{ sql.exec(`{query}`); }}) ?? 'ran';"));
        assert!(said.starts_with(r#""Error: "#), "{query}: {said}");
        let transaction = ["BEGIN", "SAVEPOINT x", "COMMIT"].contains(&query);
        assert_eq!(said.contains("state.storage.transactionSync()"), transaction, "{query}: {said}");
    }
    let allowed = "sql.exec('PRAGMA foreign_keys = OFF'); sql.exec('PRAGMA defer_foreign_keys = ON'); sql.exec('CREATE VIRTUAL TABLE f USING fts5(text)'); sql.exec(\"INSERT INTO f VALUES ('some words')\");
        return [sql.exec(\"SELECT text FROM f WHERE f MATCH 'words'\").one().text, sql.exec(\"SELECT json_extract('{\\\"a\\\":5}', '$.a') AS a\").one().a, sql.exec(\"SELECT strftime('%Y', 0, 'unixepoch') AS y\").one().y,
            sql.exec('SELECT row_number() OVER () AS n').one().n, sql.exec('PRAGMA page_size').one().page_size, sql.exec('SELECT length(randomblob(16)) AS n, typeof(random()) AS t').one(), sql.exec('PRAGMA table_info(f)').toArray().length];";
    assert_eq!(inside(allowed), r#"["some words",5,"1970",1,4096,{"n":16,"t":"integer"},1]"#);
}

#[test]
fn limits_are_those_of_the_reference() {
    let said = inside(
        "const many = (n) => `SELECT ${Array(n).fill('?').join()}`;
        return [await caught(() => sql.exec(many(100), ...Array(100).fill(1)).columnNames.length), (await caught(() => sql.exec(many(101), ...Array(101).fill(1)))).includes('too many SQL variables'),
            (await caught(() => sql.exec(`SELECT 'a' LIKE '${'x'.repeat(51)}'`))).includes('LIKE or GLOB pattern too complex'), (await caught(() => sql.exec(`SELECT '${'x'.repeat(100001)}'`))).length > 0,
            (await caught(() => sql.exec('SELECT zeroblob(5000000)'))).includes('SQLITE_TOOBIG'), (await caught(() => sql.exec('SELECT 1' + ' UNION SELECT 1'.repeat(6)))).includes('too many terms'),
            (await caught(() => { sql.exec('CREATE TABLE b (x)'); for (;;) sql.exec('INSERT INTO b VALUES (zeroblob(1000000))'); })).includes('SQLITE_FULL')];",
    );
    assert_eq!(said, "[100,true,true,true,true,true,true]");
}

#[test]
fn a_transaction_covers_rows_and_keys() {
    let said = inside(
        "sql.exec('CREATE TABLE t (a)'); storage.kv.put('k', 1);
        await caught(() => storage.transactionSync(() => { sql.exec('INSERT INTO t VALUES (1)'); storage.kv.put('k', 2); throw 1; }));
        const first = [sql.exec('SELECT count(*) AS n FROM t').one().n, storage.kv.get('k')];
        storage.transactionSync(() => { sql.exec('INSERT INTO t VALUES (1)'); try { storage.transactionSync(() => { sql.exec('INSERT INTO t VALUES (2)'); throw 1; }); } catch {} });
        await caught(() => storage.transaction(async (txn) => { sql.exec('DELETE FROM t'); await scheduler.wait(0); throw 1; }));
        return [first, sql.exec('SELECT a FROM t').toArray()];",
    );
    assert_eq!(said, r#"[[0,1],[{"a":1}]]"#);
}

/// A class that adds rows, and counts them.
const ROWS: &str = "constructor(ctx, env) { super(ctx, env); ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, a)'); }
    add(n) { for (let i = 0; i < n; i++) this.ctx.storage.sql.exec('INSERT INTO t (a) VALUES (?)', 'x'.repeat(500)); return this.count(); }
    count() { return this.ctx.storage.sql.exec('SELECT count(*) AS n FROM t').one().n; }
    async all() { await this.ctx.storage.deleteAll(); return this.ctx.storage.sql.exec('SELECT count(*) AS n FROM sqlite_master').one().n; }";

#[test]
fn pages_are_committed_and_are_there_after_the_object_was_gone() {
    let mut edge = with(
        ROWS,
        "return json(url.pathname === '/all' ? await stub.all() : await stub.add(Number(url.searchParams.get('n'))));",
    );
    assert_eq!(edge.get("/?n=100"), "100");
    edge.prompt = false;
    edge.request("/?n=1");
    let changes = &edge.commits[0].2;
    let whole = edge.only().1.pages.len();
    assert!(changes.pages.len() < 5 && whole > 10, "{} of {whole} pages", changes.pages.len());
    edge.commit();
    edge.prompt = true;
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    assert!(edge.seen.contains(&Effect::Dropped(id)));
    assert_eq!(edge.get("/?n=0"), "101");
    assert_eq!((edge.get("/all"), edge.only().1.pages.len()), ("0".to_owned(), 0));
}

#[test]
fn pages_that_make_no_database_are_said_to_be_broken() {
    let mut edge = with(ROWS, "return json(await caught(() => stub.add(1)));");
    edge.get("/");
    let id = edge.only().0;
    edge.give(Event::Drop(id, None));
    edge.store.get_mut(&id).unwrap().pages.values_mut().for_each(|page| page.fill(0x5a));
    let said = edge.get("/");
    assert!(said.contains("SQLITE_NOTADB") || said.contains("SQLITE_CORRUPT"), "{said}");
    edge.store.get_mut(&id).unwrap().pages.remove(&0);
    assert_eq!(edge.get("/"), r#""Error: What is stored of the Durable Object cannot be read.""#);
}

#[test]
fn a_query_that_does_not_end_is_stopped() {
    let mut load = app(
        "import { DurableObject } from 'cloudflare:workers'; export class B {}
        export class A extends DurableObject { spin() { try { this.ctx.storage.sql.exec('WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c'); } catch {} for (;;) {} } ok() { return 1; } }
        export default { async fetch(r, env) { const stub = env.A.getByName('x'); const said = await stub.spin().catch(String); return Response.json([said, await env.A.getByName('x').ok()]); } }",
    );
    load.limits.cpu_ms = 200;
    assert_eq!(Edge::of(load).get("/"), r#"["Error: Worker exceeded CPU time limit.",1]"#);
}
