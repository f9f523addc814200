// ReadableStream with default controllers and readers, as the Streams standard has them.
(function (internal) {
  'use strict';
  const { p, h, put, take, newQueue, queueLength, shape } = internal;
  const { Promise, TypeError, RangeError, arrayShift, symbolAsyncIterator, symbolIterator, then } = p;
  const { finish, handled, illegal, noop, rejected, resolved, isObject, member } = h;
  const key = {};
  const released = () => new TypeError('This ReadableStream reader has been released.');
  const locked = () => new TypeError('This ReadableStream is currently locked to a reader.');

  // What a stream is inside. `host` is a body of the host that nobody has looked at while `disturbed` is false; `bytes` likewise
  // all that there is; `length` how many bytes come, where that is known.
  // `unmade` while the controller is still to be made, which its first use does: most bodies only pass through.
  const STREAM = {
    __proto__: null, state: 'readable', reader: undefined, stored: undefined, disturbed: false, controller: undefined, host: undefined, bytes: undefined, length: undefined, object: undefined,
    identity: undefined, unmade: false,
  };
  const newState = () => ({ __proto__: STREAM });
  // The state that streams have whose controller `make` makes when it is first asked for.
  const unmade = (make) => ({
    __proto__: STREAM, unmade: true,
    get controller() { p.setPrototypeOf(this, STREAM); return make(this); },
  });

  let stateOf;
  class ReadableStream {
    #state;
    static {
      stateOf = (stream) => { if (typeof stream !== 'object' || stream === null || !(#state in stream)) throw illegal(); return stream.#state; };
      internal.isReadable = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(source = undefined, strategy = undefined) {
      if (source === key) { this.#state = strategy; strategy.object = this; return; }
      source ??= {};
      const state = newState();
      this.#state = state;
      state.object = this;
      const { type } = source;
      if (type === undefined) {
        const { mark, size } = internal.strategyOf(strategy, 1);
        setUpSource(state, source, mark, size ?? (() => 1));
      } else if (`${type}` === 'bytes') {
        const { mark, size } = internal.strategyOf(strategy, 0);
        if (size !== undefined) throw new RangeError('The size of a strategy cannot be given for a stream of bytes.');
        internal.setUpByteSource(state, source, mark);
      } else throw new TypeError(`"${type}" is not a valid type of ReadableStream.`);
    }
    static from(iterable) { return fromIterable(iterable); }
    get locked() { return stateOf(this).reader !== undefined; }
    cancel(reason = undefined) {
      try {
        const state = stateOf(this);
        return state.reader !== undefined ? rejected(locked()) : cancel(state, reason);
      } catch (error) { return rejected(error); }
    }
    getReader(options = undefined) {
      const state = stateOf(this);
      if (options !== undefined && options !== null && !isObject(options)) throw h.wrongArgument('ReadableStream', 'getReader', 1, 'ReadableStreamGetReaderOptions');
      const mode = member(options, 'mode');
      if (mode === undefined) return new ReadableStreamDefaultReader(this);
      if (`${mode}` !== 'byob') throw new TypeError("mode must be undefined or 'byob' in call to getReader().");
      return internal.byobReader(state);
    }
    pipeThrough(transform, options = undefined) {
      const state = stateOf(this);
      const wrong = (name, type) => new TypeError(`Incorrect type for the '${name}' field on 'Transform': the provided value is not of type '${type}'.`);
      if (!isObject(transform) || !internal.isReadable(transform.readable)) throw wrong('readable', 'ReadableStream');
      if (!internal.isWritable(transform.writable)) throw wrong('writable', 'WritableStream');
      const { readable, writable } = transform;
      if (state.reader !== undefined) throw locked();
      if (writable.locked) throw new TypeError('This WritableStream is currently locked to a writer.');
      handled(internal.pipe(state, writable, options));
      return readable;
    }
    pipeTo(destination, options = undefined) {
      try {
        const state = stateOf(this);
        if (!internal.isWritable(destination)) throw h.wrongArgument('ReadableStream', 'pipeTo', 1, 'WritableStream');
        if (state.reader !== undefined) throw locked();
        if (destination.locked) throw new TypeError('This WritableStream is currently locked to a writer.');
        return internal.pipe(state, destination, options);
      } catch (error) { return rejected(error); }
    }
    tee() {
      const state = stateOf(this);
      const pair = tee(state);
      return [pair[0].object, pair[1].object];
    }
    values(options = undefined) {
      const state = stateOf(this);
      return new StreamIterator(acquire(state), !!member(options, 'preventCancel'));
    }
  }
  p.defineProperty(ReadableStream.prototype, symbolAsyncIterator, { value: ReadableStream.prototype.values, writable: true, configurable: true });
  finish(ReadableStream, 'ReadableStream');
  shape(ReadableStream, 'ReadableStream', (stream) => {
    const state = stateOf(stream);
    return { pairs: [['locked', state.reader !== undefined], ['[state]', state.state], ['[supportsBYOB]', state.controller.byob !== undefined], ['[length]', state.length === undefined ? undefined : p.BigInt(state.length)]] };
  });

  // ---- What is done to streams, by the standard's names ----

  function close(stream) {
    stream.state = 'closed';
    const { reader } = stream;
    if (reader === undefined) return;
    reader.closed.resolve();
    if (reader.byob) return;
    const { requests } = reader;
    reader.requests = [];
    for (let i = 0; i < requests.length; i++) requests[i].close();
  }
  function fail(stream, error) {
    stream.state = 'errored';
    stream.stored = error;
    const { reader } = stream;
    if (reader === undefined) return;
    reader.closed.reject(error);
    failRequests(reader, error);
  }
  function failRequests(reader, error) {
    const { requests } = reader;
    reader.requests = [];
    for (let i = 0; i < requests.length; i++) requests[i].error(error);
  }
  function cancel(stream, reason) {
    stream.disturbed = true;
    if (stream.state === 'closed') return resolved();
    if (stream.state === 'errored') return rejected(stream.stored);
    close(stream);
    const { reader } = stream;
    if (reader !== undefined && reader.byob) {
      const { requests } = reader;
      reader.requests = [];
      for (let i = 0; i < requests.length; i++) requests[i].close(undefined);
    }
    return then(stream.controller.cancel(reason), noop);
  }

  function newReader(stream, byob) {
    if (stream.reader !== undefined) throw locked();
    const reader = { __proto__: null, stream, byob, closed: h.lazy(), requests: [] };
    stream.reader = reader;
    if (stream.state === 'closed') reader.closed.resolve();
    else if (stream.state === 'errored') reader.closed.reject(stream.stored);
    return reader;
  }
  const acquire = (stream) => newReader(stream, false);
  function release(reader) {
    const { stream } = reader;
    if (stream.state !== 'readable') reader.closed = h.lazy();
    reader.closed.rejectWith(released);
    stream.controller.release();
    stream.reader = undefined;
    reader.stream = undefined;
    if (reader.requests.length > 0) failRequests(reader, released());
  }
  function read(reader, request) {
    const { stream } = reader;
    stream.disturbed = true;
    if (stream.state === 'closed') request.close();
    else if (stream.state === 'errored') request.error(stream.stored);
    else stream.controller.pull(request);
  }
  // A read as a promise of { value, done }.
  function readPromise(reader) {
    return new Promise((resolve, reject) => read(reader, {
      error: reject,
      chunk: (value) => resolve({ value, done: false }),
      close: () => resolve({ value: undefined, done: true }),
    }));
  }

  // The same for ourselves: resolving with it asks no prototype for a method `then`.
  function readQuietly(reader) {
    return new Promise((resolve, reject) => read(reader, {
      error: reject,
      chunk: (value) => resolve({ __proto__: null, value, done: false }),
      close: () => resolve({ __proto__: null, value: undefined, done: true }),
    }));
  }

  let readerOf;
  class ReadableStreamDefaultReader {
    #reader;
    static { readerOf = (reader) => { if (typeof reader !== 'object' || reader === null || !(#reader in reader)) throw illegal(); return reader.#reader; }; }
    constructor(stream) { this.#reader = acquire(stateOf(stream)); }
    get closed() { try { return readerOf(this).closed.promise; } catch (error) { return rejected(error); } }
    cancel(reason = undefined) { return cancelReader(() => readerOf(this), reason); }
    read() {
      try {
        const reader = readerOf(this);
        return reader.stream === undefined ? rejected(released()) : readPromise(reader);
      } catch (error) { return rejected(error); }
    }
    releaseLock() { const reader = readerOf(this); if (reader.stream !== undefined) release(reader); }
  }
  finish(ReadableStreamDefaultReader, 'ReadableStreamDefaultReader');
  shape(ReadableStreamDefaultReader, 'ReadableStreamDefaultReader', ['closed']);
  function cancelReader(find, reason) {
    try {
      const reader = find();
      return reader.stream === undefined ? rejected(released()) : cancel(reader.stream, reason);
    } catch (error) { return rejected(error); }
  }

  class StreamIterator {
    #reader; #preventCancel; #ongoing = undefined; #finished = false;
    constructor(reader, preventCancel) { this.#reader = reader; this.#preventCancel = preventCancel; }
    #queue(step) {
      if (this.#ongoing === undefined) return (this.#ongoing = step());
      const made = h.deferred();
      const run = () => { then(step(), made.resolve, made.reject); };
      then(this.#ongoing, run, run);
      return (this.#ongoing = made.promise);
    }
    next() {
      return this.#queue(() => {
        if (this.#finished) return resolved({ value: undefined, done: true });
        return new Promise((resolve, reject) => read(this.#reader, {
          chunk: (value) => resolve({ value, done: false }),
          close: () => { this.#finished = true; release(this.#reader); resolve({ value: undefined, done: true }); },
          error: (error) => { this.#finished = true; release(this.#reader); reject(error); },
        }));
      });
    }
    return(value) {
      return this.#queue(() => {
        if (this.#finished) return resolved({ value, done: true });
        this.#finished = true;
        const done = this.#preventCancel ? resolved() : cancel(this.#reader.stream, value);
        release(this.#reader);
        return then(done, () => ({ value, done: true }));
      });
    }
  }
  delete StreamIterator.prototype.constructor;
  for (const name of ['next', 'return']) p.defineProperty(StreamIterator.prototype, name, { enumerable: true });
  p.setPrototypeOf(StreamIterator.prototype, p.getPrototypeOf(p.getPrototypeOf(async function* () {}.prototype)));

  // ---- The default controller ----

  const desired = (c) => (c.stream.state === 'errored' ? null : c.stream.state === 'closed' ? 0 : c.mark - c.queue.total);
  const open = (c) => !c.closing && c.stream.state === 'readable';
  function wants(c) {
    if (!open(c) || !c.started) return false;
    const { reader } = c.stream;
    return (reader !== undefined && reader.requests.length > 0) || desired(c) > 0;
  }
  function callPull(c) {
    if (!wants(c)) return;
    if (c.pulling) { c.again = true; return; }
    c.pulling = true;
    then(c.pullAlgorithm(), () => {
      c.pulling = false;
      if (c.again) { c.again = false; callPull(c); }
    }, (error) => failController(c, error));
  }
  function clearAlgorithms(c) { c.pullAlgorithm = c.cancelAlgorithm = c.size = undefined; }
  function failController(c, error) {
    if (c.stream.state !== 'readable') return;
    internal.clear(c.queue);
    clearAlgorithms(c);
    fail(c.stream, error);
  }
  function closeController(c) {
    if (!open(c)) return;
    c.closing = true;
    if (queueLength(c.queue) === 0) { clearAlgorithms(c); close(c.stream); }
  }
  function enqueue(c, chunk) {
    if (!open(c)) return;
    const { reader } = c.stream;
    if (reader !== undefined && reader.requests.length > 0) arrayShift(reader.requests).chunk(chunk);
    else {
      let size;
      try {
        size = +c.size(chunk);
        if (!(size >= 0 && size < Infinity)) throw new RangeError('The size of a chunk must be a finite number that is not negative.');
      } catch (error) { failController(c, error); throw error; }
      put(c.queue, { chunk, size }, size);
    }
    callPull(c);
  }
  function newController(stream, pull, cancelling, mark, size) {
    return (stream.controller = { __proto__: CONTROLLER, stream, queue: newQueue(), mark, size, pullAlgorithm: pull, cancelAlgorithm: cancelling });
  }
  const CONTROLLER = {
    __proto__: null, started: false, closing: false, pulling: false, again: false, byob: undefined,
    pull(request) {
      const { stream, queue } = this;
      if (queueLength(queue) === 0) {
        stream.reader.requests[stream.reader.requests.length] = request;
        callPull(this);
        return;
      }
      const item = take(queue, internal.front(queue).size);
      if (this.closing && queueLength(queue) === 0) { clearAlgorithms(this); close(stream); } else callPull(this);
      request.chunk(item.chunk);
    },
    cancel(reason) {
      internal.clear(this.queue);
      const result = this.cancelAlgorithm(reason);
      clearAlgorithms(this);
      return result;
    },
    release: noop,
  };
  // A start that throws fails the stream, as the reference has it, not its constructor.
  function begin(c, start) {
    then(h.attempt(start), () => { c.started = true; callPull(c); }, (error) => failController(c, error));
  }
  // A stream of our own: its algorithms give promises.
  function makeStream(start, pull, cancelling, mark = 1) {
    const stream = newState();
    new ReadableStream(key, stream);
    begin(newController(stream, pull, cancelling, mark, () => 1), start);
    return stream;
  }
  function setUpSource(stream, source, mark, size) {
    const none = () => resolved();
    const start = source.start;
    if (start !== undefined && typeof start !== 'function') throw new TypeError("Incorrect type for the 'start' field on 'UnderlyingSource': the provided value is not of type 'function'.");
    const pull = internal.method(source, 'pull', 'UnderlyingSource');
    const cancelling = internal.method(source, 'cancel', 'UnderlyingSource') ?? none;
    const c = newController(stream, none, cancelling, mark, size);
    const object = new ReadableStreamDefaultController(key, c);
    if (pull !== undefined) c.pullAlgorithm = () => pull(object);
    begin(c, () => (start === undefined ? undefined : p.apply(start, source, [object])));
  }

  let controllerOf;
  class ReadableStreamDefaultController {
    #controller;
    static { controllerOf = (c) => { if (typeof c !== 'object' || c === null || !(#controller in c)) throw illegal(); return c.#controller; }; }
    constructor(secret, c) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#controller = c; }
    get desiredSize() { return desired(controllerOf(this)); }
    close() {
      const c = controllerOf(this);
      if (!open(c)) throw new TypeError('The ReadableStream has been closed or has failed.');
      closeController(c);
    }
    enqueue(chunk = undefined) {
      const c = controllerOf(this);
      if (!open(c)) throw new TypeError('Unable to enqueue: the ReadableStream has been closed or has failed.');
      enqueue(c, chunk);
    }
    error(error = undefined) { failController(controllerOf(this), error); }
  }
  finish(ReadableStreamDefaultController, 'ReadableStreamDefaultController');

  function fromIterable(iterable) {
    const wrong = () => h.wrongArgument('ReadableStream', 'from', 1, 'AsyncGenerator');
    if (iterable === null || iterable === undefined || (typeof iterable !== 'string' && !isObject(iterable))) throw wrong();
    const make = iterable[symbolAsyncIterator] ?? iterable[symbolIterator];
    if (typeof make !== 'function') throw wrong();
    const iterator = p.apply(make, iterable, []);
    if (!isObject(iterator)) throw wrong();
    const { next } = iterator;
    const stream = makeStream(noop, async () => {
      const result = await p.apply(next, iterator, []);
      if (!isObject(result)) throw new TypeError('The iterator of a ReadableStream gave no object.');
      if (result.done) closeController(stream.controller);
      else enqueue(stream.controller, await result.value);
    }, async (reason) => {
      const end = iterator.return;
      if (end === undefined || end === null) return;
      if (typeof end !== 'function') throw new TypeError('The return of an iterator of a ReadableStream is no function.');
      if (!isObject(await p.apply(end, iterator, [reason]))) throw new TypeError('The return of an iterator of a ReadableStream gave no object.');
    }, 0);
    return stream.object;
  }

  // ---- tee ----

  // The reference ends this one with a comma.
  const notTeed = () => new TypeError('This ReadableStream is currently locked to a reader,');
  function tee(stream) {
    if (stream.reader !== undefined) throw notTeed();
    if (stream.bytes !== undefined && !stream.disturbed) {
      const { bytes } = stream;
      handled(cancel(stream, undefined));
      acquire(stream);
      return [internal.bytesStream(bytes), internal.bytesStream(bytes)];
    }
    if (stream.controller.byob !== undefined) return internal.teeBytes(stream);
    const reader = acquire(stream);
    const state = { reading: false, again: false, gone: [false, false] };
    const branches = [];
    const pull = () => {
      if (state.reading) { state.again = true; return resolved(); }
      state.reading = true;
      read(reader, {
        chunk: (chunk) => h.microtask(() => {
          state.again = false;
          for (let i = 0; i < 2; i++) if (!state.gone[i]) enqueue(branches[i].controller, chunk);
          state.reading = false;
          if (state.again) pull();
        }),
        close: () => {
          state.reading = false;
          for (let i = 0; i < 2; i++) if (!state.gone[i]) closeController(branches[i].controller);
        },
        error: () => { state.reading = false; },
      });
      return resolved();
    };
    for (let i = 0; i < 2; i++) {
      branches[i] = makeStream(noop, pull, cancelBranch(stream, state, i));
      branches[i].length = stream.length;
    }
    then(reader.closed.promise, undefined, (error) => {
      for (let i = 0; i < 2; i++) failController(branches[i].controller, error);
    });
    return branches;
  }
  // The first branch that is given up does not wait for the other, as the reference has it.
  const cancelBranch = (stream, state, index) => (reason) => {
    state.gone[index] = true;
    return state.gone[1 - index] || stream.state === 'errored' ? cancel(stream, reason) : resolved();
  };

  internal.streamFrom = fromIterable;
  internal.readable = {
    key, newState, unmade, stateOf, close, fail, cancel, newReader, acquire, release, released, read, readQuietly, cancelReader, locked, notTeed,
    makeStream, enqueue, closeController, failController, desired, open, tee, cancelBranch,
    wrap(state) { new ReadableStream(key, state); return state; },
  };
});
