test('all, then the close', async () => {
  const seen = [];
  await new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close(); } }).pipeTo(new WritableStream({ write(c) { seen.push(c); }, close() { seen.push('c'); } }));
  equal(seen, [1, 2, 'c']);
});
test('errors both ways', async () => {
  let reason;
  await rejects(new ReadableStream({ start(c) { c.error(new Error('src')); } }).pipeTo(new WritableStream({ abort(r) { reason = r; } })), 'Error: src');
  equal(reason.message, 'src');
  await rejects(new ReadableStream({ start(c) { c.enqueue(1); }, cancel(r) { reason = r; } }).pipeTo(new WritableStream({ write() { throw new Error('dst'); } })), 'Error: dst');
  equal(reason.message, 'dst');
});
test('preventClose, preventAbort, preventCancel', async () => {
  let closed = 0;
  const sink = new WritableStream({ close() { closed = 1; } });
  await new Blob(['x']).stream().pipeTo(sink, { preventClose: true });
  equal([closed, sink.locked], [0, false]);
  let aborted = 0;
  const other = new WritableStream({ abort() { aborted = 1; } });
  await rejects(new ReadableStream({ start(c) { c.error(new Error('e')); } }).pipeTo(other, { preventAbort: true }), 'Error: e');
  equal([aborted, other.locked], [0, false]);
  let cancelled = 0;
  const source = new ReadableStream({ start(c) { c.enqueue(1); }, cancel() { cancelled = 1; } });
  await rejects(source.pipeTo(new WritableStream({ write() { throw new Error('w'); } }), { preventCancel: true }), 'Error: w');
  equal([cancelled, source.locked], [0, false]);
});
test('a signal', async () => {
  let cancelled;
  let aborted;
  const controller = new AbortController();
  const piping = new ReadableStream({ cancel(r) { cancelled = r; } }).pipeTo(new WritableStream({ abort(r) { aborted = r; } }), { signal: controller.signal });
  controller.abort();
  await rejects(piping, 'AbortError: The operation was aborted');
  equal([cancelled.name, aborted.name], ['AbortError', 'AbortError']);
  await rejects(new ReadableStream().pipeTo(new WritableStream(), { signal: AbortSignal.abort('r') }).catch((r) => { throw new Error(r); }), 'Error: r');
  await rejects(new ReadableStream().pipeTo(new WritableStream(), { signal: {} }), "TypeError: Incorrect type for the 'signal' field on 'StreamPipeOptions': the provided value is not of type 'AbortSignal'.");
});
test('an abort gets through a write that waits for its reader', async () => {
  const controller = new AbortController();
  let source;
  let cancelled = 0;
  const { readable, writable } = new IdentityTransformStream();
  const stream = new ReadableStream({ start(c) { source = c; c.enqueue(bytes('a')); }, cancel() { cancelled++; } });
  const piping = stream.pipeTo(writable, { signal: controller.signal });
  await settle();
  controller.abort(new Error('boom'));
  await rejects(piping, 'Error: boom');
  await rejects(readable.getReader().read(), 'Error: boom');
  equal([cancelled, stream.locked, writable.locked], [1, false, false]);
  const other = new IdentityTransformStream();
  const writer = other.writable.getWriter();
  writer.write(bytes('x')).catch(() => {});
  await settle();
  await writer.abort(new Error('mine'));
  await rejects(other.readable.getReader().read(), 'Error: mine');
});
test('back-pressure: nothing is read before there is room', async () => {
  let pulls = 0;
  const source = new ReadableStream({ pull(c) { pulls++; c.enqueue(pulls); } }, { highWaterMark: 0 });
  source.pipeTo(new WritableStream({ write: () => new Promise(() => {}) }));
  await settle();
  equal(pulls, 1);
});
test('pipeThrough', async () => {
  const upper = new TransformStream({ transform(chunk, c) { c.enqueue(chunk.toUpperCase()); } });
  const out = [];
  for await (const chunk of ReadableStream.from(['a', 'b']).pipeThrough(upper)) out.push(chunk);
  equal(out, ['A', 'B']);
  throws(() => new ReadableStream().pipeThrough({}), "TypeError: Incorrect type for the 'readable' field on 'Transform': the provided value is not of type 'ReadableStream'.");
  const through = [];
  for await (const chunk of new Blob(['abc']).stream().pipeThrough(new IdentityTransformStream())) through.push(text(chunk));
  equal(through, ['abc']);
});
test('options in their order', async () => {
  const seen = [];
  const options = {};
  for (const name of ['signal', 'preventClose', 'preventCancel', 'preventAbort']) Object.defineProperty(options, name, { get() { seen.push(name); return undefined; } });
  await new ReadableStream({ start(c) { c.close(); } }).pipeTo(new WritableStream(), options);
  equal(seen, ['preventAbort', 'preventCancel', 'preventClose', 'signal']);
});
test('whoever puts something in goes on before it is written', async () => {
  let controller;
  const seen = [];
  const piped = new ReadableStream({ start(c) { controller = c; } }, { highWaterMark: 0 }).pipeTo(new WritableStream({ write(chunk) { seen.push(chunk); } }));
  await settle();
  controller.enqueue(1);
  seen.push('after');
  controller.enqueue(2);
  controller.close();
  await piped;
  equal(seen, ['after', 1, 2]);
});
test('what was read is written although its source fails at once', async () => {
  let controller;
  const seen = [];
  const piped = new ReadableStream({ start(c) { controller = c; } }, { highWaterMark: 0 }).pipeTo(new WritableStream({ write(chunk) { seen.push(chunk); }, abort(reason) { seen.push(reason.message); } }));
  await settle();
  controller.enqueue(1);
  controller.error(new Error('mine'));
  await rejects(piped, 'Error: mine');
  equal(seen, [1, 'mine']);
});
test('of two errors of an abort, the writable side\'s', async () => {
  const controller = new AbortController();
  const fail = (text) => () => { throw new Error(text); };
  const piped = new ReadableStream({ cancel: fail('source') }).pipeTo(new WritableStream({ abort: fail('sink') }), { signal: controller.signal });
  controller.abort();
  await rejects(piped, 'Error: sink');
});
