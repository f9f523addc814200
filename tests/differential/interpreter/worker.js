// Carries out lists of operations on objects, and answers with what came of each, in which order, and what is kept at the end.
import { DurableObject } from 'cloudflare:workers';

// Values of which JSON has no form.
const SPECIAL = {
  nothing: () => undefined,
  negative_zero: () => -0,
  not_a_number: () => NaN,
  date: () => new Date(86400000),
  bytes: () => new Uint8Array([1, 2, 255]),
  map: () => new Map([['k', new Map([[1, 'one']])]]),
  set: () => new Set(['x', 'y']),
  error: () => new RangeError('kept'),
  big: () => 12345678901234567890n,
  circle: () => { const circle = { name: 'circle' }; circle.self = circle; return circle; },
};

function revived(value) {
  if (Array.isArray(value)) return value.map(revived);
  if (value === null || typeof value !== 'object') return value;
  if (typeof value.special === 'string') return SPECIAL[value.special]();
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, revived(inner)]));
}

function shown(value, above = []) {
  if (value === undefined) return { is: 'undefined' };
  if (typeof value === 'bigint') return { bigint: `${value}` };
  if (Object.is(value, -0)) return { is: '-0' };
  if (typeof value === 'number' && !Number.isFinite(value)) return { is: `${value}` };
  if (value === null || typeof value !== 'object') return value;
  if (above.includes(value)) return { is: 'a circle' };
  const inner = (part) => shown(part, [...above, value]);
  if (Array.isArray(value)) return value.map(inner);
  if (value instanceof Map) return { map: [...value].map(inner) };
  if (value instanceof Set) return { set: [...value].map(inner) };
  if (value instanceof Date) return { date: value.getTime() };
  if (value instanceof Error) return { error: value.name, message: value.message };
  if (value instanceof ArrayBuffer) return { buffer: [...new Uint8Array(value)] };
  if (ArrayBuffer.isView(value)) return { [value.constructor.name]: [...value] };
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, inner(part)]));
}

const failed = (error) => ({ failed: error?.name ?? typeof error, message: error?.message ?? `${error}` });

// Alarms are set for so long after this moment that none comes by itself.
const LATER = 4102444800000;

export class Machine extends DurableObject {
  order = [];
  alarms = 0;

  async alarm(info) {
    this.order.push('alarm');
    const kept = this.ctx.storage.kv.get('alarms') ?? 0;
    this.ctx.storage.kv.put('alarms', kept + 1);
    const own = await this.ctx.storage.getAlarm();
    this.ctx.storage.kv.put('alarm seen', { own, retries: info.retryCount });
  }

  // A call from outside: its operations one after the other.
  async run(label, list) {
    this.order.push(`${label} begins`);
    const results = await this.all(label, list);
    this.order.push(`${label} ends`);
    return results;
  }

  async all(label, list) {
    const results = [];
    for (const operation of list) {
      try {
        results.push(shown(await this.one(label, operation)));
      } catch (error) {
        results.push(failed(error));
      }
    }
    return results;
  }

  one(label, [name, ...rest]) {
    const { storage } = this.ctx;
    const [first, second, third] = rest;
    switch (name) {
      case 'note': this.order.push(`${label} notes ${first}`); return this.order.length;
      case 'get': return storage.get(first);
      case 'put': return storage.put(first, revived(second));
      case 'put_all': return storage.put(revived(first));
      case 'delete': return storage.delete(first);
      case 'list': return storage.list(first);
      case 'delete_all': return storage.deleteAll();
      case 'kv_get': return storage.kv.get(first);
      case 'kv_put': return storage.kv.put(first, revived(second));
      case 'kv_delete': return storage.kv.delete(first);
      case 'kv_list': return [...storage.kv.list(first)];
      case 'sql': return this.sql(first, second.map(revived));
      case 'set_alarm': return storage.setAlarm(LATER + first);
      case 'get_alarm': return storage.getAlarm();
      case 'delete_alarm': return storage.deleteAlarm();
      case 'section': return this.section(label, first, second);
      case 'transaction': return this.transaction(label, first, second);
      case 'transaction_sync': return storage.transactionSync(() => this.atOnce(label, first, second));
      case 'call': return this.env.MACHINE.getByName(first).run(`${label} ${third}`, second);
      default: throw new Error(`no operation ${name}`);
    }
  }

  sql(query, bindings) {
    const cursor = this.ctx.storage.sql.exec(query, ...bindings);
    return { columns: cursor.columnNames, rows: [...cursor.raw()] };
  }

  section(label, list, end) {
    return this.ctx.blockConcurrencyWhile(async () => {
      this.order.push(`${label} is alone`);
      const results = await this.all(`${label}!`, list);
      await scheduler.wait(1);
      this.order.push(`${label} is no longer alone`);
      if (end === 'throw') throw new RangeError('planned');
      return results;
    });
  }

  transaction(label, list, end) {
    return this.ctx.storage.transaction(async (transaction) => {
      const results = await this.all(`${label}~`, list);
      if (end === 'throw') throw new RangeError('planned');
      if (end === 'rollback') transaction.rollback();
      return results;
    });
  }

  // As `all`, within one turn.
  atOnce(label, list, end) {
    const results = [];
    for (const operation of list) {
      try {
        results.push(shown(this.one(label, operation)));
      } catch (error) {
        results.push(failed(error));
      }
    }
    if (end === 'throw') throw new RangeError('planned');
    return results;
  }

  // Has the alarm come at once, and waits for it.
  async ring() {
    const before = this.ctx.storage.kv.get('alarms') ?? 0;
    await this.ctx.storage.setAlarm(Date.now());
    for (let tries = 0; tries < 500; tries++) {
      if ((this.ctx.storage.kv.get('alarms') ?? 0) > before) return { alarm: await this.ctx.storage.getAlarm() };
      await scheduler.wait(10);
    }
    return 'it did not come';
  }

  async state() {
    const { storage } = this.ctx;
    const tables = storage.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 't%' ORDER BY name").toArray();
    const rows = tables.map(({ name }) => [name, [...storage.sql.exec(`SELECT * FROM ${name} ORDER BY rowid`).raw()]]);
    return shown({ kept: await storage.list(), rows, alarm: await storage.getAlarm(), order: this.order });
  }
}

export default {
  async fetch(request, { MACHINE }) {
    const { names, rounds } = await request.json();
    const attempt = async (promise) => { try { return await promise; } catch (error) { return failed(error); } };
    const results = [];
    for (const calls of rounds) {
      const stubs = Object.fromEntries(names.map((name) => [name, MACHINE.getByName(name)]));
      const made = calls.map(({ on, run, ring }, index) => attempt(ring ? stubs[on].ring() : stubs[on].run(`${index}`, run)));
      results.push(await Promise.all(made));
    }
    const states = [];
    for (const name of names) states.push(await attempt(MACHINE.getByName(name).state()));
    return Response.json({ results, states });
  },
};
