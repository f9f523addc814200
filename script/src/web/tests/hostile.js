// An app that changes everything that it can reach: the web classes neither break nor call any of it.
test('with everything patched', async () => {
  const touched = [];
  const restore = [];
  const { defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Object;
  const { ownKeys, apply } = Reflect;
  const KeepError = Error;
  // The language itself looks these up where it iterates over what the user gave, or awaits: no class can do without.
  // So does the engine with the stack of what is thrown.
  const spare = (name, key) => key === 'constructor' || (name === 'Error.prototype' && key === 'stack') || (name === 'Function.prototype' && (typeof key === 'symbol')) || (name === 'Promise' && typeof key === 'symbol');
  const patch = (object, name) => {
    const keys = ownKeys(object);
    for (let k = 0; k < keys.length; k++) {
      const key = keys[k];
      const property = getOwnPropertyDescriptor(object, key);
      if (!property.configurable || spare(name, key)) continue;
      const label = typeof key === 'symbol' ? `${name}.symbol ${k}` : `${name}.${key}`;
      const trap = function () { touched[touched.length] = label; throw new KeepError(`touched ${label}`); };
      if (typeof property.value === 'function') defineProperty(object, key, { ...property, value: trap });
      else if (property.get !== undefined) defineProperty(object, key, { ...property, get: trap });
      else continue;
      restore[restore.length] = [object, key, property];
    }
  };
  const AsyncIteratorPrototype = getPrototypeOf(getPrototypeOf(async function* () {}.prototype));
  const ArrayIteratorPrototype = getPrototypeOf([][Symbol.iterator]());
  const list = [[Array, 'Array'], [Array.prototype, 'Array.prototype'], [String.prototype, 'String.prototype'], [Map.prototype, 'Map.prototype'], [Set.prototype, 'Set.prototype'], [WeakMap.prototype, 'WeakMap.prototype'],
    [Promise, 'Promise'], [Promise.prototype, 'Promise.prototype'], [Function.prototype, 'Function.prototype'], [RegExp.prototype, 'RegExp.prototype'], [getPrototypeOf(Uint8Array), 'TypedArray'], [getPrototypeOf(Uint8Array.prototype), 'TypedArray.prototype'],
    [ArrayBuffer, 'ArrayBuffer'], [ArrayBuffer.prototype, 'ArrayBuffer.prototype'], [DataView.prototype, 'DataView.prototype'], [Date, 'Date'], [Date.prototype, 'Date.prototype'], [Number, 'Number'], [Number.prototype, 'Number.prototype'], [BigInt.prototype, 'BigInt.prototype'],
    [Symbol.prototype, 'Symbol.prototype'], [JSON, 'JSON'], [Math, 'Math'], [Reflect, 'Reflect'], [Object, 'Object'], [ArrayIteratorPrototype, 'ArrayIterator'], [getPrototypeOf(ArrayIteratorPrototype), 'Iterator.prototype'],
    [AsyncIteratorPrototype, 'AsyncIterator.prototype'], [Object.prototype, 'Object.prototype'], [Error, 'Error'], [Error.prototype, 'Error.prototype']];
  const classes = ['Event', 'EventTarget', 'AbortSignal', 'AbortController', 'TextEncoder', 'TextDecoder', 'URL', 'URLSearchParams', 'Headers', 'Blob', 'File', 'FormData', 'ReadableStream', 'ReadableStreamDefaultReader', 'WritableStream', 'WritableStreamDefaultWriter', 'TransformStream', 'IdentityTransformStream', 'Request', 'Response', 'WebSocket', 'Fetcher'];
  // What the cases below need themselves, kept before.
  const kept = {};
  for (const name of [...classes, 'WebSocketPair', 'FixedLengthStream', 'Promise', 'Uint8Array', 'structuredClone', 'fetch', 'console', 'crypto', 'setTimeout', 'Map', 'Date', 'RegExp', 'Error']) kept[name] = globalThis[name];
  const keep = (name, ...methods) => { const proto = kept[name].prototype; const out = {}; for (const method of methods) { const property = getOwnPropertyDescriptor(proto, method); out[method] = property.get ?? property.value; } return out; };
  const own = {
    headers: keep('Headers', 'append', 'get', 'forEach'), body: { text: Response.prototype.text, clone: Response.prototype.clone, form: Response.prototype.formData, json: Response.prototype.json }, request: keep('Request', 'headers', 'url'),
    stream: keep('ReadableStream', 'getReader', 'tee', 'pipeThrough', 'pipeTo'), target: keep('EventTarget', 'addEventListener', 'dispatchEvent'), params: keep('URLSearchParams', 'append', 'sort', 'toString'), url: keep('URL', 'searchParams', 'href'),
    controller: keep('AbortController', 'abort', 'signal'), pair: keep('WebSocket', 'accept', 'send', 'close'), transform: { readable: getOwnPropertyDescriptor(TransformStream.prototype, 'readable').get, writable: getOwnPropertyDescriptor(TransformStream.prototype, 'writable').get },
    decoder: keep('TextDecoder', 'decode'), encoder: keep('TextEncoder', 'encode'), form: keep('FormData', 'append', 'get'), blob: keep('Blob', 'text', 'slice'), writer: keep('WritableStream', 'getWriter'), write: keep('WritableStreamDefaultWriter', 'write', 'close'), read: keep('ReadableStreamDefaultReader', 'read'),
    body0: getOwnPropertyDescriptor(getPrototypeOf(Response.prototype), 'body').get,
  };
  host.answer = () => ({ status: 200, statusText: '', headers: [['a', 'b']], body: u8(120), webSocket: null });
  const bodyHost = host.hostBody([new Uint8Array([104]), new Uint8Array([105])]);
  const { hostBody, bodyRead, fetch: hostFetch } = host;
  const state = { reads: 0 };
  // The host of the tests is JavaScript too, and the one of an isolate is not.
  host.bodyRead = async () => (state.reads++ === 0 ? u8(104, 105) : null);
  host.fetch = (request) => { const answer = { ...host.answer(request), names: ['a'], values: ['b'] }; return { op: 1, promise: (async () => answer)() }; };
  host.bodyNew = () => 5;
  host.bodyWrite = async () => undefined;
  host.bodyEnd = () => {};
  let id = 0;
  const jobs = [];
  host.timer = (ms, run) => { jobs[jobs.length] = run; return ++id; };
  host.log = (level, line) => { state.line = line; };
  host.random = (view) => { view[0] = 1; };
  host.wsNew = () => 9;
  host.wsOpen = (n, listener) => { state.listener = listener; };
  host.wsSend = (n, data) => { state.sent = data; };
  host.wsClose = () => {};

  const u8 = (...list) => { const view = new kept.Uint8Array(list.length); for (let i = 0; i < list.length; i++) view[i] = list[i]; return view; };
  const out = [];
  const note = (value) => { out[out.length] = value; };
  // What the language iterates over by itself is the user's.
  const one = (value) => [value];
  const run = async () => {
    const h = new kept.Headers({ b: '1', a: '2' });
    apply(own.headers.append, h, ['set-cookie', 'x']);
    apply(own.headers.forEach, h, [(v, n) => note(n)]);
    note(await apply(own.body.text, new kept.Response('text'), []));
    note(await apply(own.body.text, apply(own.body.clone, new kept.Response('clone'), []), []));
    note((await apply(own.body.json, new kept.Response('{"j":1}'), [])).j);
    const u = new kept.URL('http://x/?a=1');
    apply(own.params.append, apply(own.url.searchParams, u, []), ['b', '2']);
    note(apply(own.url.href, u, []));
    const t = new kept.EventTarget();
    apply(own.target.addEventListener, t, ['e', () => note('event')]);
    apply(own.target.dispatchEvent, t, [new kept.Event('e')]);
    const c = new kept.AbortController();
    apply(own.controller.abort, c, ['r']);
    note(apply(own.decoder.decode, new kept.TextDecoder(), [apply(own.encoder.encode, new kept.TextEncoder(), ['é'])]));
    const copy = kept.structuredClone({ m: new kept.Map(), d: new kept.Date(5), r: /x/g, l: [1, , 2], e: new kept.Error('e'), b: new kept.Uint8Array(2), n: 5n });
    note(copy.l[2]);
    const f = new kept.FormData();
    apply(own.form.append, f, ['k', 'v']);
    apply(own.form.append, f, ['file', new kept.Blob(one('z'))]);
    const parsed = await apply(own.body.form, new kept.Response(f), []);
    note(apply(own.form.get, parsed, ['k']));
    note(await apply(own.blob.text, apply(own.blob.slice, new kept.Blob(one('abc')), [1]), []));
    const it = new kept.IdentityTransformStream();
    const w = apply(own.writer.getWriter, apply(own.transform.writable, it, []), []);
    apply(own.write.write, w, [u8(97)]);
    apply(own.write.close, w, []);
    note(await apply(own.body.text, new kept.Response(apply(own.transform.readable, it, [])), []));
    const js = new kept.ReadableStream({ start(k) { k.enqueue(u8(98)); k.close(); } });
    note(await apply(own.body.text, new kept.Response(apply(own.stream.pipeThrough, js, [new kept.TransformStream()])), []));
    note(await apply(own.body.text, await kept.fetch('http://h/', { method: 'POST', body: 'b' }), []));
    const answered = await handled(async (request) => {
      note(await apply(own.body.text, request, []));
      return new kept.Response('done', { headers: { 'x-y': 'z' } });
    }, { method: 'POST', url: 'http://w/', headers: [['A', '1']] }, { host: bodyHost }, {}, {});
    note(answered.status);
    note(answered.names[0]);
    const pair = new kept.WebSocketPair();
    apply(own.target.addEventListener, pair[1], ['message', (e) => note('message')]);
    apply(own.pair.accept, pair[1], []);
    await handled(() => new kept.Response(null, { status: 101, webSocket: pair[0] }), { method: 'GET', url: 'http://w/', headers: [['upgrade', 'websocket']] }, null, {}, {});
    state.listener.message('m');
    apply(own.pair.send, pair[1], ['s']);
    note(state.sent);
    kept.console.log('%s', 'x', { a: [1, 2, { b: 'q' }], m: new kept.Map(), s: 'it\'s' }, new kept.Error('logged'));
    kept.setTimeout(() => note('timer'), 5);
    jobs[jobs.length - 1]();
    note(kept.crypto.randomUUID().length);
  };
  for (let i = 0; i < list.length; i++) patch(list[i][0], list[i][1]);
  // Members of every object, which records and options must not be mistaken to have.
  const polluted = ['get', 'set', 'value', 'body', 'status', 'headers', 'method', 'signal', 'type', 'host', 'bytes', 'size', 'mode', 'fatal', 'stream', 'transfer', 'once', 'cause', 'length', 'webSocket', 'redirect', 'close', 'data'];
  let failure;
  try {
    await run();
  } catch (error) { failure = error; }
  for (let i = 0; i < restore.length; i++) defineProperty(restore[i][0], restore[i][1], restore[i][2]);
  Object.assign(host, { fetch: hostFetch, bodyRead });
  void hostBody;
  if (failure !== undefined) throw failure;
  equal(touched, []);
  equal(out, ['a', 'b', 'set-cookie', 'text', 'clone', 1, 'http://x/?a=1&b=2', 'event', 'é', 2, 'v', 'bc', 'a', 'b', 'x', 'hi', 200, 'x-y', 'message', 's', 'timer', 36]);
  ok(state.line.startsWith('x { a: [ 1, 2, { b: \'q\' } ], m: Map(0) {}, s: "it\'s" } Error: logged'), state.line);

  // With those members, what is internal still is as it was.
  for (const name of polluted) Object.defineProperty(Object.prototype, name, { __proto__: null, value: undefined, writable: true, configurable: true });
  for (const name of ['get', 'set']) Object.defineProperty(Object.prototype, name, { __proto__: null, value: () => { touched[touched.length] = name; }, configurable: true });
  try {
    const copy = structuredClone(Object.setPrototypeOf([new Error('e'), { a: 1 }], null)[1]);
    touched.push(copy.a, await new Response('x').text(), (await fetch(new Request('http://a/'))).status);
    dispatch.deserialize(dispatch.serialize([new Error('x', { cause: 1 }), [1, , 2]]));
  } catch (error) { failure = error; }
  for (const name of polluted) delete Object.prototype[name];
  if (failure !== undefined) throw failure;
  equal(touched, [1, 'x', 200]);
});
test('no prototype has a say in how a body is read', async () => {
  const stream = new ReadableStream({ start(c) { c.enqueue(bytes('mine')); c.close(); } });
  const bodies = [new Response(stream), new Response('mine')];
  let asked = 0;
  Object.prototype.then = function (resolve) { asked++; delete Object.prototype.then; resolve({ done: false, value: bytes('theirs') }); };
  const texts = [bodies[0].text(), bodies[1].text()];
  for (let i = 0; i < 2; i++) texts[i] = await texts[i];
  delete Object.prototype.then;
  equal([texts, asked], [['mine', 'mine'], 0]);
});
test('streams ask no promise for its then', async () => {
  const { then } = Promise.prototype;
  const got = [];
  let asked = 0;
  Promise.prototype.then = function () { asked++; throw new Error('asked'); };
  try {
    const through = new TransformStream({ start() {}, transform(chunk, c) { c.enqueue(chunk + 1); } });
    const writer = through.writable.getWriter();
    const written = writer.write(1);
    got[0] = (await through.readable.getReader().read()).value;
    await written;
    const iterator = new ReadableStream({ start(c) { c.enqueue(3); c.enqueue(4); } }).values();
    const steps = [iterator.next(), iterator.next(), iterator.return(5)];
    for (let i = 0; i < 3; i++) got[i + 1] = (await steps[i]).value;
    const controller = new AbortController();
    const piped = new ReadableStream().pipeTo(new WritableStream(), { signal: controller.signal });
    controller.abort(6);
    try { await piped; } catch (reason) { got[4] = reason; }
  } finally { Promise.prototype.then = then; }
  equal([got, asked], [[2, 3, 4, 5, 6], 0]);
});
