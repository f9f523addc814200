import { DurableObject } from 'cloudflare:workers';

const told = (error) => ({ name: error?.name, message: error?.message });
const attempt = async (run) => {
  try { return { value: await run() }; } catch (error) { return told(error); }
};
const encoded = (text) => new TextEncoder().encode(text);
const chunk = async (reader) => { const { done, value } = await reader.read(); return done ? 'the end' : new TextDecoder().decode(value); };

export class Room extends DurableObject {
  seen = [];

  // What was seen, once there is so much of it.
  async waits(count) {
    for (let tries = 0; tries < 500 && this.seen.length < count; tries++) await scheduler.wait(10);
    return this.seen;
  }

  async reads(request) {
    const reader = request.body.getReader();
    for (;;) {
      let read;
      try { read = await chunk(reader); } catch (error) { read = `failed: ${error.message}`; }
      this.seen.push(read);
      if (read === 'the end' || read.startsWith('failed')) return [request.method, this.seen.length];
    }
  }

  answers() {
    const { readable, writable } = new IdentityTransformStream();
    this.writer = writable.getWriter();
    this.writer.write(encoded('one')).catch(() => {});
    return new Response(readable, { status: 201, headers: { 'x-a': 'b' } });
  }
  async goesOn() { await this.writer.write(encoded('two')); await this.writer.close(); }

  tells(request) { return [request.method, request.url, [...request.headers], request.body === null, request.bodyUsed, request.redirect, request.signal.aborted]; }
  hears(request) {
    this.seen.push(request.signal.aborted);
    request.signal.addEventListener('abort', () => this.seen.push(`aborted: ${request.signal.reason?.message ?? request.signal.reason}`));
    return scheduler.wait(50).then(() => 'heard');
  }
  async text(request) { return `${request.url}: ${await request.text()}`; }
  fetch(request) { return this.hears(request).then((text) => new Response(text)); }
}

const answers = {
  async streams({ ROOM }) {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const reads = ROOM.getByName('streams').reads(new Request('http://x/', { method: 'PUT', body: readable }));
    await writer.write(encoded('first'));
    const during = await ROOM.getByName('streams').waits(1);
    await writer.write(encoded('second'));
    await writer.close();
    return [during, await reads, await ROOM.getByName('streams').waits(3)];
  },
  async answers({ ROOM }) {
    const stub = ROOM.getByName('answers');
    const response = await stub.answers();
    const reader = response.body.getReader();
    const first = await chunk(reader);
    await stub.goesOn();
    return [response.status, response.headers.get('x-a'), first, await chunk(reader), await chunk(reader)];
  },
  async fails({ ROOM }) {
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const reads = ROOM.getByName('fails').reads(new Request('http://x/', { method: 'POST', body: readable }));
    await writer.write(encoded('first'));
    await ROOM.getByName('fails').waits(1);
    await writer.abort(new Error('given up'));
    const result = await attempt(() => reads);
    const seen = await ROOM.getByName('fails').waits(2);
    return [result.name ?? result.value, seen[0], seen[1].slice(0, 6)];
  },
  async used({ ROOM }) {
    const request = new Request('http://x/', { method: 'POST', body: 'once' });
    const first = await ROOM.getByName('used').text(request);
    return [first, request.bodyUsed, await attempt(() => request.text()), await attempt(() => ROOM.getByName('used').text(request))];
  },
  async head({ ROOM }) {
    const tells = (input, init) => ROOM.getByName('head').tells(new Request(input, init));
    return [await tells('http://X.test/a?b#c'), await tells('http://x/', { method: 'POST', body: 'b', headers: { 'x-a': '1' }, redirect: 'manual' })];
  },
  async signal({ ROOM }) {
    const controller = new AbortController();
    const heard = attempt(() => ROOM.getByName('signal').hears(new Request('http://x/', { signal: controller.signal })));
    await ROOM.getByName('signal').waits(1);
    controller.abort(new Error('enough'));
    return [await heard, await ROOM.getByName('signal').waits(2)];
  },
  async aborted({ ROOM }) { return attempt(() => ROOM.getByName('aborted').tells(new Request('http://x/', { signal: AbortSignal.abort(new Error('before')) }))); },
  async by_fetch({ ROOM }) {
    const controller = new AbortController();
    const heard = attempt(async () => (await ROOM.getByName('fetch').fetch(new Request('http://x/', { signal: controller.signal }))).text());
    await ROOM.getByName('fetch').waits(1);
    controller.abort(new Error('enough'));
    return [await heard, (await ROOM.getByName('fetch').waits(2)).length];
  },
  async passed({ ROOM }, request) { return ROOM.getByName('passed').text(request); },
};

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    return Response.json(await answers[pathname.slice(1)](env, request) ?? null);
  },
};
