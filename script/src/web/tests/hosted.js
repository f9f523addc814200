// Bodies that the host has, and those that it is given.
const answering = (chunks, fail) => { const id = host.hostBody(chunks, fail); host.answer = () => ({ status: 200, statusText: 'OK', headers: [['content-type', 'text/plain']], body: { host: id }, webSocket: null }); return host.bodies.get(id); };
const idOf = (body) => [...host.bodies].find(([, value]) => value === body)[0];
const handle = (handler, head = {}, body = null) => handled(handler, { method: 'GET', url: 'http://w/', headers: [], ...head }, body, {}, {});
test('read through to its end', async () => {
  answering(['a', 'bc', '']);
  equal(await (await fetch('http://x/')).text(), 'abc');
  const seen = [];
  answering(['a', 'b']);
  for await (const chunk of (await fetch('http://x/')).body) seen.push(text(chunk));
  equal(seen, ['a', 'b']);
});
test('passed on as it is: no byte crosses', async () => {
  const body = answering(['a']);
  const out = await handle(() => fetch('http://x/'));
  equal([out.status, out.headers, out.body.host === idOf(body), body.reads, out.webSocket], [200, [['content-type', 'text/plain']], true, 0, null]);
});
test('a request that is passed on', async () => {
  const id = host.hostBody(['a']);
  answering([]);
  await handle((request) => fetch(request), { method: 'POST', url: 'http://w/p', headers: [['X-A', '1']] }, { host: id });
  const { request } = host.fetches[0];
  equal([request.method, request.url, request.headers, request.body.host, host.bodies.get(id).reads, request.destination], ['POST', 'http://w/p', [['x-a', '1']], id, 0, 'outside']);
});
test('also as a new Request, a new Response, with headers of its own', async () => {
  const id = host.hostBody(['a']);
  const body = answering(['b']);
  const out = await handle(async (request) => {
    const response = await fetch(new Request('http://c/', request));
    const changed = new Response(response.body, response);
    changed.headers.set('x', 'y');
    return changed;
  }, { method: 'POST' }, { host: id });
  equal([host.fetches[0].request.body.host, out.body.host, out.headers, body.reads], [id, idOf(body), [['content-type', 'text/plain'], ['x', 'y']], 0]);
  const other = host.hostBody(['a']);
  await handle((request) => fetch(new Request(request)), { method: 'POST' }, { host: other });
  equal(host.fetches[1].request.body.host, other);
});
test('through an IdentityTransformStream: still the host’s, and the pipe ends with it', async () => {
  const body = answering(['a']);
  let ended = 0;
  const out = await handle(async () => {
    const response = await fetch('http://x/');
    const { readable, writable } = new IdentityTransformStream();
    response.body.pipeTo(writable).finally(() => { ended++; });
    return new Response(readable, response);
  });
  equal([out.body.host, body.reads, ended], [idOf(body), 0, 0]);
  body.watched.resolve();
  await settle();
  equal(ended, 1);
});
test('through two of them; an error on the way reaches both pipes', async () => {
  const body = answering(['a']);
  const seen = [];
  const out = await handle(async () => {
    const response = await fetch('http://x/');
    const [a, b] = [new IdentityTransformStream(), new IdentityTransformStream()];
    response.body.pipeTo(a.writable).catch((error) => seen.push(`a ${error.message}`));
    a.readable.pipeTo(b.writable).catch((error) => seen.push(`b ${error.message}`));
    return new Response(b.readable);
  });
  equal([out.body.host, body.reads], [idOf(body), 0]);
  body.watched.reject(new Error('gone'));
  await settle();
  equal(seen.sort(), ['a gone', 'b gone']);
});
test('through one that is then read here', async () => {
  const body = answering(['ab', 'c']);
  const response = await fetch('http://x/');
  const { readable, writable } = new IdentityTransformStream();
  const piping = response.body.pipeTo(writable);
  equal([await new Response(readable).text(), response.bodyUsed, await piping, response.body.locked, writable.locked], ['abc', true, undefined, false, false]);
  equal(body.cancelled, undefined);
});
test('through one whose reader gives up', async () => {
  const body = answering(['ab', 'c']);
  const response = await fetch('http://x/');
  const { readable, writable } = new IdentityTransformStream();
  const piping = response.body.pipeTo(writable);
  await readable.cancel(new Error('enough'));
  await rejects(piping, 'Error: enough');
  equal(body.cancelled, 'enough');
});
test('through one after something was written: by hand', async () => {
  answering(['b']);
  const out = await handle(async () => {
    const response = await fetch('http://x/');
    const { readable, writable } = new IdentityTransformStream();
    (async () => {
      const writer = writable.getWriter();
      await writer.write(bytes('a'));
      writer.releaseLock();
      await response.body.pipeTo(writable);
    })();
    return new Response(readable);
  });
  await settle();
  const made = host.bodies.get(out.body.script);
  equal([made.written.map(text).join(''), made.ended], ['ab', true]);
});
test('what was looked at does not go on as a handle', async () => {
  const body = answering(['a', 'b']);
  const out = await handle(async () => {
    const response = await fetch('http://x/');
    const [mine, theirs] = response.body.tee();
    equal(await new Response(mine).text(), 'ab');
    return new Response(theirs);
  });
  await settle();
  equal([out.body.script !== undefined, host.bodies.get(out.body.script).written.map(text).join(''), body.reads > 0], [true, 'ab', true]);
});
test('bodies of the script: inline, long, streamed', async () => {
  equal((await handle(() => new Response('x'))).body, bytes('x'));
  equal([(await handle(() => new Response())).body, (await handle(() => new Response(''))).body], [null, new Uint8Array(0)]);
  const long = await handle(() => new Response('x'.repeat(200000)));
  await settle();
  const made = host.bodies.get(long.body.script);
  equal([long.body.length, made.written.map((part) => part.length), made.ended], [200000, [65536, 65536, 65536, 3392], true]);
  const streamed = await handle(() => new Response(new ReadableStream({ async pull(c) { await scheduler.wait(1); c.enqueue(bytes('p')); c.close(); } })));
  equal(streamed.body.length, undefined);
  await scheduler.wait(10);
  equal([host.bodies.get(streamed.body.script).written.map(text), host.bodies.get(streamed.body.script).ended], [['p'], true]);
  const fixed = await handle(() => { const { readable, writable } = new FixedLengthStream(1); const w = writable.getWriter(); w.write(bytes('f')); w.close(); return new Response(readable); });
  equal(fixed.body.length, 1);
});
test('streams that fail, that are no bytes, that nobody wants', async () => {
  const failing = await handle(() => new Response(new ReadableStream({ pull() { throw new Error('mid'); } })));
  const strings = await handle(() => new Response(new ReadableStream({ pull(c) { c.enqueue('s'); } })));
  let cancelled;
  const unwanted = await handle(() => new Response(new ReadableStream({ pull(c) { c.enqueue(bytes('x')); }, cancel(reason) { cancelled = reason.message; } })));
  host.bodies.get(unwanted.body.script).refuse = 'the client went away';
  await settle();
  equal([host.bodies.get(failing.body.script).failed, host.bodies.get(strings.body.script).failed, cancelled], ['mid', 'This ReadableStream did not return bytes.', 'the client went away']);
});
test('a host body that breaks, one that is given up', async () => {
  answering(['a'], new Error('Network connection lost.'));
  await rejects((await fetch('http://x/')).text(), 'Error: Network connection lost.');
  const body = answering(['a', 'b']);
  const reader = (await fetch('http://x/')).body.getReader();
  await reader.read();
  await reader.cancel('why');
  equal(body.cancelled, 'why');
});
test('a response of status 204 has no body', async () => {
  host.answer = () => ({ status: 204, statusText: '', headers: [], body: null, webSocket: null });
  const response = await fetch('http://x/');
  equal([response.body, response.webSocket, await response.text()], [null, null, '']);
});
