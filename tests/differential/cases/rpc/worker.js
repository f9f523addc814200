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
  throws(kind) {
    if (kind === 'type') throw new TypeError('a type');
    if (kind === 'own') { const error = new Error('with more'); error.code = 'E1'; error.detail = { a: [1] }; throw error; }
    if (kind === 'cause') throw new Error('outer', { cause: new RangeError('inner') });
    if (kind === 'named') { const error = new Error('renamed'); error.name = 'Renamed'; throw error; }
    if (kind === 'class') { class Mine extends Error {} throw new Mine('mine'); }
    if (kind === 'text') throw 'a text';
    if (kind === 'object') throw { plain: 1 };
    if (kind === 'nothing') throw undefined;
    if (kind === 'dom') throw new DOMException('gone', 'NotFoundError');
  }

  echo(value) { return value; }
  kinds(value) { return Object.prototype.toString.call(value); }
  returns(kind) {
    class Foo { x = 1; }
    if (kind === 'class') return new Foo();
    if (kind === 'nested') return { list: [new Foo()] };
    if (kind === 'symbol') return Symbol('s');
    if (kind === 'promise') return Promise.resolve('later');
    if (kind === 'nothing') return undefined;
    if (kind === 'weak') return new WeakMap();
  }

  async respond(request) { return new Response(`${request.method} ${request.headers.get('x-a')} ${await request.text()}`, { status: 201, headers: { 'x-b': 'b' } }); }
}

// Ids are others on every server, and engines do not list the same of what errors have by nature.
const NATURE = ['stack', 'cause', 'message'];
const withoutIds = (value) => Object.fromEntries(Object.entries(value).filter(([name]) => !NATURE.includes(name) && !(value instanceof DOMException && ['code', 'name'].includes(name))).map(([name, inner]) => [name, name === 'durableObjectId' ? 'an id' : inner]));
const whole = (error) => (error instanceof Error ? {
  ...told(error), kind: error.constructor.name, remote: error.remote, own: withoutIds(error),
  cause: error.cause === undefined ? undefined : told(error.cause),
} : { thrown: error === undefined ? 'undefined' : withoutIds(error) });
const caught = async (run) => { try { return { value: await run() }; } catch (error) { return whole(error); } };

const answers = {
  async errors({ ROOM }) {
    const results = {};
    for (const kind of ['type', 'own', 'cause', 'named', 'class', 'text', 'object', 'nothing', 'dom']) results[kind] = await caught(() => ROOM.getByName('a').throws(kind));
    return results;
  },
  async results({ ROOM }) {
    const results = {};
    for (const kind of ['class', 'nested', 'symbol', 'promise', 'nothing', 'weak']) results[kind] = await caught(async () => shown(await ROOM.getByName('a').returns(kind)));
    return results;
  },
  async arguments({ ROOM }) {
    const stub = ROOM.getByName('a');
    class Bar {}
    return {
      class: await caught(() => stub.echo(new Bar())), symbol: await caught(() => stub.echo(Symbol('x'))), map: await caught(async () => [...await stub.echo(new Map([[1, 2]]))]),
      date: await caught(() => stub.echo(new Date(5))), bytes: await caught(async () => [...await stub.echo(new Uint8Array([1, 2]))]), error: await caught(async () => whole(await stub.echo(new TypeError('passed')))),
      undefined: await caught(async () => shown(await stub.echo(undefined))), none: await caught(async () => shown(await stub.echo())), big: await caught(async () => String(await stub.echo(5n))),
    };
  },
  async requests({ ROOM }) {
    const response = await ROOM.getByName('a').respond(new Request('http://x/', { method: 'PUT', body: 'the body', headers: { 'x-a': 'a' } }));
    return [response.status, response.headers.get('x-b'), await response.text()];
  },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
