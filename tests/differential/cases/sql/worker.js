import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

const shown = (value) => {
  if (value instanceof Map) return { map: [...value].map(([key, inner]) => [key, shown(inner)]) };
  if (value === undefined) return 'undefined';
  return value;
};

const shownAll = (value) => JSON.parse(JSON.stringify(value, (_, inner) => (inner instanceof ArrayBuffer ? { buffer: [...new Uint8Array(inner)] } : inner)));
export class Room extends DurableObject {
  async run(name) { return shownAll(await statements[name](this.ctx.storage.sql)); }
}
const all = (sql, text, ...values) => attempt(async () => sql.exec(text, ...values).toArray());

const statements = {
  async bind(sql) {
    const typed = (value) => all(sql, 'SELECT typeof(?1) AS t, ?1 AS v', value);
    return { true: await typed(true), null: await typed(null), undefined: await typed(undefined), int: await typed(5), half: await typed(0.5), text: await typed('x'), bytes: await typed(new Uint8Array([1, 2])), big: await typed(5n), object: await typed({}), date: await typed(new Date(0)), nan: await typed(NaN), infinite: await typed(Infinity) };
  },
  async count(sql) { return [await all(sql, 'SELECT ?, ?', 1), await all(sql, 'SELECT 1', 1), await all(sql, `SELECT ${Array.from({ length: 101 }, () => '?').join(', ')}`, ...Array(101).fill(1)), await all(sql, '')]; },
  async several(sql) { return [await all(sql, 'SELECT 1 AS a; SELECT 2 AS b'), await all(sql, 'CREATE TABLE s (v); INSERT INTO s VALUES (?)', 7), await all(sql, 'SELECT * FROM s; -- the end')]; },
  async names(sql) { return [await all(sql, 'SELECT 1 AS a, 2 AS a'), sql.exec('SELECT 1 AS a, 2 AS a').columnNames, [...sql.exec('SELECT 1 AS a, 2 AS a').raw()]]; },
  async one(sql) { return [await attempt(async () => sql.exec('SELECT 1 AS a').one()), await attempt(async () => sql.exec('SELECT 1 WHERE 0').one()), await attempt(async () => sql.exec('SELECT 1 UNION SELECT 2').one())]; },
  async next(sql) { const cursor = sql.exec('SELECT 1 AS a UNION SELECT 2'); return [cursor.next(), cursor.next(), cursor.next(), cursor.next(), cursor.toArray()]; },
  async refused(sql) {
    const results = {};
    for (const text of ['BEGIN', 'COMMIT', 'SAVEPOINT x', 'SELECT * FROM _cf_KV', 'CREATE TABLE _cf_x (v)', "ATTACH 'x' AS y", 'PRAGMA journal_mode = WAL', 'SELECT sqlite_version()', 'SELECT 1 +', 'SELECT nothing', 'SELECT * FROM nowhere', "SELECT load_extension('x')", 'VACUUM'])
      results[text] = await all(sql, text);
    return results;
  },
  async allowed(sql) {
    const results = {};
    for (const text of ['PRAGMA foreign_keys', 'SELECT json_extract(\'{"a":2}\', \'$.a\') AS v', 'SELECT sum(v) OVER () AS v FROM (SELECT 1 AS v)', "SELECT date('2026-01-31', '+1 day') AS v", "SELECT 'abc' LIKE 'A%' AS v", 'SELECT sqrt(4.0) AS v', 'SELECT abs(-9223372036854775807) AS v', "SELECT quote(x'00ff') AS v", 'SELECT typeof(randomblob(4)) AS v', 'PRAGMA table_list'])
      results[text] = text === 'PRAGMA table_list' ? typeof (await all(sql, text)).value : await all(sql, text);
    return results;
  },
  async constraints(sql) {
    sql.exec('CREATE TABLE c (k TEXT PRIMARY KEY, v NOT NULL CHECK (v > 0))');
    return [await all(sql, 'INSERT INTO c VALUES (?, ?) RETURNING *', 'a', 1), await all(sql, "INSERT INTO c VALUES ('a', 2)"), await all(sql, "INSERT INTO c VALUES ('b', NULL)"), await all(sql, "INSERT INTO c VALUES ('b', 0)"), await all(sql, "INSERT INTO c VALUES ('a', 9) ON CONFLICT DO UPDATE SET v = excluded.v RETURNING v")];
  },
  // The cursor of a statement that is run again is no good any more; writes beside it are seen or not as SQLite does.
  async again(sql) {
    sql.exec('CREATE TABLE n (v); INSERT INTO n VALUES (1), (2), (3)');
    const text = 'SELECT v FROM n ORDER BY v';
    const first = sql.exec(text);
    first.next();
    const second = sql.exec(text).toArray();
    const rest = await attempt(async () => first.toArray());
    const open = sql.exec('SELECT v FROM n ORDER BY rowid');
    open.next();
    sql.exec('INSERT INTO n VALUES (4)');
    return [second, rest, await attempt(async () => open.toArray())];
  },
  async counts(sql) {
    sql.exec('CREATE TABLE r (v)');
    const write = sql.exec('INSERT INTO r VALUES (1), (2), (3)');
    const read = sql.exec('SELECT * FROM r');
    read.toArray();
    return [write.rowsWritten, write.rowsRead, read.rowsRead, read.rowsWritten, typeof sql.databaseSize];
  },
  async large(sql) { return [await all(sql, 'SELECT 9007199254740993 AS v, -9223372036854775808 AS w'), await all(sql, 'SELECT 1e400 AS v'), await attempt(async () => sql.exec(`SELECT length('${'x'.repeat(100001)}') AS n`).toArray())]; },
};

export default {
  async fetch(request, env) { return Response.json(await env.ROOM.getByName('one').run(new URL(request.url).pathname.slice(1))); },
};
