// WritableStream, as the Streams standard has it.
(function (internal) {
  'use strict';
  const { p, h, put, take, front, newQueue, queueLength, shape } = internal;
  const { Promise, TypeError, RangeError, arrayShift, then } = p;
  const { deferred, finish, handled, illegal, noop, rejected, resolved } = h;
  const key = {};
  const CLOSE = { __proto__: null };
  const locked = () => new TypeError('This WritableStream is currently locked to a writer.');
  const closed = () => new TypeError('This WritableStream has been closed.');
  const released = () => new TypeError('This WritableStream writer has been released.');

  // `unmade` while the controller is still to be made, which its first use does.
  const STREAM = {
    __proto__: null, state: 'writable', stored: undefined, writer: undefined, controller: undefined, inFlight: undefined, closing: undefined, closeInFlight: undefined,
    pendingAbort: undefined, requests: p.freeze([]), pressure: false, object: undefined, identity: undefined, unmade: false,
  };
  const newState = () => ({ __proto__: STREAM, requests: [] });
  // The state that streams have whose controller `make` makes when it is first asked for.
  const unmade = (make) => ({
    __proto__: STREAM, unmade: true,
    get controller() {
      p.setPrototypeOf(this, STREAM);
      this.requests = [];
      return make(this);
    },
  });

  let stateOf;
  class WritableStream {
    #state;
    static {
      stateOf = (stream) => { if (typeof stream !== 'object' || stream === null || !(#state in stream)) throw illegal(); return stream.#state; };
      internal.isWritable = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(sink = undefined, strategy = undefined) {
      if (sink === key) { this.#state = strategy; strategy.object = this; return; }
      sink ??= {};
      if (sink.type !== undefined) throw new RangeError('The type of an underlying sink must not be given.');
      const state = newState();
      this.#state = state;
      state.object = this;
      const { mark, size } = internal.strategyOf(strategy, 1);
      setUpSink(state, sink, mark, size ?? (() => 1));
    }
    get locked() { return stateOf(this).writer !== undefined; }
    abort(reason = undefined) {
      try {
        const state = stateOf(this);
        return state.writer !== undefined ? rejected(locked()) : abort(state, reason);
      } catch (error) { return rejected(error); }
    }
    close() {
      try {
        const state = stateOf(this);
        if (state.writer !== undefined) throw locked();
        if (closeQueued(state)) throw closed();
        return close(state);
      } catch (error) { return rejected(error); }
    }
    getWriter() { return new WritableStreamDefaultWriter(this); }
  }
  finish(WritableStream, 'WritableStream');
  shape(WritableStream, 'WritableStream', (stream) => {
    const state = stateOf(stream);
    return { pairs: [['locked', state.writer !== undefined], ['[state]', state.state], ['[expectsBytes]', state.identity !== undefined]] };
  });

  const closeQueued = (s) => s.closing !== undefined || s.closeInFlight !== undefined;

  function abort(s, reason) {
    if (s.state === 'closed' || s.state === 'errored') return resolved();
    const { controller } = s;
    controller.gone = { reason };
    if (controller.signal !== undefined) internal.abortSignal(controller.signal, reason);
    controller.onAbort(reason);
    if (s.state === 'closed' || s.state === 'errored') return resolved();
    if (s.pendingAbort !== undefined) return s.pendingAbort.promise;
    const erroring = s.state === 'erroring';
    const made = deferred();
    s.pendingAbort = { promise: made.promise, resolve: made.resolve, reject: made.reject, reason: erroring ? undefined : reason, erroring };
    if (!erroring) startErroring(s, reason);
    return made.promise;
  }
  function close(s) {
    if (s.state === 'closed' || s.state === 'errored') return rejected(closed());
    s.closing = deferred();
    const { promise } = s.closing;
    if (s.writer !== undefined && s.pressure && s.state === 'writable') s.writer.ready.resolve();
    put(s.controller.queue, CLOSE, 0);
    advance(s.controller);
    return promise;
  }
  function startErroring(s, reason) {
    s.state = 'erroring';
    s.stored = reason;
    if (s.writer !== undefined) rejectReady(s.writer, reason);
    if (s.inFlight === undefined && s.closeInFlight === undefined && s.controller.started) finishErroring(s);
  }
  function finishErroring(s) {
    s.state = 'errored';
    internal.clear(s.controller.queue);
    const { requests } = s;
    s.requests = [];
    for (let i = 0; i < requests.length; i++) requests[i].reject(s.stored);
    const { pendingAbort } = s;
    if (pendingAbort === undefined) return rejectClosed(s);
    s.pendingAbort = undefined;
    if (pendingAbort.erroring) {
      pendingAbort.reject(s.stored);
      return rejectClosed(s);
    }
    const { abortAlgorithm } = s.controller;
    clearAlgorithms(s.controller);
    then(abortAlgorithm(pendingAbort.reason), () => { pendingAbort.resolve(); rejectClosed(s); }, (error) => { pendingAbort.reject(error); rejectClosed(s); });
  }
  function rejectClosed(s) {
    if (s.closing !== undefined) { s.closing.reject(s.stored); s.closing = undefined; }
    if (s.writer !== undefined) { s.writer.closed.reject(s.stored); s.writer.closedPending = false; }
  }
  function rejectReady(writer, reason) { renewReady(writer).reject(reason); }
  // The one that is to be rejected: what is resolved stays so.
  function renewReady(writer) {
    if (!writer.readyPending) writer.ready = h.lazy();
    writer.readyPending = false;
    return writer.ready;
  }
  function dealWith(s, error) { if (s.state === 'writable') startErroring(s, error); else finishErroring(s); }
  function setPressure(s, pressure) {
    const { writer } = s;
    if (writer !== undefined && pressure !== s.pressure) {
      if (pressure) { writer.ready = h.lazy(); writer.readyPending = true; } else { writer.ready.resolve(); writer.readyPending = false; }
    }
    s.pressure = pressure;
  }

  // ---- The controller ----

  function newController(s, writing, closing, aborting, mark, size) {
    return (s.controller = { __proto__: CONTROLLER, stream: s, queue: newQueue(), mark, size, writeAlgorithm: writing, closeAlgorithm: closing, abortAlgorithm: aborting });
  }
  // The signal is made when it is asked for.
  const CONTROLLER = { __proto__: null, started: false, signal: undefined, gone: undefined, onAbort: noop };
  function begin(c, start) {
    const s = c.stream;
    setPressure(s, pressed(c));
    then(h.attempt(start), () => { c.started = true; advance(c); }, (error) => { c.started = true; dealWith(s, error); });
  }
  const desired = (c) => c.mark - c.queue.total;
  const pressed = (c) => desired(c) <= 0;
  function clearAlgorithms(c) { c.writeAlgorithm = c.closeAlgorithm = c.abortAlgorithm = c.size = undefined; }
  function advance(c) {
    const s = c.stream;
    if (!c.started || s.inFlight !== undefined) return;
    if (s.state === 'erroring') { if (s.closeInFlight === undefined) finishErroring(s); return; }
    if (queueLength(c.queue) === 0 || s.state === 'closed' || s.state === 'errored') return;
    if (front(c.queue) === CLOSE) finishClose(c); else finishWrite(c);
  }
  function finishClose(c) {
    const s = c.stream;
    s.closeInFlight = s.closing;
    s.closing = undefined;
    take(c.queue, 0);
    const { closeAlgorithm } = c;
    clearAlgorithms(c);
    then(closeAlgorithm(), () => {
      s.closeInFlight.resolve();
      s.closeInFlight = undefined;
      if (s.state === 'erroring') {
        s.stored = undefined;
        if (s.pendingAbort !== undefined) { s.pendingAbort.resolve(); s.pendingAbort = undefined; }
      }
      s.state = 'closed';
      if (s.writer !== undefined) { s.writer.closed.resolve(); s.writer.closedPending = false; }
    }, (error) => {
      s.closeInFlight.reject(error);
      s.closeInFlight = undefined;
      if (s.pendingAbort !== undefined) { s.pendingAbort.reject(error); s.pendingAbort = undefined; }
      dealWith(s, error);
    });
  }
  function finishWrite(c) {
    const s = c.stream;
    s.inFlight = arrayShift(s.requests);
    const item = front(c.queue);
    then(c.writeAlgorithm(item.chunk), () => {
      s.inFlight.resolve();
      s.inFlight = undefined;
      take(c.queue, item.size);
      if (!closeQueued(s) && s.state === 'writable') setPressure(s, pressed(c));
      advance(c);
    }, (error) => {
      if (s.state === 'writable') clearAlgorithms(c);
      s.inFlight.reject(error);
      s.inFlight = undefined;
      dealWith(s, error);
    });
  }
  function failController(c, error) {
    if (c.stream.state !== 'writable') return;
    clearAlgorithms(c);
    startErroring(c.stream, error);
  }
  function setUpSink(s, sink, mark, size) {
    const none = () => resolved();
    const { start } = sink;
    if (start !== undefined && typeof start !== 'function') throw new TypeError("Incorrect type for the 'start' field on 'UnderlyingSink': the provided value is not of type 'function'.");
    const write = internal.method(sink, 'write', 'UnderlyingSink');
    const c = newController(s, none, internal.method(sink, 'close', 'UnderlyingSink') ?? none, internal.method(sink, 'abort', 'UnderlyingSink') ?? none, mark, size);
    const object = new WritableStreamDefaultController(key, c);
    if (write !== undefined) c.writeAlgorithm = (chunk) => write(chunk, object);
    begin(c, () => (start === undefined ? undefined : p.apply(start, sink, [object])));
  }
  // The same for a stream of which only the controller is missing; it begins at once.
  function makeOurs(s, writing, closing, aborting) {
    const c = newController(s, writing, closing, aborting, 1, () => 1);
    setPressure(s, false);
    c.started = true;
    return c;
  }
  function makeWritable(start, writing, closing, aborting, mark = 1, size = () => 1) {
    const s = newState();
    new WritableStream(key, s);
    begin(newController(s, writing, closing, aborting, mark, size), start);
    return s;
  }

  let controllerOf;
  class WritableStreamDefaultController {
    #controller;
    static { controllerOf = (c) => { if (typeof c !== 'object' || c === null || !(#controller in c)) throw illegal(); return c.#controller; }; }
    constructor(secret, c) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#controller = c; }
    get signal() {
      const c = controllerOf(this);
      if (c.signal === undefined) {
        c.signal = internal.newSignal();
        if (c.gone !== undefined) internal.abortSignal(c.signal, c.gone.reason);
      }
      return internal.signalObject(c.signal);
    }
    error(error = undefined) { failController(controllerOf(this), error); }
  }
  finish(WritableStreamDefaultController, 'WritableStreamDefaultController');

  // ---- The writer ----

  function acquire(s) {
    if (s.writer !== undefined) throw locked();
    const w = { __proto__: null, stream: s, ready: h.lazy(), readyPending: false, closed: h.lazy(), closedPending: s.state === 'writable' || s.state === 'erroring' };
    s.writer = w;
    if (s.state === 'writable') {
      if (!closeQueued(s) && s.pressure) w.readyPending = true;
      else w.ready.resolve();
    } else if (s.state === 'erroring') w.ready.reject(s.stored);
    else if (s.state === 'closed') { w.ready.resolve(); w.closed.resolve(); } else { w.ready.reject(s.stored); w.closed.reject(s.stored); }
    return w;
  }
  function release(w) {
    const s = w.stream;
    renewReady(w).rejectWith(released);
    if (!w.closedPending) w.closed = h.lazy();
    w.closed.rejectWith(released);
    s.writer = undefined;
    w.stream = undefined;
  }
  function write(w, chunk) {
    const s = w.stream;
    const c = s.controller;
    let size = 1;
    if (c.size !== undefined) {
      try {
        size = +c.size(chunk);
        if (!(size >= 0 && size < Infinity)) throw new RangeError('The size of a chunk must be a finite number that is not negative.');
      } catch (error) { failController(c, error); }
    }
    if (s !== w.stream) return rejected(released());
    if (s.state === 'errored') return rejected(s.stored);
    if (closeQueued(s) || s.state === 'closed') return rejected(closed());
    if (s.state === 'erroring') return rejected(s.stored);
    const request = deferred();
    s.requests[s.requests.length] = request;
    put(c.queue, { chunk, size }, size);
    if (s.state === 'writable') setPressure(s, pressed(c));
    advance(c);
    return request.promise;
  }
  function closeSafely(s) {
    if (closeQueued(s) || s.state === 'closed') return resolved();
    if (s.state === 'errored') return rejected(s.stored);
    return close(s);
  }

  let writerOf;
  class WritableStreamDefaultWriter {
    #writer;
    static { writerOf = (w) => { if (typeof w !== 'object' || w === null || !(#writer in w)) throw illegal(); return w.#writer; }; }
    constructor(stream) { this.#writer = acquire(stateOf(stream)); }
    get closed() { try { return writerOf(this).closed.promise; } catch (error) { return rejected(error); } }
    get desiredSize() {
      const s = writerOf(this).stream;
      if (s === undefined) throw released();
      return s.state === 'errored' || s.state === 'erroring' ? null : s.state === 'closed' ? 0 : desired(s.controller);
    }
    get ready() { try { return writerOf(this).ready.promise; } catch (error) { return rejected(error); } }
    abort(reason = undefined) { return this.#with((w) => abort(w.stream, reason)); }
    close() { return this.#with((w) => (closeQueued(w.stream) ? rejected(closed()) : close(w.stream))); }
    write(chunk = undefined) { return this.#with((w) => write(w, chunk)); }
    releaseLock() { const w = writerOf(this); if (w.stream !== undefined) release(w); }
    #with(run) { return this.#writer.stream === undefined ? rejected(released()) : run(this.#writer); }
  }
  finish(WritableStreamDefaultWriter, 'WritableStreamDefaultWriter');
  shape(WritableStreamDefaultWriter, 'WritableStreamDefaultWriter', ['closed', 'ready', 'desiredSize']);

  internal.writable = {
    __proto__: null, stateOf, unmade, makeOurs, makeWritable, acquire, release, write, abort, close, closeSafely, closeQueued, failController, startErroring,
    wrap(s) { new WritableStream(key, s); return s; },
  };
});
