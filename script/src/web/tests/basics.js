test('an event and its defaults', () => {
  const e = new Event('x', { bubbles: true });
  equal([e.type, e.bubbles, e.cancelable, e.defaultPrevented, e.eventPhase, e.target, e.isTrusted, e.returnValue, e.cancelBubble], ['x', true, false, false, 0, undefined, false, true, false]);
  throws(() => new Event(), "TypeError: Failed to construct 'Event': constructor parameter 1 is not of type 'string'.");
  equal(Object.prototype.toString.call(e), '[object Event]');
});
test('listeners: once, removed, objects, order, stop', () => {
  const target = new EventTarget();
  const seen = [];
  const b = () => seen.push('b');
  target.addEventListener('a', (e) => { seen.push(['once', e.target === target, e.currentTarget === target, e.eventPhase]); }, { once: true });
  target.addEventListener('a', b);
  target.addEventListener('a', b);
  target.addEventListener('a', { handleEvent(e) { seen.push(this !== undefined); e.stopImmediatePropagation(); } });
  target.addEventListener('a', () => seen.push('never'));
  target.dispatchEvent(new Event('a'));
  target.removeEventListener('a', b);
  target.dispatchEvent(new Event('a'));
  equal(seen, [['once', true, true, 2], 'b', true, true]);
});
test('preventDefault', () => {
  const target = new EventTarget();
  target.addEventListener('a', (e) => e.preventDefault());
  equal([target.dispatchEvent(new Event('a', { cancelable: true })), target.dispatchEvent(new Event('a'))], [false, true]);
});
test('what is no listener, no event, no target', () => {
  const target = new EventTarget();
  throws(() => target.addEventListener('a', 1), "TypeError: Failed to execute 'addEventListener' on 'EventTarget': parameter 2 is not of type 'function or HandlerObject'.");
  for (const bad of [{}, [], 'x', false]) throws(() => target.addEventListener('a', bad), "TypeError: Failed to execute 'addEventListener' on 'EventTarget': parameter 2 is not of type 'function or HandlerObject'.");
  target.addEventListener('a', null);
  throws(() => target.dispatchEvent({}), "TypeError: Failed to execute 'dispatchEvent' on 'EventTarget': parameter 1 is not of type 'Event'.");
  ok(throws(() => EventTarget.prototype.dispatchEvent.call({}, new Event('a')), 'TypeError: Illegal invocation: function called with incorrect `this` reference.') instanceof TypeError);
  target.addEventListener('a', (e) => { target.dispatchEvent(e); });
  equal(throws(() => target.dispatchEvent(new Event('a')), 'InvalidStateError: The event is already being dispatched.').code, 11);
});
test('an error of a listener comes out after the others ran', () => {
  const target = new EventTarget();
  let ran = 0;
  target.addEventListener('a', () => { throw new Error('in'); });
  target.addEventListener('a', () => { ran++; });
  throws(() => target.dispatchEvent(new Event('a')), 'Error: in');
  equal(ran, 1);
});
test('a listener with a signal', () => {
  const target = new EventTarget();
  const controller = new AbortController();
  let ran = 0;
  target.addEventListener('a', () => { ran++; }, { signal: controller.signal });
  target.dispatchEvent(new Event('a'));
  controller.abort();
  target.dispatchEvent(new Event('a'));
  equal(ran, 1);
});
test('options are looked at whatever the listener is', () => {
  const target = new EventTarget();
  const wrong = "TypeError: Incorrect type for the 'signal' field on 'AddEventListenerOptions': the provided value is not of type 'AbortSignal'.";
  let asked = 0;
  target.addEventListener('a', null, { get passive() { asked++; return false; } });
  equal(asked, 1);
  throws(() => target.addEventListener('a', null, { signal: null }), wrong);
  throws(() => target.addEventListener('a', () => {}, { signal: {} }), wrong);
});
test('other events', () => {
  equal(new CustomEvent('x', { detail: 5 }).detail, 5);
  const close = new CloseEvent('close', { code: 5, reason: 'r', wasClean: true });
  equal([close.code, close.reason, close.wasClean, close instanceof Event], [5, 'r', true, true]);
  const message = new MessageEvent('message', { data: 5 });
  equal([message.data, message.origin, message.source, message.lastEventId, message.ports], [5, '', null, '', []]);
  const error = new ErrorEvent('error', { message: 'm', error: 1 });
  equal([error.message, error.error, error.filename, error.lineno], ['m', 1, '', 0]);
  class Mine extends Event { constructor() { super('mine'); this.x = 1; } }
  let got;
  class Target extends EventTarget {}
  const target = new Target();
  target.addEventListener('mine', (e) => { got = e.x; });
  target.dispatchEvent(new Mine());
  equal(got, 1);
});
test('DOMException', () => {
  const e = new DOMException('m', 'AbortError');
  equal([e.name, e.code, e.message, e instanceof Error, Object.prototype.toString.call(e), DOMException.ABORT_ERR], ['AbortError', 20, 'm', true, '[object DOMException]', 20]);
});
test('abort: reasons and texts', () => {
  const e = throws(() => AbortSignal.abort().throwIfAborted(), 'AbortError: The operation was aborted');
  equal([e.code, e instanceof DOMException], [20, true]);
  equal(AbortSignal.abort('x').reason, 'x');
  throws(() => new AbortSignal(), 'TypeError: Illegal constructor');
  const controller = new AbortController();
  let events = 0;
  controller.signal.onabort = (event) => { events += event.isTrusted ? 1 : 100; };
  controller.abort('first');
  controller.abort('second');
  equal([controller.signal.aborted, controller.signal.reason, events], [true, 'first', 1]);
});
test('a listener that throws does not stop who aborts', async () => {
  const controller = new AbortController();
  let after = 0;
  controller.signal.addEventListener('abort', () => { throw new Error('listener'); });
  controller.signal.addEventListener('abort', () => { after++; });
  controller.abort();
  equal([after, controller.signal.aborted], [1, true]);
  ok(host.lines[0].startsWith('error: Uncaught Error: listener'), host.lines[0]);
  let sink;
  const stream = new ReadableStream();
  const writable = new WritableStream({ start(c) { sink = c; } });
  sink.signal.addEventListener('abort', () => stream.getReader());
  await rejects(stream.pipeTo(writable, { signal: AbortSignal.abort(new Error('pipe')) }), 'Error: pipe');
});
test('AbortSignal.timeout', async () => {
  const signal = AbortSignal.timeout(10);
  let event = 0;
  signal.addEventListener('abort', () => { event++; });
  await scheduler.wait(5);
  equal(signal.aborted, false);
  await scheduler.wait(20);
  equal([signal.aborted, signal.reason.name, signal.reason.message, signal.reason.code, event], [true, 'TimeoutError', 'The operation was aborted due to timeout', 23, 1]);
});
test('AbortSignal.any', () => {
  const a = new AbortController();
  const b = new AbortController();
  const both = AbortSignal.any([a.signal, b.signal]);
  const nested = AbortSignal.any([both]);
  let order = [];
  both.addEventListener('abort', () => order.push('both', nested.aborted));
  nested.addEventListener('abort', () => order.push('nested'));
  b.abort('r');
  equal([both.aborted, both.reason, nested.reason, order], [true, 'r', 'r', ['both', true, 'nested']]);
  equal(AbortSignal.any([AbortSignal.abort('q')]).reason, 'q');
  throws(() => AbortSignal.any(5), "TypeError: Failed to execute 'any' on 'AbortSignal': parameter 1 is not of type 'Array'.");
});
test('timers', async () => {
  const seen = [];
  setTimeout((...args) => seen.push('b', args), 20, 1, 2);
  setTimeout(() => seen.push('a'), 10);
  const cancelled = setTimeout(() => seen.push('never'), 15);
  clearTimeout(cancelled);
  clearTimeout(undefined);
  const every = setInterval(() => { seen.push('i'); if (seen.filter((x) => x === 'i').length === 2) clearInterval(every); }, 30);
  await scheduler.wait(200);
  equal(seen, ['a', 'b', [1, 2], 'i', 'i']);
  equal(typeof every, 'number');
  for (const bad of ['x', undefined]) throws(() => setTimeout(bad), "TypeError: Failed to execute 'setTimeout' on 'ServiceWorkerGlobalScope': parameter 1 is not of type 'function'.");
  throws(() => queueMicrotask(1), "TypeError: Failed to execute 'queueMicrotask' on 'ServiceWorkerGlobalScope': parameter 1 is not of type 'function'.");
});
test('scheduler.wait with a signal', async () => {
  await rejects(scheduler.wait(100, { signal: AbortSignal.abort() }), 'AbortError: The operation was aborted');
  const controller = new AbortController();
  const waiting = scheduler.wait(1e6, { signal: controller.signal });
  controller.abort();
  await rejects(waiting, 'AbortError: The operation was aborted');
  equal(host.timers.length, 0);
});
test('outside of an event nothing waits or is random', async () => {
  dispatch.setEvent(null);
  const text = 'Error: Disallowed operation called within global scope. Asynchronous I/O (ex: fetch() or connect()), setting a timeout, and generating random values are not allowed within global scope. To fix this error, perform this operation within a handler.';
  throws(() => setTimeout(() => {}), text);
  throws(() => crypto.randomUUID(), text);
  throws(() => crypto.getRandomValues(new Uint8Array(1)), text);
  const waiting = scheduler.wait(1);
  dispatch.setEvent(1);
  await rejects(waiting, text);
});
test('where it runs', () => {
  equal([navigator.userAgent, navigator.hardwareConcurrency, performance.timeOrigin, typeof performance.now()], ['Cloudflare-Workers', 1, 0, 'number']);
  equal([self === globalThis, origin, typeof process, typeof Buffer, typeof global, typeof setImmediate, typeof window], [true, 'null', 'undefined', 'undefined', 'undefined', 'undefined', 'undefined']);
  equal(Object.prototype.toString.call(globalThis), '[object ServiceWorkerGlobalScope]');
  equal(Object.keys(Cloudflare.compatibilityFlags), []);
});
test('code from strings', async () => {
  const text = 'EvalError: Code generation from strings disallowed for this context';
  throws(() => eval('1'), text);
  throws(() => (0, eval)('1'), text);
  throws(() => new Function('return 1'), text);
  throws(() => Function('return 1'), text);
  throws(() => (() => {}).constructor('1'), text);
  throws(() => (async () => {}).constructor('1'), text);
  throws(() => (function* () {}).constructor('1'), text);
  throws(() => (async function* () {}).constructor('1'), text);
  throws(() => Reflect.construct(Object.getPrototypeOf(class {}).constructor, ['1']), text);
  ok((() => {}) instanceof Function && Function.prototype === Object.getPrototypeOf(() => {}));
});
test('random values', () => {
  equal(crypto.getRandomValues(new BigUint64Array(2)).length, 2);
  ok(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()));
  equal(throws(() => crypto.getRandomValues(new Uint8Array(65537)), 'QuotaExceededError: getRandomValues() only accepts buffers of size <= 64K but provided 65537 bytes.').code, 22);
  for (const view of [new Float32Array(1), new DataView(new ArrayBuffer(1))])
    throws(() => crypto.getRandomValues(view), 'TypeMismatchError: ArrayBufferView argument to getRandomValues() must be an integer-typed view.');
  throws(() => crypto.getRandomValues({}), "TypeError: Failed to execute 'getRandomValues' on 'Crypto': parameter 1 is not of type 'ArrayBufferView'.");
});
test('promises can still be subclassed', async () => {
  class Sub extends Promise {}
  function Old() {}
  Old.prototype = Object.create(Promise.prototype);
  Old.prototype.constructor = Old;
  equal([await Sub.resolve(1), Sub.resolve(1).then(() => {}) instanceof Sub, new Old().constructor === Old, Promise.resolve().constructor === Promise], [1, true, true, true]);
});
