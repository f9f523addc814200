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
  field = 1;
  #hidden() { return 'hidden'; }
  own = () => 'own';
  hello(...args) { return ['hello', ...args]; }
  get computed() { return 'computed'; }
  async fetch(request) { return Response.json([request.method, request.url, await request.text()]); }
  static of() { return 'static'; }
}

const answers = {
  async awaited({ ROOM }) {
    const stub = ROOM.getByName('a');
    const awaited = await stub;
    return [typeof stub.then, awaited === stub, typeof stub.catch, typeof stub.anything, typeof stub, String(Object.prototype.toString.call(stub)), stub instanceof DurableObject];
  },
  async ids({ ROOM }) {
    const id = ROOM.idFromName('a');
    const unique = ROOM.newUniqueId();
    return {
      same: id.equals(ROOM.idFromName('a')), other: id.equals(ROOM.idFromName('b')), name: id.name, stub: ROOM.getByName('a').name, 'stub id': ROOM.get(id).id.equals(id),
      length: String(id).length, digits: /^[0-9a-f]+$/.test(String(id)), back: ROOM.idFromString(String(id)).equals(id), 'back name': ROOM.idFromString(String(id)).name ?? 'none',
      unique: unique.name ?? 'none', 'unique stub': ROOM.get(unique).name ?? 'none', json: JSON.stringify(id) === '{}' || JSON.stringify(id).length, keys: Object.keys(id),
    };
  },
  async calls({ ROOM }) {
    const stub = ROOM.getByName('a');
    return {
      hello: await stub.hello(1, [2], { three: 3 }), missing: await attempt(() => stub.missing()), field: await attempt(() => stub.field()), own: await attempt(() => stub.own()),
      hidden: await attempt(() => stub['#hidden']()), of: await attempt(() => stub.of()), constructor: await attempt(() => stub.constructor('x') && 'constructed'), toString: await attempt(() => stub.toString()),
    };
  },
  async fetch({ ROOM }) {
    const stub = ROOM.getByName('a');
    const post = await stub.fetch('http://h.test/p?q=1', { method: 'POST', body: 'body' });
    return [await post.json(), await (await stub.fetch(new Request('https://x/'))).json(), await attempt(() => stub.fetch('/relative')), await attempt(() => stub.fetch())];
  },
  async wrong({ ROOM }) {
    return {
      empty: await attempt(async () => ROOM.idFromName('') && 'taken'), 'no name': await attempt(async () => ROOM.idFromName() && 'taken'), short: await attempt(async () => ROOM.idFromString('abc')),
      'no digits': await attempt(async () => ROOM.idFromString('z'.repeat(64))), get: await attempt(async () => ROOM.get('a')), 'get nothing': await attempt(async () => ROOM.get()),
    };
  },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
