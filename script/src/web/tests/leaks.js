// Many events, one after another, with everything that they may leave behind. The Rust side compares the heap before and after.
globalThis.round = async (from, to) => {
  for (let i = from; i < to; i++) {
    dispatch.setEvent(i);
    const kind = i % 8;
    const id = host.hostBody(['a', 'b']);
    host.answer = () => (kind === 1 ? new Promise(() => {}) : { status: 200, statusText: '', headers: [['x', 'y']], body: { host: id }, webSocket: null });
    const { ctx, waits } = dispatch.context();
    const run = handled(async (request) => {
      if (kind === 0) return fetch(request);
      if (kind === 1) { fetch('http://x/', { signal: request.signal }).catch(() => {}); return new Response('gone'); }
      if (kind === 2) { const r = await fetch('http://x/'); const copy = r.clone(); copy.body.cancel(); return r; }
      if (kind === 3) { const r = await fetch('http://x/'); const t = new IdentityTransformStream(); r.body.pipeTo(t.writable).catch(() => {}); return new Response(t.readable); }
      if (kind === 4) { const r = await fetch('http://x/', { signal: AbortSignal.any([request.signal, AbortSignal.timeout(5)]) }); return new Response(await r.text()); }
      if (kind === 5) { const pair = new WebSocketPair(); pair[1].accept(); pair[1].addEventListener('message', () => {}); return new Response(null, { status: 101, webSocket: pair[0] }); }
      if (kind === 6) { ctx.waitUntil(scheduler.wait(1)); const [a, b] = (await fetch('http://x/')).body.tee(); a.cancel(); return new Response(b); }
      throw new Error('mine');
    }, { method: 'POST', url: 'http://w/', headers: [['upgrade', 'websocket']] }, new TextEncoder().encode('body'), {}, ctx);
    await run.catch(() => {});
    dispatch.abort(i);
    await waits.settled();
    await settle();
    for (const body of host.bodies.values()) body.watched?.resolve();
    dispatch.done(i);
    host.fetches.length = 0;
    host.timers.length = 0;
    host.bodies.clear();
    host.sockets.clear();
    host.lines.length = 0;
  }
};
test('some events', () => round(1, 400));
