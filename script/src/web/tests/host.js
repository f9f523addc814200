// The host of the tests: a virtual clock, bodies and connections in memory. What it was asked is in its lists.
(function () {
  'use strict';
  const { apply } = Reflect;
  const { toLowerCase } = String.prototype;
  const lower = (name) => apply(toLowerCase, name, []);
  const host = {
    objects: { classes: () => [] }, time: 1000, timers: [], lines: [], fetches: [], bodies: new Map(), sockets: new Map(), last: 0, opened: [],
    now: () => host.time,
    perf: () => host.time,
    random(bytes) { for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + 11 + host.last++) & 255; },
    log(level, text) { host.lines.push(`${level}: ${text}`); },
    timer(ms, run) { const id = ++host.last; host.timers.push({ id, at: host.time + ms, run }); return id; },
    clearTimer(id) { host.timers = host.timers.filter((timer) => timer.id !== id); },
    // Runs the next timer; false if there is none.
    tick() {
      if (host.timers.length === 0) return false;
      let next = host.timers[0];
      for (const timer of host.timers) if (timer.at < next.at) next = timer;
      host.timers.splice(host.timers.indexOf(next), 1);
      host.time = Math.max(host.time, next.at);
      next.run();
      return true;
    },
    pairs({ names, values }) { const list = []; for (let i = 0; i < names.length; i++) list[i] = [names[i], values[i]]; return list; },
    lists(head) {
      const names = [];
      const values = [];
      for (let i = 0; i < head.headers.length; i++) { names[i] = lower(head.headers[i][0]); values[i] = head.headers[i][1]; }
      return { ...head, names, values };
    },
    // What the outside answers: set by a test.
    answer: () => { throw new Error('no answer'); },
    // Tests see headers as pairs, and answer with such.
    fetch(call) {
      const op = ++host.last;
      const request = { ...call, headers: host.pairs(call) };
      const entry = { op, request, cancelled: false };
      host.fetches.push(entry);
      return { op, promise: new Promise((resolve, reject) => { entry.reject = reject; Promise.resolve().then(() => host.answer(request, entry)).then((answer) => resolve(host.lists(answer)), reject); }) };
    },
    cancel(op, reason) { for (const entry of host.fetches) if (entry.op === op) { entry.cancelled = true; entry.reject(reason); } },
    // A body that the host has: chunks, then its end or an error.
    hostBody(chunks, fail) { const id = ++host.last; host.bodies.set(id, { chunks: [...chunks], fail, cancelled: undefined, reads: 0, ended: [] }); return id; },
    async bodyRead(id) {
      const body = host.bodies.get(id);
      body.reads++;
      if (body.chunks.length > 0) { const chunk = body.chunks.shift(); return typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk; }
      if (body.fail) throw body.fail;
      return null;
    },
    bodyCancel(id, text) { const body = host.bodies.get(id); if (body) body.cancelled = text; },
    bodyWatch(id) { const body = host.bodies.get(id); return new Promise((resolve, reject) => { body.watched = { resolve, reject }; }); },
    // A body that the script writes.
    bodyNew() { const id = ++host.last; host.bodies.set(id, { written: [], ended: false, failed: undefined }); return id; },
    async bodyWrite(id, bytes) { const body = host.bodies.get(id); if (body.refuse) throw new Error(body.refuse); body.written.push(new Uint8Array(bytes)); },
    bodyEnd(id) { host.bodies.get(id).ended = true; },
    bodyFail(id, text) { host.bodies.get(id).failed = text; },
    wsMessageBytes: 1 << 20, wsUnsentBytes: 4 << 20,
    wsPair() {},
    wsPlace: () => [1, 0, 0],
    wsWake: () => undefined,
    wsUnsent: (id) => host.sockets.get(id).unsent ?? 0,
    abandon(given) { host.abandoned.push(given); },
    abandoned: [],
    wsNew() { const id = ++host.last; host.sockets.set(id, { sent: [], closed: undefined, listener: undefined }); return id; },
    wsOpen(id, listener) { if (!host.sockets.has(id)) host.sockets.set(id, { sent: [], closed: undefined }); host.sockets.get(id).listener = listener; },
    wsSend(id, data) { host.sockets.get(id).sent.push(data); },
    wsClose(id, code, reason) { host.sockets.get(id).closed = [code, reason]; },
  };
  return host;
});
