const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};

import { DurableObject } from 'cloudflare:workers';
const pair = () => Object.values(new WebSocketPair());
const heard = (socket, seen) => {
  socket.addEventListener('message', ({ data }) => seen.push(typeof data === 'string' ? data : `${data.constructor.name} ${data.size ?? data.byteLength}`));
  socket.addEventListener('close', ({ code, reason, wasClean }) => seen.push(['close', code, reason, wasClean]));
  // What comes behind the close is of no use to anybody.
  socket.addEventListener('error', ({ message }) => { if (!seen.some((one) => one[0] === 'close')) seen.push(['error', message]); });
};

export class Room extends DurableObject {
  fetch(request) {
    const [client, server] = pair();
    if (request.url.endsWith('/accepted')) { client.accept(); return new Response(null, { status: 101, webSocket: client }); }
    if (request.url.endsWith('/twice')) { const made = new Response(null, { status: 101, webSocket: client }); new Response(null, { status: 101, webSocket: client }); client.accept(); return made; }
    server.accept();
    server.addEventListener('message', ({ data }) => { server.send(`object ${data}`); if (data === 'bye') server.close(4002, 'from the object'); });
    return new Response(null, { status: 101, webSocket: client });
  }
}

const answers = {
  async queued() {
    const [one, two] = pair();
    const seen = [];
    one.accept();
    one.send('first');
    one.send('second');
    await scheduler.wait(5);
    heard(two, seen);
    const before = [...seen];
    two.accept();
    await scheduler.wait(5);
    return [before, seen];
  },
  async closes() {
    const results = [];
    for (const args of [[], [1000], [4000, 'reason'], [1000, '']]) {
      const [one, two] = pair();
      const [left, right] = [[], []];
      heard(one, left); heard(two, right);
      one.accept(); two.accept();
      one.close(...args);
      const state = one.readyState;
      await scheduler.wait(10);
      results.push({ left, right, state, states: [one.readyState, two.readyState] });
    }
    return results;
  },
  async refused() {
    const results = {};
    const fresh = () => { const [one, two] = pair(); one.accept(); two.accept(); return one; };
    for (const code of [0, 999, 1001, 1004, 1005, 1006, 1015, 2999, 3000, 4999, 5000, 65536]) results[code] = await attempt(() => fresh().close(code, 'x') ?? 'closed');
    results['long reason'] = await attempt(() => fresh().close(1000, 'x'.repeat(124)) ?? 'closed');
    results['wide reason'] = await attempt(() => fresh().close(1000, '\u2713'.repeat(42)) ?? 'closed');
    results['reason alone'] = await attempt(() => fresh().close(undefined, 'x') ?? 'closed');
    return results;
  },
  async order() {
    const [one, two] = pair();
    const unaccepted = await attempt(() => one.send('x'));
    const close = await attempt(() => one.close() ?? 'closed');
    one.accept();
    const twice = await attempt(() => one.accept() ?? 'accepted');
    two.accept();
    two.close();
    const after = await attempt(() => two.send('x') ?? 'sent');
    const again = await attempt(() => two.close() ?? 'closed');
    return { unaccepted, close, twice, after, again, response: await attempt(() => new Response(null, { status: 101, webSocket: one }).status), without: await attempt(() => new Response(null, { status: 101 }).status), other: await attempt(() => new Response(null, { status: 200, webSocket: pair()[0] }).status) };
  },
  async properties() {
    const made = new WebSocketPair();
    const [one] = Object.values(made);
    return { keys: Object.keys(made), state: one.readyState, url: one.url, protocol: one.protocol, extensions: one.extensions, type: one.binaryType, constants: [WebSocket.CONNECTING, WebSocket.OPEN, WebSocket.CLOSING, WebSocket.CLOSED, one.OPEN], tag: String(one), kind: String(made), ready: [WebSocket.READY_STATE_OPEN, one.READY_STATE_CLOSED] };
  },
  async kinds() {
    const [one, two] = pair();
    const seen = [];
    heard(two, seen);
    one.accept(); two.accept();
    one.send(new Uint8Array([1, 2, 3])); one.send(new ArrayBuffer(4)); one.send('t');
    two.binaryType = 'arraybuffer';
    one.send(new Uint16Array([1, 2]));
    const odd = [await attempt(() => one.send(5)), await attempt(() => one.send()), await attempt(() => one.send(null)), await attempt(() => one.send({}))];
    await scheduler.wait(10);
    two.binaryType = 'nothing';
    return [seen, odd, two.binaryType];
  },
  async object({ ROOM }) {
    const response = await ROOM.getByName('a').fetch('http://x/', { headers: { upgrade: 'websocket' } });
    const socket = response.webSocket;
    const seen = [];
    heard(socket, seen);
    socket.accept();
    socket.send('hello');
    socket.send('bye');
    await scheduler.wait(50);
    return [response.status, seen, socket.readyState];
  },
  async returned({ ROOM }) {
    const ask = (path) => attempt(async () => (await ROOM.getByName('a').fetch(`http://x/${path}`, { headers: { upgrade: 'websocket' } })).status);
    return [await ask('accepted'), await ask('twice')];
  },
  async both() {
    const [one, two] = pair();
    const seen = [];
    one.accept(); two.accept();
    two.addEventListener('message', ({ data }) => two.send(data + 1));
    const done = new Promise((resolve) => one.addEventListener('message', ({ data }) => { seen.push(data); if (seen.length === 3) resolve(); else one.send(data); }));
    one.send('0');
    await done;
    return seen;
  },
  async handlers() {
    const [one, two] = pair();
    const seen = [];
    two.onmessage = ({ data, type, target }) => seen.push([data, type, target === two]);
    one.accept(); two.accept();
    one.send('x');
    await scheduler.wait(5);
    two.onmessage = null;
    one.send('y');
    await scheduler.wait(5);
    return seen;
  },
};

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, ctx, request) ?? null);
  },
};
