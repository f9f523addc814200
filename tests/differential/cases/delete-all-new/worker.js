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
  async all() {
    const { storage } = this.ctx;
    await storage.put({ a: 1, b: 2 });
    storage.sql.exec('CREATE TABLE t (v); INSERT INTO t VALUES (1)');
    await storage.setAlarm(4102444800000);
    await storage.deleteAll();
    const tables = storage.sql.exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf%' ESCAPE '\\'").toArray();
    return { kept: [...await storage.list()], tables, alarm: await storage.getAlarm() };
  }

  async alone() {
    const { storage } = this.ctx;
    await storage.setAlarm(4102444800000);
    await storage.deleteAll();
    const left = await storage.getAlarm();
    await storage.put('x', 1);
    return [left, await storage.get('x')];
  }

  async within() { return attempt(() => this.ctx.storage.transaction(async (transaction) => transaction.deleteAll())); }

  alarm() {}
}

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    return Response.json(await env.ROOM.getByName(name)[name]());
  },
};
