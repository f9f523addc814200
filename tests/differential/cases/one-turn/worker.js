import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

export class Room extends DurableObject {
  throws() {
    this.ctx.storage.put('a', 1);
    this.ctx.storage.put('b', 2);
    throw new Error('after both');
  }

  async later() {
    this.ctx.storage.put('c', 3);
    await scheduler.wait(1);
    this.ctx.storage.put('d', 4);
    throw new Error('after a while');
  }

  mixed() {
    this.ctx.storage.kv.put('e', 5);
    this.ctx.storage.sql.exec('CREATE TABLE t (v); INSERT INTO t VALUES (6)');
    this.ctx.storage.setAlarm(4102444800000);
    throw new Error('after all kinds');
  }

  // An error of the statement leaves those before it.
  half() {
    this.ctx.storage.sql.exec('CREATE TABLE u (v)');
    this.ctx.storage.sql.exec('INSERT INTO u VALUES (1); INSERT INTO nowhere VALUES (2)');
  }

  async alarm() {}

  async look() {
    const { storage } = this.ctx;
    const rows = (name) => storage.sql.exec("SELECT count(*) AS n FROM sqlite_master WHERE name = ?", name).one().n ? storage.sql.exec(`SELECT * FROM ${name}`).toArray() : 'none';
    return { kept: [...await storage.list()], t: rows('t'), u: rows('u'), alarm: await storage.getAlarm() };
  }
}

const answers = Object.fromEntries(['throws', 'later', 'mixed', 'half'].map((name) => [name, async ({ ROOM }) => {
  const room = ROOM.getByName('one');
  return [await attempt(() => room[name]()), await room.look()];
}]));

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
