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

const KINDS = {
  'negative zero': () => -0, 'not a number': () => NaN, infinity: () => -Infinity, big: () => 2n ** 70n, text: () => 'a\0\ud800b',
  date: () => new Date(0), 'no date': () => new Date(NaN), regexp: () => /a+/gi, map: () => new Map([[{ k: 1 }, new Map([['x', new Set([1])]])]]),
  members: () => ({ there: undefined, nul: null }), hole: () => [1, , 3], buffer: () => new Uint8Array([1, 2, 3]).buffer,
  view: () => new Uint8Array([9, 8, 7, 6]).subarray(1, 3), floats: () => new Float64Array([0.5, -1]), wide: () => new DataView(new ArrayBuffer(4), 1, 2),
  boxed: () => [Object(1), Object('s'), Object(true)], error: () => new RangeError('out', { cause: 'of reach' }),
};
const described = (value) => {
  if (Object.is(value, -0)) return '-0';
  if (typeof value !== 'object' || value === null) return `${typeof value} ${typeof value === 'string' ? JSON.stringify(value) : String(value)}`;
  const kind = Object.prototype.toString.call(value).slice(8, -1);
  if (kind === 'Array') return { array: Array.from({ length: value.length }, (_, i) => (i in value ? described(value[i]) : 'hole')) };
  if (kind === 'Map') return { map: [...value].map((pair) => pair.map(described)) };
  if (kind === 'Set') return { set: [...value].map(described) };
  if (kind === 'Date') return { date: String(value.getTime()) };
  if (kind === 'RegExp') return { regexp: String(value) };
  if (kind === 'ArrayBuffer') return { buffer: [...new Uint8Array(value)] };
  if (ArrayBuffer.isView(value)) return { view: kind, bytes: value.byteLength, offset: value.byteOffset, whole: value.buffer.byteLength };
  if (value instanceof Error) return { error: value.name, message: value.message, cause: described(value.cause), instance: value instanceof RangeError };
  if (kind === 'Object') return { object: Object.entries(value).map(([name, inner]) => [name, described(inner)]) };
  return { boxed: kind, value: described(value.valueOf()) };
};

export class Room extends DurableObject {
  async kinds() {
    for (const [name, make] of Object.entries(KINDS)) await this.ctx.storage.put(name, make());
    const told = {};
    for (const name of Object.keys(KINDS)) told[name] = described(await this.ctx.storage.get(name));
    return told;
  }

  async circle() {
    const circle = { inner: { list: [] } };
    circle.inner.list.push(circle, circle.inner);
    await this.ctx.storage.put('circle', circle);
    const back = await this.ctx.storage.get('circle');
    return [back.inner.list[0] === back, back.inner.list[1] === back.inner, back !== circle];
  }

  // Later changes are none of what was put.
  async mutated() {
    const value = { n: 1, list: [1] };
    const put = this.ctx.storage.put('m', value);
    value.n = 2;
    value.list.push(2);
    await put;
    const first = await this.ctx.storage.get('m');
    first.n = 3;
    return [first.list, (await this.ctx.storage.get('m')).n];
  }

  async refused() {
    class Own { constructor() { this.x = 1; } }
    const { storage } = this.ctx;
    return {
      undefined: await attempt(() => storage.put('u', undefined)),
      'no value': await attempt(() => storage.put('u')),
      function: await attempt(() => storage.put('f', () => 1)),
      symbol: await attempt(() => storage.put('s', Symbol('s'))),
      nested: await attempt(() => storage.put('n', { deep: [() => 1] })),
      promise: await attempt(() => storage.put('p', Promise.resolve(1))),
      proxy: await attempt(() => storage.put('w', new WeakMap())),
      'own class': await attempt(async () => { await storage.put('o', new Own()); return storage.get('o'); }),
      'in a list': await attempt(() => storage.put({ a: 1, b: undefined })),
      'undefined key': await attempt(() => storage.get(undefined)),
      'number key': await attempt(async () => { await storage.put(1, 'one'); return storage.get('1'); }),
      'sync undefined': await attempt(() => storage.kv.put('k', undefined)),
      'sync function': await attempt(() => storage.kv.put('k', () => 1)),
      'no arguments': await attempt(() => storage.put()),
    };
  }
}

export default {
  async fetch(request, env) {
    return Response.json(await env.ROOM.getByName('one')[new URL(request.url).pathname.slice(1)]());
  },
};
