// What an object keeps: DurableObjectStorage, over the host. Reading and writing is immediate; what waits is only for the disk.
(function (internal) {
  'use strict';
  const { p, h, host } = internal;
  const { Error, Map, RangeError, TypeError, isArray, mapPut, objectKeys, dateTime } = p;
  const { attempt, finish, illegal, isObject, rejected, wrongArgument } = h;
  const natives = host.objects;
  const MOST_KEYS = 128;
  const key = {};

  const keysOf = (list) => {
    if (list.length > MOST_KEYS) throw new RangeError(`Maximum number of keys is ${MOST_KEYS}.`);
    const keys = [];
    for (let i = 0; i < list.length; i++) keys[i] = `${list[i]}`;
    return keys;
  };
  const valueOf = (bytes) => (bytes === undefined ? undefined : internal.deserialize(bytes));
  const clone = (value) => {
    if (value === undefined) throw new TypeError('put() called with undefined value.');
    return internal.serialize(value);
  };
  const unconfirmed = (options) => h.member(options, 'allowUnconfirmed') === true;
  const mapOf = (list) => {
    const map = new Map();
    for (let i = 0; i < list.length; i += 2) mapPut(map, list[i], internal.deserialize(list[i + 1]));
    return map;
  };
  const optional = (value) => (value === undefined || value === null ? undefined : `${value}`);
  // The range that options name, as the host takes it.
  function rangeOf(options, where) {
    const start = optional(h.member(options, 'start'));
    const startAfter = optional(h.member(options, 'startAfter'));
    if (start !== undefined && startAfter !== undefined) throw new TypeError(`${where} cannot be called with both start and startAfter values.`);
    const limit = h.member(options, 'limit');
    if (limit !== undefined && limit !== null && !(+limit > 0)) throw new TypeError('List limit must be positive.');
    return {
      __proto__: null, start: startAfter ?? start, after: startAfter !== undefined, end: optional(h.member(options, 'end')), prefix: optional(h.member(options, 'prefix')),
      reverse: h.member(options, 'reverse') === true, limit: limit === undefined || limit === null ? undefined : +limit,
    };
  }

  // What storage and transactions have in common.
  const operations = {
    get(id, args) {
      if (args.length < 1) throw wrongArgument('DurableObjectStorage', 'get', 1, 'string or Array');
      const name = args[0];
      if (isArray(name)) {
        const keys = p.arraySort(keysOf(name), (a, b) => compare(a, b));
        const map = new Map();
        for (let i = 0; i < keys.length; i++) {
          const bytes = natives.get(id, keys[i]);
          if (bytes !== undefined) mapPut(map, keys[i], internal.deserialize(bytes));
        }
        return map;
      }
      return valueOf(natives.get(id, `${name}`));
    },
    put(id, args) {
      if (args.length < 1) throw wrongArgument('DurableObjectStorage', 'put', 1, 'string or object');
      const entries = args[0];
      if (isObject(entries) && args.length < 3 && !isText(entries)) {
        const keys = objectKeys(entries);
        keysOf(keys);
        const values = [];
        // All or none. What is undefined is left out, as the reference does.
        for (let i = 0; i < keys.length; i++) { const value = entries[keys[i]]; values[i] = value === undefined ? undefined : internal.serialize(value); }
        for (let i = 0; i < keys.length; i++) if (values[i] !== undefined) natives.put(id, keys[i], values[i], unconfirmed(args[1]));
        return;
      }
      natives.put(id, `${entries}`, clone(args[1]), unconfirmed(args[2]));
    },
    delete(id, args) {
      if (args.length < 1) throw wrongArgument('DurableObjectStorage', 'delete', 1, 'string or Array');
      const name = args[0];
      const options = args[1];
      if (!isArray(name)) return natives.delete(id, `${name}`, unconfirmed(options));
      const keys = keysOf(name);
      let count = 0;
      for (let i = 0; i < keys.length; i++) if (natives.delete(id, keys[i], unconfirmed(options))) count++;
      return count;
    },
    list: (id, options) => mapOf(natives.list(id, rangeOf(options, 'list()'))),
    setAlarm(id, className, time, options) {
      const due = typeof time === 'number' ? time : timeOf(time);
      if (due === undefined) throw wrongArgument('DurableObjectStorage', 'setAlarm', 1, 'date');
      if (!(due > -Infinity && due < Infinity)) throw new TypeError('The value cannot be converted because it is not a valid Date.');
      if (!internal.hasAlarm(className)) throw new TypeError('Your Durable Object class must have an alarm() handler in order to call setAlarm()');
      if (!(due > 0)) throw new TypeError('setAlarm() cannot be called with an alarm time <= 0');
      natives.setAlarm(id, p.floor(due), unconfirmed(options));
    },
    getAlarm: (id) => natives.alarm(id) ?? null,
    deleteAlarm(id, options) { natives.setAlarm(id, undefined, unconfirmed(options)); },
  };
  const textValue = p.uncurry(p.String.prototype.valueOf);
  const isText = (value) => { try { textValue(value); return true; } catch { return false; } };
  const timeOf = (value) => { try { return dateTime(value); } catch { return undefined; } };
  // The order of UTF-8, which that of UTF-16 is not.
  const utf8 = (text) => internal.natives.encode(text);
  function compare(one, other) {
    const a = utf8(one);
    const b = utf8(other);
    const length = p.min(p.typedLength(a), p.typedLength(b));
    for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i] - b[i];
    return p.typedLength(a) - p.typedLength(b);
  }

  let transactionOf;
  class DurableObjectTransaction {
    #state;
    static { transactionOf = (txn, what) => {
      if (typeof txn !== 'object' || txn === null || !(#state in txn)) throw illegal();
      const { ended } = txn.#state;
      if (ended === 'rolled back') throw new Error(`Cannot ${what}() on rolled back transaction`);
      if (ended === 'committed') throw new Error(`Cannot call ${what}() on transaction that has already committed: did you move \`txn\` outside of the closure?`);
      return txn.#state;
    }; }
    static isRolledBack(txn) { return isObject(txn) && #state in txn && txn.#state.ended === 'rolled back'; }
    constructor(secret, state) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#state = state; }
    get(name, options = undefined) { const args = arguments; return attempt(() => operations.get(transactionOf(this, 'get').id, args)); }
    put(name, value, options = undefined) { const args = arguments; return attempt(() => operations.put(transactionOf(this, 'put').id, args)); }
    delete(name, options = undefined) { const args = arguments; return attempt(() => operations.delete(transactionOf(this, 'delete').id, args)); }
    list(options = undefined) { return attempt(() => operations.list(transactionOf(this, 'list').id, options)); }
    getAlarm() { return attempt(() => operations.getAlarm(transactionOf(this, 'getAlarm').id)); }
    setAlarm(time, options = undefined) { return attempt(() => { const state = transactionOf(this, 'setAlarm'); operations.setAlarm(state.id, state.className, time, options); }); }
    deleteAlarm(options = undefined) { return attempt(() => operations.deleteAlarm(transactionOf(this, 'deleteAlarm').id, options)); }
    deleteAll() { return attempt(() => { throw new Error('Cannot call deleteAll() within a transaction'); }); }
    rollback() {
      // Twice is as good as once.
      if (isRolledBack(this)) return;
      const state = transactionOf(this, 'rollback');
      state.ended = 'rolled back';
      natives.rollBack(state.id);
    }
  }
  const { isRolledBack } = DurableObjectTransaction;
  delete DurableObjectTransaction.isRolledBack;
  finish(DurableObjectTransaction, 'DurableObjectTransaction');

  async function transact(state, closure) {
    natives.begin(state.id, true);
    const inner = { __proto__: null, id: state.id, className: state.className, ended: undefined };
    const end = (what, how) => { if (inner.ended === undefined) { inner.ended = what; how(state.id); } };
    try {
      const value = await closure(new DurableObjectTransaction(key, inner));
      end('committed', natives.release);
      return value;
    } catch (error) {
      end('rolled back', natives.rollBack);
      throw error;
    }
  }

  let kvOf;
  const keyOf = (what, args) => {
    if (args.length < 1) throw wrongArgument('SyncKvStorage', what, 1, 'string');
    return `${args[0]}`;
  };
  class SyncKvStorage {
    #state;
    static { kvOf = (kv) => { if (typeof kv !== 'object' || kv === null || !(#state in kv)) throw illegal(); return kv.#state; }; }
    constructor(secret, state) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#state = state; }
    get(name) { return valueOf(natives.get(kvOf(this).id, keyOf('get', arguments))); }
    put(name, value) {
      const text = keyOf('put', arguments);
      if (arguments.length < 2) throw wrongArgument('SyncKvStorage', 'put', 2, 'Value');
      natives.put(kvOf(this).id, text, internal.serialize(value), false);
    }
    delete(name) { return natives.delete(kvOf(this).id, keyOf('delete', arguments), false); }
    list(options = undefined) {
      const state = kvOf(this);
      return new KvIterator(key, state, ++state.lists, rangeOf(options, 'kv.list()'));
    }
  }
  finish(SyncKvStorage, 'SyncKvStorage');

  let iteratorOf;
  class KvIterator {
    #state;
    static { iteratorOf = (iterator) => { if (typeof iterator !== 'object' || iterator === null || !(#state in iterator)) throw illegal(); return iterator.#state; }; }
    constructor(secret, kv, list, range) {
      if (secret !== key) throw new TypeError('Illegal constructor');
      this.#state = { __proto__: null, kv, list, range, left: range.limit, done: false };
    }
    next() {
      const state = iteratorOf(this);
      if (state.list !== state.kv.lists) throw new Error('kv.list() iterator was invalidated because a new call to kv.list() was started. Only one kv.list() iterator can exist at a time.');
      if (state.done || state.left === 0) return { done: true, value: undefined };
      const { range } = state;
      const found = natives.list(state.kv.id, { __proto__: null, ...range, limit: 1 });
      if (found.length === 0) { state.done = true; return { done: true, value: undefined }; }
      if (state.left !== undefined) state.left--;
      if (range.reverse) range.end = found[0];
      else { range.start = found[0]; range.after = true; }
      return { done: false, value: [found[0], internal.deserialize(found[1])] };
    }
    [p.symbolIterator]() { return this; }
  }

  // ---- SQL ----

  const bindings = (args) => {
    const list = [];
    for (let i = 1; i < args.length; i++) {
      const value = args[i];
      if (typeof value === 'bigint') throw new TypeError('Cannot convert a BigInt value to a number');
      const bytes = h.bytesOf(value);
      list[i - 1] = value === undefined || value === null ? null : typeof value === 'number' ? value : bytes !== null ? bytes : `${value}`;
    }
    return list;
  };
  let cursorOf;
  class SqlStorageCursor {
    #state;
    static { cursorOf = (cursor) => { if (typeof cursor !== 'object' || cursor === null || !(#state in cursor)) throw illegal(); return cursor.#state; }; }
    constructor(secret, found) {
      if (secret !== key) throw new TypeError('Illegal constructor');
      this.#state = { __proto__: null, columns: found.columns, rows: found.rows, written: found.written, at: 0 };
    }
    next() {
      const state = cursorOf(this);
      return state.at < state.rows.length ? { done: false, value: rowOf(state, state.rows[state.at++]) } : { done: true, value: undefined };
    }
    toArray() {
      const state = cursorOf(this);
      const list = [];
      while (state.at < state.rows.length) list[list.length] = rowOf(state, state.rows[state.at++]);
      return list;
    }
    one() {
      const state = cursorOf(this);
      const left = state.rows.length - state.at;
      if (left === 0) throw new Error('Expected exactly one result from SQL query, but got no results.');
      if (left > 1) throw new Error('Expected exactly one result from SQL query, but got multiple results.');
      return rowOf(state, state.rows[state.at++]);
    }
    raw() { return new RawIterator(key, cursorOf(this)); }
    get columnNames() { return p.arraySlice(cursorOf(this).columns); }
    get rowsRead() { return cursorOf(this).at; }
    get rowsWritten() { return cursorOf(this).written; }
    [p.symbolIterator]() { cursorOf(this); return this; }
  }
  finish(SqlStorageCursor, 'SqlStorageCursor');
  delete internal.classes.SqlStorageCursor;
  // Of columns with one name, the last counts.
  const rowOf = (state, values) => {
    const row = {};
    for (let i = 0; i < values.length; i++) p.defineProperty(row, state.columns[i], { __proto__: null, value: values[i], writable: true, enumerable: true, configurable: true });
    return row;
  };
  let rawOf;
  class RawIterator {
    #state;
    static { rawOf = (iterator) => { if (typeof iterator !== 'object' || iterator === null || !(#state in iterator)) throw illegal(); return iterator.#state; }; }
    constructor(secret, state) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#state = state; }
    next() {
      const state = rawOf(this);
      return state.at < state.rows.length ? { done: false, value: state.rows[state.at++] } : { done: true, value: undefined };
    }
    toArray() {
      const state = rawOf(this);
      const list = [];
      while (state.at < state.rows.length) list[list.length] = state.rows[state.at++];
      return list;
    }
    [p.symbolIterator]() { rawOf(this); return this; }
  }
  let sqlOf;
  class SqlStorage {
    #id;
    static { sqlOf = (sql) => { if (typeof sql !== 'object' || sql === null || !(#id in sql)) throw illegal(); return sql.#id; }; }
    constructor(secret, id) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#id = id; }
    exec(query) { return new SqlStorageCursor(key, natives.sql(sqlOf(this), `${query}`, bindings(arguments))); }
    get databaseSize() { return natives.databaseSize(sqlOf(this)); }
  }
  p.defineProperty(SqlStorage, 'Cursor', { __proto__: null, value: SqlStorageCursor, enumerable: true });
  p.defineProperty(SqlStorage.prototype, 'Cursor', { __proto__: null, value: SqlStorageCursor, enumerable: true });
  finish(SqlStorage, 'SqlStorage');

  let storageOf;
  class DurableObjectStorage {
    #state;
    static { storageOf = (storage) => { if (typeof storage !== 'object' || storage === null || !(#state in storage)) throw illegal(); return storage.#state; }; }
    constructor(secret, state) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#state = state; }
    get(name, options = undefined) { const args = arguments; return attempt(() => operations.get(storageOf(this).id, args)); }
    put(name, value, options = undefined) { const args = arguments; return attempt(() => operations.put(storageOf(this).id, args)); }
    delete(name, options = undefined) { const args = arguments; return attempt(() => operations.delete(storageOf(this).id, args)); }
    list(options = undefined) { return attempt(() => operations.list(storageOf(this).id, options)); }
    deleteAll(options = undefined) {
      return attempt(() => {
        const { id } = storageOf(this);
        if (natives.inTransaction(id)) throw new Error('Cannot call deleteAll() within a transaction');
        natives.clear(id, internal.since('2026-02-24') || internal.has('delete_all_deletes_alarm'));
      });
    }
    sync() { try { return natives.sync(storageOf(this).id); } catch (error) { return rejected(error); } }
    getAlarm(options = undefined) { return attempt(() => operations.getAlarm(storageOf(this).id)); }
    setAlarm(time, options = undefined) { return attempt(() => { const state = storageOf(this); operations.setAlarm(state.id, state.className, time, options); }); }
    deleteAlarm(options = undefined) { return attempt(() => operations.deleteAlarm(storageOf(this).id, options)); }
    transaction(closure) {
      try {
        const state = storageOf(this);
        if (typeof closure !== 'function') throw wrongArgument('DurableObjectStorage', 'transaction', 1, 'function');
        return natives.section(state.id, true, () => transact(state, closure));
      } catch (error) { return rejected(error); }
    }
    transactionSync(closure) {
      const { id } = storageOf(this);
      if (typeof closure !== 'function') throw wrongArgument('DurableObjectStorage', 'transactionSync', 1, 'function');
      natives.begin(id, false);
      let value;
      try {
        value = closure();
      } catch (error) {
        natives.rollBack(id);
        throw error;
      }
      natives.release(id);
      return value;
    }
    get kv() { return storageOf(this).kv; }
    get sql() { return storageOf(this).sql; }
    getCurrentBookmark() { return attempt(() => { storageOf(this); throw new Error('Point-in-time recovery is not supported by Berth.'); }); }
    getBookmarkForTime() { return this.getCurrentBookmark(); }
    onNextSessionRestoreBookmark() { return this.getCurrentBookmark(); }
  }
  finish(DurableObjectStorage, 'DurableObjectStorage');
  internal.storage = (id, className) => {
    const state = { __proto__: null, id, className, kv: undefined, sql: new SqlStorage(key, id) };
    state.kv = new SyncKvStorage(key, { __proto__: null, id, lists: 0 });
    return new DurableObjectStorage(key, state);
  };
  internal.shape(DurableObjectStorage, 'DurableObjectStorage', []);
});
