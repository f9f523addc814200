const collect = async (stream) => { const out = []; for await (const chunk of stream) out.push(chunk); return out; };
test('read to the end', async () => {
  const stream = new ReadableStream({ start(c) { c.enqueue('a'); c.close(); } });
  const reader = stream.getReader();
  equal([await reader.read(), await reader.read(), stream.locked, await reader.closed], [{ value: 'a', done: false }, { value: undefined, done: true }, true, undefined]);
});
test('pull, back-pressure, cancel', async () => {
  let pulls = 0;
  let reason;
  const stream = new ReadableStream({ pull(c) { pulls++; c.enqueue(pulls); }, cancel(r) { reason = r; } }, { highWaterMark: 3 });
  await settle();
  equal(pulls, 3);
  const reader = stream.getReader();
  equal((await reader.read()).value, 1);
  await settle();
  equal(pulls, 4);
  await reader.cancel('why');
  equal([reason, await reader.read()], ['why', { value: undefined, done: true }]);
});
test('locks and released readers', async () => {
  const locked = 'TypeError: This ReadableStream is currently locked to a reader.';
  const stream = new ReadableStream();
  const reader = stream.getReader();
  throws(() => stream.getReader(), locked);
  throws(() => stream.tee(), 'TypeError: This ReadableStream is currently locked to a reader,');
  await rejects(stream.cancel(), locked);
  await rejects(stream.pipeTo(new WritableStream()), locked);
  throws(() => stream.pipeThrough(new TransformStream()), locked);
  const reading = reader.read();
  reader.releaseLock();
  const released = 'TypeError: This ReadableStream reader has been released.';
  await rejects(reading, released);
  await rejects(reader.read(), released);
  await rejects(reader.closed, released);
  await rejects(reader.cancel(), released);
  equal(stream.locked, false);
});
test('errors', async () => {
  await rejects(new ReadableStream({ start(c) { c.error(new Error('q')); } }).getReader().read(), 'Error: q');
  await rejects(new ReadableStream({ pull() { throw new Error('p'); } }).getReader().read(), 'Error: p');
  await rejects(new ReadableStream({ start: async () => { throw new Error('s'); } }).getReader().read(), 'Error: s');
  await rejects(new ReadableStream({ start() { throw new Error('now'); } }).getReader().read(), 'Error: now');
  throws(() => new ReadableStream({ type: 'x' }), 'TypeError: "x" is not a valid type of ReadableStream.');
  throws(() => new ReadableStream().getReader({ mode: 'x' }), "TypeError: mode must be undefined or 'byob' in call to getReader().");
  throws(() => new ReadableStream().getReader({ mode: 'byob' }), 'TypeError: This ReadableStream does not support BYOB reads.');
  throws(() => ReadableStream.prototype.getReader.call({}), 'TypeError: Illegal invocation: function called with incorrect `this` reference.');
  let late;
  new ReadableStream({ start(c) { c.close(); late = c; } });
  throws(() => late.enqueue(1), 'TypeError: Unable to enqueue: the ReadableStream has been closed or has failed.');
  let controller;
  new ReadableStream({ start(c) { controller = c; } }, { highWaterMark: 3 });
  controller.enqueue(1);
  equal(controller.desiredSize, 2);
});
test('async iteration', async () => {
  equal(await collect(new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close(); } })), [1, 2]);
  let cancelled;
  const make = () => new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); }, cancel(r) { cancelled = [r]; } });
  const stream = make();
  for await (const _ of stream) break;
  equal([cancelled, stream.locked], [[undefined], false]);
  cancelled = undefined;
  const other = make();
  for await (const _ of other.values({ preventCancel: true })) break;
  equal([cancelled, other.locked], [undefined, false]);
  const both = make().values();
  equal(await Promise.all([both.next(), both.next(), both.return('r'), both.next()]), [{ value: 1, done: false }, { value: 2, done: false }, { value: 'r', done: true }, { value: undefined, done: true }]);
});
test('from', async () => {
  equal([await collect(ReadableStream.from([1, 2])), await collect(ReadableStream.from((async function* () { yield 'a'; yield Promise.resolve('b'); })())), await collect(ReadableStream.from('xy'))], [[1, 2], ['a', 'b'], ['x', 'y']]);
  throws(() => ReadableStream.from(5), "TypeError: Failed to execute 'from' on 'ReadableStream': parameter 1 is not of type 'AsyncGenerator'.");
  let ended = 0;
  const stream = ReadableStream.from({ [Symbol.asyncIterator]: () => ({ next: async () => ({ value: 1, done: false }), return: async () => { ended++; return {}; } }) });
  const reader = stream.getReader();
  await reader.read();
  await reader.cancel();
  equal(ended, 1);
});
test('tee', async () => {
  let reasons;
  const [a, b] = new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close(); } }).tee();
  equal([await collect(a), await collect(b)], [[1, 2], [1, 2]]);
  const [c, d] = new ReadableStream({ start(k) { k.enqueue(1); }, cancel(r) { reasons = r; } }).tee();
  await Promise.all([c.cancel('x'), d.cancel('y')]);
  equal(reasons, 'y');
  const [one] = new ReadableStream().tee();
  await one.cancel();
  const [e, f] = new ReadableStream({ start(k) { k.enqueue(1); k.close(); } }).tee();
  e.cancel('x');
  equal(await collect(f), [1]);
  const [g, i] = new ReadableStream({ pull() { throw new Error('t'); } }).tee();
  await rejects(collect(g), 'Error: t');
  await rejects(collect(i), 'Error: t');
});
test('strategies', async () => {
  equal([new CountQueuingStrategy({ highWaterMark: 2 }).highWaterMark, new CountQueuingStrategy({ highWaterMark: 2 }).size(), new ByteLengthQueuingStrategy({ highWaterMark: 2 }).size(new Uint8Array(4))], [2, 1, 4]);
  throws(() => new CountQueuingStrategy(), "TypeError: Failed to construct 'CountQueuingStrategy': constructor parameter 1 is not of type 'QueuingStrategyInit'.");
  throws(() => new ReadableStream({}, { highWaterMark: -1 }), 'RangeError: The highWaterMark of a queuing strategy must be a number that is not negative.');
  await rejects(new ReadableStream({ start(c) { c.enqueue(1); } }, { size: () => NaN }).getReader().read(), 'RangeError: The size of a chunk must be a finite number that is not negative.');
});
test('what is no choice of a reader', () => {
  const wrong = "TypeError: Failed to execute 'getReader' on 'ReadableStream': parameter 1 is not of type 'ReadableStreamGetReaderOptions'.";
  for (const options of [5, 'byob', true]) throws(() => new ReadableStream().getReader(options), wrong);
  equal([null, undefined, {}].map((options) => new ReadableStream().getReader(options).constructor.name), Array(3).fill('ReadableStreamDefaultReader'));
});
test('strategies: the type of a size before the range of a mark', () => {
  const size = "TypeError: Incorrect type for the 'size' field on 'QueuingStrategy': the provided value is not of type 'function'.";
  throws(() => new ReadableStream({}, { size: 1, highWaterMark: -1 }), size);
  throws(() => new WritableStream({}, { size: 1, highWaterMark: -1 }), size);
  throws(() => new TransformStream({}, { size: 1, highWaterMark: -1 }), size);
  throws(() => new WritableStream({}, { highWaterMark: NaN }), 'RangeError: The highWaterMark of a queuing strategy must be a number that is not negative.');
  for (const strategy of [new CountQueuingStrategy({ highWaterMark: 1 }), new ByteLengthQueuingStrategy({ highWaterMark: 1 })]) {
    equal(Object.hasOwn(strategy.size, 'prototype'), false);
    throws(() => new strategy.size(), 'TypeError: not a constructor');
  }
});
test('tee: a branch of what has failed cannot be cancelled in peace', async () => {
  for (const type of [undefined, 'bytes']) {
    let controller;
    const branches = new ReadableStream({ type, start(c) { controller = c; } }).tee();
    controller.error(new Error('mine'));
    for (const branch of branches) await rejects(branch.cancel(), 'Error: mine');
  }
});
test('the iterator shows what it has', () => {
  const iterator = Object.getPrototypeOf(new ReadableStream().values());
  equal([Object.keys(iterator), Object.hasOwn(iterator, 'constructor')], [['next', 'return'], false]);
});
