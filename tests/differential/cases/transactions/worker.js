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

export class Room extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec('CREATE TABLE IF NOT EXISTS t (v)');
  }

  state() {
    const { storage } = this.ctx;
    return { kept: [...storage.kv.list()], rows: storage.sql.exec('SELECT v FROM t ORDER BY v').toArray().map(({ v }) => v) };
  }

  write(name) {
    this.ctx.storage.kv.put(name, name);
    this.ctx.storage.sql.exec('INSERT INTO t VALUES (?)', name);
  }

  sync() {
    const { storage } = this.ctx;
    const value = storage.transactionSync(() => { this.write('kept'); return 'value'; });
    let caught;
    try { storage.transactionSync(() => { this.write('lost'); throw new RangeError('back'); }); } catch (error) { caught = told(error); }
    return [value, caught, this.state()];
  }

  nested() {
    const { storage } = this.ctx;
    storage.transactionSync(() => {
      this.write('outer');
      try { storage.transactionSync(() => { this.write('inner'); throw new Error('inner'); }); } catch {}
      storage.transactionSync(() => this.write('other'));
    });
    try { storage.transactionSync(() => { storage.transactionSync(() => this.write('deep')); throw new Error('outer'); }); } catch {}
    return this.state();
  }

  async promise() { return [await attempt(() => this.ctx.storage.transactionSync(async () => { this.write('async'); return 1; })), this.state()]; }

  async async() {
    const { storage } = this.ctx;
    const value = await storage.transaction(async (txn) => { await txn.put('a', 1); this.write('b'); return [await txn.get('a'), [...await txn.list({ prefix: 'a' })]]; });
    const failed = await attempt(() => storage.transaction(async (txn) => { await txn.put('c', 1); await txn.delete('a'); throw new TypeError('back'); }));
    const rolled = await attempt(() => storage.transaction(async (txn) => { await txn.put('d', 1); txn.rollback(); return 'still told'; }));
    const after = await attempt(() => storage.transaction(async (txn) => { txn.rollback(); await txn.put('e', 1); }));
    let kept;
    await storage.transaction(async (txn) => { kept = txn; });
    const late = await attempt(() => kept.get('a'));
    return { value, failed, rolled, after, late, state: this.state() };
  }

  async alarms() {
    const { storage } = this.ctx;
    await attempt(() => storage.transaction(async (txn) => { await txn.setAlarm(4102444800000); throw new Error('back'); }));
    const first = await storage.getAlarm();
    await storage.transaction(async (txn) => { await txn.setAlarm(4102444800000); });
    const second = await storage.getAlarm();
    await attempt(() => storage.transaction(async (txn) => { await txn.deleteAlarm(); throw new Error('back'); }));
    return [first, second, await storage.getAlarm()];
  }

  // Transactions of several calls come one after the other.
  async adds() {
    await this.ctx.storage.transaction(async (txn) => {
      const n = (await txn.get('n')) ?? 0;
      await scheduler.wait(2);
      await txn.put('n', n + 1);
    });
  }

  async sum() { return this.ctx.storage.get('n'); }
  alarm() {}
}

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    const room = env.ROOM.getByName(name);
    if (name === 'together') {
      await Promise.all(Array.from({ length: 5 }, () => room.adds()));
      return Response.json(await room.sum());
    }
    return Response.json(await room[name]());
  },
};
