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
  async run(name) { return shown(await attempts[name](this.ctx.storage)); }
}

const attempts = {
  async fill(storage) { return storage.put({ b: 2, a: 1, 'é': 3, '\u{1f600}': 4, '\uff5e': 5, aa: 6 }); },
  async get(storage) { return storage.get(['b', 'missing', 'a', '\u{1f600}', '\uff5e']); },
  async twice(storage) { return storage.get(['a', 'a']); },
  async none(storage) { return storage.get([]); },
  async all(storage) { return storage.list(); },
  async reverse(storage) { return storage.list({ reverse: true, limit: 2 }); },
  async prefix(storage) { return storage.list({ prefix: 'a' }); },
  async range(storage) { return storage.list({ start: 'a', end: 'b' }); },
  async after(storage) { return storage.list({ startAfter: 'a' }); },
  async both(storage) { return attempt(() => storage.list({ start: 'a', startAfter: 'a' })); },
  async 'limit-zero'(storage) { return attempt(() => storage.list({ limit: 0 })); },
  async 'limit-less'(storage) { return attempt(() => storage.list({ limit: -1 })); },
  async 'end-first'(storage) { return storage.list({ start: 'b', end: 'a' }); },
  async delete(storage) { return [await storage.delete('a'), await storage.delete('a'), await storage.delete(['b', 'missing', 'aa'])]; },
  async kv(storage) {
    storage.kv.put('s', { deep: [1] });
    return [storage.kv.get('s'), shown(storage.kv.get('t')), storage.kv.delete('s'), storage.kv.delete('s'), [...storage.kv.list({ prefix: 'é' })]];
  },
  // A list that was begun is no good any more once another is.
  async lists(storage) {
    const first = storage.kv.list();
    first.next();
    const second = [...storage.kv.list()].length;
    return [second, await attempt(async () => first.next())];
  },
  async left(storage) { return storage.list(); },
};

export default {
  async fetch(request, env) {
    return Response.json(await env.ROOM.getByName('one').run(new URL(request.url).pathname.slice(1)) ?? null);
  },
};
