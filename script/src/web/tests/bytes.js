const bodyOf = (chunk) => new Blob([chunk]).stream();
test('BYOB: three of five, then two, then the end', async () => {
  const reader = bodyOf('abcde').getReader({ mode: 'byob' });
  equal([await reader.read(new Uint8Array(3)), await reader.read(new Uint8Array(3)), await reader.read(new Uint8Array(3))],
    [{ value: new Uint8Array([97, 98, 99]), done: false }, { value: new Uint8Array([100, 101]), done: false }, { value: new Uint8Array(0), done: true }]);
});
test('BYOB: views of other kinds, detached, empty', async () => {
  const reader = bodyOf('abcde').getReader({ mode: 'byob' });
  const view = new Uint16Array(4);
  const first = await reader.read(view);
  equal([first.value, view.buffer.detached], [new Uint16Array([0x6261, 0x6463]), true]);
  equal((await reader.read(new DataView(new ArrayBuffer(4)))).value.byteLength, 1);
  await rejects(bodyOf('a').getReader({ mode: 'byob' }).read(new Uint8Array(0)), 'TypeError: You must call read() on a "byob" reader with a positive-sized TypedArray object.');
});
test('BYOB: at least so many', async () => {
  const reader = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(bytes('ab')); c.enqueue(bytes('cd')); c.close(); } }).getReader({ mode: 'byob' });
  equal([await reader.read(new Uint8Array(3), { min: 3 }), await reader.readAtLeast(1, new Uint8Array(3)), await reader.read(new Uint8Array(2))],
    [{ value: bytes('abc'), done: false }, { value: bytes('d'), done: false }, { value: new Uint8Array(0), done: true }]);
  const short = new IdentityTransformStream();
  const filling = short.writable.getWriter();
  filling.write(bytes('az'));
  filling.close();
  const rest = short.readable.getReader({ mode: 'byob' });
  equal([await rest.readAtLeast(4, new Uint8Array(20)), await rest.read(new Uint8Array(1))], [{ value: bytes('az'), done: false }, { value: new Uint8Array(0), done: true }]);
  const late = [];
  const slow = new ReadableStream({ type: 'bytes', async pull(c) { await scheduler.wait(1); late.push(1); c.enqueue(new Uint8Array([late.length])); } }).getReader({ mode: 'byob' });
  equal([(await slow.read(new Uint8Array(4), { min: 3 })).value, late.length], [new Uint8Array([1, 2, 3]), 3]);
});
test('byobRequest: respond, respondWithNewView, autoAllocate', async () => {
  const auto = new ReadableStream({ type: 'bytes', autoAllocateChunkSize: 4, pull(c) { c.byobRequest.view[0] = 7; c.byobRequest.respond(1); } });
  equal(await auto.getReader().read(), { value: new Uint8Array([7]), done: false });
  const unasked = new ReadableStream({ type: 'bytes', pull(c) { c.byobRequest.view.set([104, 105]); c.byobRequest.respond(2); c.close(); } });
  equal(await new Response(unasked).text(), 'hi');
  const source = { type: 'bytes', pull(c) { const { view } = c.byobRequest; view[0] = 1; view[1] = 2; c.byobRequest.respondWithNewView(new Uint8Array(view.buffer, view.byteOffset, 2)); } };
  equal((await new ReadableStream(source).getReader({ mode: 'byob' }).read(new Uint8Array(3))).value, new Uint8Array([1, 2]));
  const closing = new ReadableStream({ type: 'bytes', pull(c) { c.close(); c.byobRequest.respond(0); } });
  equal(await closing.getReader({ mode: 'byob' }).read(new Uint8Array(2)), { value: new Uint8Array(0), done: true });
  const plain = new ReadableStream({ type: 'bytes', pull(c) { c.close(); } });
  equal(await plain.getReader({ mode: 'byob' }).read(new Uint8Array(2)), { value: new Uint8Array(0), done: true });
  const over = new ReadableStream({ type: 'bytes', pull(c) { c.byobRequest.respond(9); } });
  await rejects(over.getReader({ mode: 'byob' }).read(new Uint8Array(2)), 'RangeError: More bytes than the view has room for.');
});
test('what is put in is taken over', async () => {
  const chunk = new Uint8Array([1, 2]);
  const stream = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(chunk); c.close(); } });
  equal([chunk.byteLength, (await stream.getReader().read()).value], [0, new Uint8Array([1, 2])]);
  await rejects(new ReadableStream({ type: 'bytes', start(c) { c.enqueue('a'); } }).getReader().read(), "TypeError: Failed to execute 'enqueue' on 'ReadableByteStreamController': parameter 1 is not of type 'BufferSource'.");
  equal(await new Response(new ReadableStream({ type: 'bytes', start(c) { c.enqueue(bytes('ab').buffer); c.close(); } })).text(), 'ab');
  await rejects(new ReadableStream({ type: 'bytes', start(c) { c.enqueue(new Uint8Array(0)); } }).getReader().read(), 'TypeError: An empty chunk cannot be put into a stream of bytes.');
});
test('tee of bytes: branches of their own', async () => {
  const [a, b] = new ReadableStream({ type: 'bytes', start(c) { c.enqueue(bytes('ab')); c.close(); } }).tee();
  const first = await a.getReader({ mode: 'byob' }).read(new Uint8Array(1));
  first.value[0] = 0;
  equal(await new Response(b).text(), 'ab');
  const [c, d] = bodyOf('xy').tee();
  equal([(await c.getReader().read()).value, (await d.getReader().read()).value], [bytes('xy'), bytes('xy')]);
});
test('a reader let go while it waits keeps what comes', async () => {
  let controller;
  const stream = new ReadableStream({ type: 'bytes', start(c) { controller = c; } });
  const reader = stream.getReader({ mode: 'byob' });
  const reading = reader.read(new Uint8Array(4));
  reader.releaseLock();
  await rejects(reading, 'TypeError: This ReadableStream reader has been released.');
  controller.enqueue(bytes('late'));
  equal((await stream.getReader().read()).value, bytes('late'));
});
test('IdentityTransformStream: a write waits for its reader', async () => {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  let done = false;
  writer.write(bytes('abc')).then(() => { done = true; });
  await scheduler.wait(5);
  equal(done, false);
  const reader = readable.getReader({ mode: 'byob' });
  equal([(await reader.read(new Uint8Array(2))).value, (await reader.read(new Uint8Array(2))).value], [bytes('ab'), bytes('c')]);
  await scheduler.wait(1);
  equal(done, true);
  writer.close();
  equal(await reader.read(new Uint8Array(1)), { value: new Uint8Array(0), done: true });
  ok(new IdentityTransformStream() instanceof TransformStream);
});
test('IdentityTransformStream: only bytes; errors cross', async () => {
  const a = new IdentityTransformStream();
  const writing = a.writable.getWriter().write(1);
  const text = 'TypeError: This TransformStream is being used as a byte stream, but received an object of non-ArrayBuffer/ArrayBufferView type on its writable side.';
  await rejects(writing, text);
  await rejects(a.readable.getReader().read(), text);
  const b = new IdentityTransformStream();
  b.writable.abort(new Error('ab'));
  await rejects(b.readable.getReader().read(), 'Error: ab');
  const c = new IdentityTransformStream();
  await c.readable.cancel(new Error('cc'));
  await rejects(c.writable.getWriter().write(bytes('x')), 'Error: cc');
});
test('FixedLengthStream', async () => {
  const fill = async (length, chunk) => {
    const { readable, writable } = new FixedLengthStream(length);
    const writer = writable.getWriter();
    const written = (async () => { await writer.write(bytes(chunk)); await writer.close(); })();
    // What is missing is the reader's to hear.
    if (chunk.length < length) { await rejects(new Response(readable).text(), 'TypeError: FixedLengthStream did not see all expected bytes before close().'); await written; return 'too short'; }
    written.catch(() => {});
    const got = [];
    for await (const part of readable) got.push(text(part));
    await written;
    return got.join('');
  };
  equal(await fill(3, 'abc'), 'abc');
  await rejects(fill(2, 'abc'), 'TypeError: Attempt to write too many bytes through a FixedLengthStream.');
  equal(await fill(4, 'abc'), 'too short');
  throws(() => new FixedLengthStream(-1), 'TypeError: The value cannot be converted because it is negative and this API expects a positive bigint.');
  throws(() => new FixedLengthStream('x'), 'TypeError: The value cannot be converted because it is not an integer.');
  new FixedLengthStream(10n);
});
test('how they look', () => {
  console.log(new ReadableStream());
  equal(host.lines[0], "log: ReadableStream {\n  locked: false,\n  [state]: 'readable',\n  [supportsBYOB]: false,\n  [length]: undefined\n}");
});
test('a view of another buffer is no answer', async () => {
  const errors = [];
  const answer = (c, view) => { try { c.byobRequest.respondWithNewView(view); } catch (error) { errors.push(error.name); } };
  const stream = new ReadableStream({
    type: 'bytes',
    pull(c) {
      answer(c, new Uint8Array(new ArrayBuffer(9), 0, 3));
      answer(c, new Uint8Array(c.byobRequest.view.buffer, 0, 0));
      const gone = new Uint8Array(3);
      gone.buffer.transfer();
      answer(c, gone);
      c.byobRequest.respondWithNewView(new Uint8Array(c.byobRequest.view.buffer.transfer(), 0, 2));
    },
  });
  const { value } = await stream.getReader({ mode: 'byob' }).read(new Uint8Array([1, 2, 3]));
  equal([errors, value], [['RangeError', 'TypeError', 'TypeError'], new Uint8Array([1, 2])]);
});
test('who has a view writes no more into it once something else was put in', async () => {
  let controller;
  const reader = new ReadableStream({ type: 'bytes', start(c) { controller = c; } }).getReader({ mode: 'byob' });
  const first = reader.read(new Uint32Array(1));
  await settle();
  const { view } = controller.byobRequest;
  controller.enqueue(new Uint8Array([1]));
  equal([view.byteLength, view.buffer.detached], [0, true]);
  controller.enqueue(new Uint8Array([0, 0, 0]));
  equal((await first).value, new Uint32Array([1]));
});
test('the end reaches the next reader when the first has let go', async () => {
  let controller;
  const stream = new ReadableStream({ type: 'bytes', start(c) { controller = c; } });
  const first = stream.getReader({ mode: 'byob' });
  const lost = first.read(new Uint8Array(3));
  await settle();
  const request = controller.byobRequest;
  first.releaseLock();
  const second = stream.getReader({ mode: 'byob' }).read(new Uint8Array([4, 5]));
  await rejects(lost, 'TypeError: This ReadableStream reader has been released.');
  controller.close();
  request.respond(0);
  equal([controller.byobRequest, await second], [null, { value: new Uint8Array(0), done: true }]);
});
test('tee: a branch that is read into a view has its source do so', async () => {
  const rooms = [];
  const stream = new ReadableStream({ type: 'bytes', pull(c) { rooms.push(c.byobRequest.view.byteLength); c.byobRequest.view[0] = rooms.length; c.byobRequest.respond(1); } });
  const branches = stream.tee();
  const one = branches[0].getReader({ mode: 'byob' });
  const other = branches[1].getReader({ mode: 'byob' });
  equal(await Promise.all([one.read(new Uint8Array(2)), other.read(new Uint8Array(3))]), [{ value: new Uint8Array([1]), done: false }, { value: new Uint8Array([1]), done: false }]);
  equal((await other.read(new Uint8Array(3))).value, new Uint8Array([2]));
  one.releaseLock();
  equal((await branches[0].getReader().read()).value, new Uint8Array([2]));
  equal(rooms, [2, 3]);
});
test('tee: both branches come to the end with what they wait with', async () => {
  let controller;
  const branches = new ReadableStream({ type: 'bytes', start(c) { controller = c; } }).tee();
  const reads = branches.map((branch) => branch.getReader({ mode: 'byob' }).read(new Uint8Array(2)));
  await settle();
  controller.close();
  controller.byobRequest.respond(0);
  equal(await Promise.all(reads), [{ value: new Uint8Array(0), done: true }, { value: new Uint8Array(0), done: true }]);
});
