// Streams of bytes: their controller, BYOB readers, and the streams that the host's bodies and plain bytes are.
(function (internal) {
  'use strict';
  const { p, h, host, natives, readable, put, take, front, newQueue, queueLength, shape } = internal;
  const { Promise, TypeError, RangeError, Uint8Array, arrayShift, bufferDetached, bufferLength, bufferTransfer, min, then, typedBuffer, typedLength, typedOffset, typedBytes, viewName, views } = p;
  const { bytesOf, finish, handled, illegal, noop, rejected, resolved, isObject, member, sub } = h;
  const { key, stateOf, close, fail, newState, newReader, release, released, cancelReader, desired, open } = readable;

  // What a source of bytes is given to write to where nobody reads into a view and it says no size: as the reference does.
  const AUTO = 4096;

  // ---- The controller ----

  function wants(c) {
    const { stream } = c;
    if (stream.state !== 'readable' || c.closing || !c.started) return false;
    return (stream.reader !== undefined && stream.reader.requests.length > 0) || desired(c) > 0;
  }
  function callPull(c) {
    if (!wants(c)) return;
    if (c.pulling) { c.again = true; return; }
    c.pulling = true;
    then(c.pullAlgorithm(), () => {
      c.pulling = false;
      if (c.again) { c.again = false; callPull(c); }
    }, (error) => failBytes(c, error));
  }
  function clearAlgorithms(c) { c.pullAlgorithm = c.cancelAlgorithm = undefined; }
  function invalidate(c) {
    if (c.request === undefined) return;
    detachRequest(c.request);
    c.request = undefined;
  }
  function failBytes(c, error) {
    if (c.stream.state !== 'readable') return;
    invalidate(c);
    c.pending = [];
    internal.clear(c.queue);
    clearAlgorithms(c);
    fail(c.stream, error);
  }
  function closeBytes(c) {
    if (c.closing || c.stream.state !== 'readable') return;
    if (c.queue.total > 0) { c.closing = true; return; }
    const first = c.pending[0];
    if (first !== undefined && first.filled % first.size !== 0) {
      const error = new TypeError('The stream ended within an element of the view that was read into.');
      failBytes(c, error);
      throw error;
    }
    clearAlgorithms(c);
    close(c.stream);
    tellPending(c);
  }
  // Who reads into a view is told of the end: of a stream of ours at once, of one of the user's when it had its chance to
  // answer by itself, as the standard wants it.
  function tellPending(c) {
    const tell = () => { while (c.pending.length > 0) commit(c, arrayShift(c.pending), true); };
    if (c.object === undefined) tell(); else if (c.pending.length > 0) h.microtask(tell);
  }
  function enqueueBytes(c, bytes) {
    const { stream } = c;
    if (c.closing || stream.state !== 'readable') return;
    const first = c.pending[0];
    // Whoever has a view of it writes into it no more.
    if (first !== undefined && c.request !== undefined) first.buffer = bufferTransfer(first.buffer);
    invalidate(c);
    if (first !== undefined && first.kind === 'none') {
      if (first.filled > 0) put(c.queue, new Uint8Array(first.buffer, first.start, first.filled), first.filled);
      arrayShift(c.pending);
    }
    const { reader } = stream;
    if (reader !== undefined && !reader.byob && reader.requests.length > 0 && c.queue.total === 0) {
      if (c.pending.length > 0) arrayShift(c.pending);
      arrayShift(reader.requests).chunk(bytes);
    } else {
      put(c.queue, bytes, typedLength(bytes));
      if (reader === undefined || reader.byob) fillPending(c);
      else while (reader.requests.length > 0 && c.queue.total > 0) arrayShift(reader.requests).chunk(take2(c));
    }
    callPull(c);
  }
  const take2 = (c) => take(c.queue, typedLength(front(c.queue)));
  function drained(c) {
    if (c.queue.total === 0 && c.closing) { clearAlgorithms(c); close(c.stream); tellPending(c); } else callPull(c);
  }
  // Moves what the queue has to the first of those who wait with a view; true if that one has enough.
  function fill(c, into) {
    while (queueLength(c.queue) > 0 && into.filled < into.length) {
      const head = front(c.queue);
      const size = typedLength(head);
      const count = min(size, into.length - into.filled);
      natives.fill(new Uint8Array(into.buffer, into.start + into.filled, count), sub(head, 0, count));
      into.filled += count;
      if (count === size) take(c.queue, size);
      else { c.queue.items[c.queue.head] = sub(head, count, size); c.queue.total -= count; }
    }
    return into.filled >= into.least;
  }
  function fillPending(c) {
    while (c.pending.length > 0 && c.queue.total > 0 && fill(c, c.pending[0])) {
      keepRest(c, c.pending[0]);
      commit(c, arrayShift(c.pending));
    }
  }
  // Bytes beyond whole elements go back to the queue's front.
  function keepRest(c, into) {
    const rest = into.filled % into.size;
    if (rest === 0) return;
    into.filled -= rest;
    const kept = natives.copy(new Uint8Array(into.buffer, into.start + into.filled, rest));
    c.queue.items = p.arrayConcat([kept], p.arraySlice(c.queue.items, c.queue.head));
    c.queue.head = 0;
    c.queue.total += rest;
  }
  function viewOf(into) {
    const { name } = into;
    const View = views[name];
    return new View(into.buffer, into.start, name === 'DataView' ? into.filled : into.filled / into.size);
  }
  function commit(c, into, early = false) {
    const { stream } = c;
    const done = stream.state === 'closed';
    const { reader } = stream;
    if (reader === undefined || reader.requests.length === 0) return;
    if (into.kind === 'default') {
      if (done && into.filled === 0) return;
      arrayShift(reader.requests).chunk(viewOf(into));
    } else if (done && (into.filled === 0 || !early)) arrayShift(reader.requests).close(viewOf(into));
    else arrayShift(reader.requests).chunk(viewOf(into));
  }

  function pullInto(c, view, least, request) {
    const { stream } = c;
    const name = viewName(view) ?? 'DataView';
    const bytes = bytesOf(view);
    const size = name === 'DataView' ? 1 : views[name].BYTES_PER_ELEMENT;
    const start = typedOffset(bytes);
    const length = typedLength(bytes);
    let buffer;
    try { buffer = bufferTransfer(typedBuffer(bytes)); } catch (error) { request.error(error); return; }
    const into = { buffer, whole: bufferLength(buffer), start, length, filled: 0, least: least * size, size, name, kind: 'byob' };
    if (c.pending.length > 0) {
      c.pending[c.pending.length] = into;
      stream.reader.requests[stream.reader.requests.length] = request;
      return;
    }
    if (stream.state === 'closed') { request.close(viewOf(into)); return; }
    if (c.queue.total > 0) {
      if (fill(c, into)) {
        keepRest(c, into);
        const filled = viewOf(into);
        drained(c);
        request.chunk(filled);
        return;
      }
      if (c.closing) {
        const error = new TypeError('The stream ended within an element of the view that was read into.');
        if (into.filled % size !== 0) { failBytes(c, error); request.error(error); return; }
        // Fewer than were asked for, but all that there are.
        const filled = viewOf(into);
        drained(c);
        request.chunk(filled);
        return;
      }
    }
    c.pending[c.pending.length] = into;
    stream.reader.requests[stream.reader.requests.length] = request;
    callPull(c);
  }

  function checkCount(c, count) {
    if (c.stream.state !== 'closed') { if (count === 0) throw new TypeError('An open stream cannot be answered with 0 bytes.'); }
    else if (count !== 0) throw new TypeError('A closed stream can only be answered with 0 bytes.');
  }
  function respond(c, count) {
    const into = c.pending[0];
    checkCount(c, count);
    if (into.filled + count > into.length) throw new RangeError('More bytes than the view has room for.');
    invalidate(c);
    into.buffer = bufferTransfer(into.buffer);
    if (c.stream.state === 'closed') {
      arrayShift(c.pending);
      if (into.kind !== 'none') commit(c, into);
      while (c.pending.length > 0) commit(c, arrayShift(c.pending));
      return;
    }
    into.filled += count;
    if (into.kind === 'none') {
      arrayShift(c.pending);
      put(c.queue, natives.copy(new Uint8Array(into.buffer, into.start, into.filled)), into.filled);
      fillPending(c);
    } else if (into.filled >= into.least) {
      arrayShift(c.pending);
      keepRest(c, into);
      commit(c, into);
      fillPending(c);
    }
    callPull(c);
  }

  function newController(stream, pull, cancelling, mark, autoSize) {
    return (stream.controller = { __proto__: CONTROLLER, stream, queue: newQueue(), mark, pending: [], autoSize, pullAlgorithm: pull, cancelAlgorithm: cancelling });
  }
  const CONTROLLER = {
    __proto__: null, started: false, closing: false, pulling: false, again: false, request: undefined, object: undefined,
    byob(view, least, request) { pullInto(this, view, least, request); },
    pull(request) {
      if (this.queue.total > 0) {
        const chunk = take2(this);
        drained(this);
        request.chunk(chunk);
        return;
      }
      const { autoSize } = this;
      if (autoSize !== undefined)
        this.pending[this.pending.length] = { buffer: new p.ArrayBuffer(autoSize), whole: autoSize, start: 0, length: autoSize, filled: 0, least: 1, size: 1, name: 'Uint8Array', kind: 'default' };
      const { requests } = this.stream.reader;
      requests[requests.length] = request;
      callPull(this);
    },
    cancel(reason) {
      invalidate(this);
      this.pending = [];
      internal.clear(this.queue);
      const result = this.cancelAlgorithm(reason);
      clearAlgorithms(this);
      return result;
    },
    release() {
      if (this.pending.length === 0) return;
      this.pending[0].kind = 'none';
      this.pending = [this.pending[0]];
    },
  };
  const begin = (c, start) => then(h.attempt(start), () => { c.started = true; callPull(c); }, (error) => failBytes(c, error));

  internal.makeByteStream = (pull, cancelling, mark = 0) => {
    const stream = readable.wrap(newState());
    begin(newController(stream, pull, cancelling, mark, undefined), noop);
    return stream;
  };
  internal.setUpByteSource = (stream, source, mark) => {
    const none = () => resolved();
    const { start } = source;
    if (start !== undefined && typeof start !== 'function') throw new TypeError("Incorrect type for the 'start' field on 'UnderlyingSource': the provided value is not of type 'function'.");
    const pull = internal.method(source, 'pull', 'UnderlyingSource');
    const cancelling = internal.method(source, 'cancel', 'UnderlyingSource') ?? none;
    const auto = source.autoAllocateChunkSize;
    if (auto !== undefined && !(+auto >= 1)) throw new TypeError('autoAllocateChunkSize must be greater than 0.');
    const c = newController(stream, none, cancelling, mark, auto !== undefined ? p.trunc(+auto) : internal.has('streams_no_default_auto_allocate_chunk_size') ? undefined : AUTO);
    c.object = new ReadableByteStreamController(key, c);
    if (pull !== undefined) c.pullAlgorithm = () => pull(c.object);
    begin(c, () => (start === undefined ? undefined : p.apply(start, source, [c.object])));
  };

  let controllerOf;
  class ReadableByteStreamController {
    #controller;
    static { controllerOf = (c) => { if (typeof c !== 'object' || c === null || !(#controller in c)) throw illegal(); return c.#controller; }; }
    constructor(secret, c) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#controller = c; }
    get byobRequest() {
      const c = controllerOf(this);
      if (c.request === undefined && c.pending.length > 0) {
        const into = c.pending[0];
        c.request = new ReadableStreamBYOBRequest(key, c, new Uint8Array(into.buffer, into.start + into.filled, into.length - into.filled), into.least - into.filled);
      }
      return c.request ?? null;
    }
    get desiredSize() { return desired(controllerOf(this)); }
    close() {
      const c = controllerOf(this);
      if (!open(c)) throw new TypeError('The ReadableStream has been closed or has failed.');
      closeBytes(c);
    }
    enqueue(chunk) {
      const c = controllerOf(this);
      const bytes = bytesOf(chunk);
      if (bytes === null) throw h.wrongArgument('ReadableByteStreamController', 'enqueue', 1, 'BufferSource');
      if (typedLength(bytes) === 0) throw new TypeError('An empty chunk cannot be put into a stream of bytes.');
      if (!open(c)) throw new TypeError('Unable to enqueue: the ReadableStream has been closed or has failed.');
      const start = typedOffset(bytes);
      const length = typedLength(bytes);
      enqueueBytes(c, new Uint8Array(bufferTransfer(typedBuffer(bytes)), start, length));
    }
    error(error = undefined) { failBytes(controllerOf(this), error); }
  }
  finish(ReadableByteStreamController, 'ReadableByteStreamController');

  let requestOf;
  let detachRequest;
  class ReadableStreamBYOBRequest {
    #request;
    static {
      requestOf = (request) => { if (typeof request !== 'object' || request === null || !(#request in request)) throw illegal(); return request.#request; };
      detachRequest = (request) => { request.#request.controller = undefined; request.#request.view = null; };
    }
    constructor(secret, controller, view, least) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#request = { controller, view, least }; }
    get view() { return requestOf(this).view; }
    get atLeast() { return requestOf(this).least; }
    respond(count) {
      const { controller, view } = requestOf(this);
      if (controller === undefined) throw new TypeError('This ReadableStreamBYOBRequest has been invalidated.');
      if (bufferDetached(typedBuffer(view))) throw new TypeError('The view of this BYOB request is detached.');
      respond(controller, p.trunc(+count));
    }
    respondWithNewView(view) {
      const { controller } = requestOf(this);
      if (controller === undefined) throw new TypeError('This ReadableStreamBYOBRequest has been invalidated.');
      if (!p.isView(view)) throw h.wrongArgument('ReadableStreamBYOBRequest', 'respondWithNewView', 1, 'ArrayBufferView');
      const bytes = bytesOf(view);
      const into = controller.pending[0];
      if (bufferDetached(typedBuffer(bytes))) throw new TypeError('The view is detached.');
      checkCount(controller, typedLength(bytes));
      if (into.start + into.filled !== typedOffset(bytes)) throw new RangeError('The view begins at another place than the one that was given.');
      if (bufferLength(typedBuffer(bytes)) !== into.whole) throw new RangeError('The view is of another buffer than the one that was given.');
      if (into.filled + typedLength(bytes) > into.length) throw new RangeError('More bytes than the view has room for.');
      const count = typedBytes(bytes);
      into.buffer = bufferTransfer(typedBuffer(bytes));
      respond(controller, count);
    }
  }
  finish(ReadableStreamBYOBRequest, 'ReadableStreamBYOBRequest');

  // ---- The reader ----

  let readerOf;
  class ReadableStreamBYOBReader {
    #reader;
    static { readerOf = (reader) => { if (typeof reader !== 'object' || reader === null || !(#reader in reader)) throw illegal(); return reader.#reader; }; }
    constructor(stream) {
      const state = stateOf(stream);
      if (state.controller.byob === undefined) throw new TypeError('This ReadableStream does not support BYOB reads.');
      this.#reader = newReader(state, true);
    }
    get closed() { try { return readerOf(this).closed.promise; } catch (error) { return rejected(error); } }
    cancel(reason = undefined) { return cancelReader(() => readerOf(this), reason); }
    read(view, options = undefined) {
      try {
        const reader = readerOf(this);
        if (!p.isView(view)) throw h.wrongArgument('ReadableStreamBYOBReader', 'read', 1, 'ArrayBufferView');
        return readInto(reader, view, member(options, 'min') ?? 1);
      } catch (error) { return rejected(error); }
    }
    readAtLeast(least, view) { return this.read(view, { min: least }); }
    releaseLock() { const reader = readerOf(this); if (reader.stream !== undefined) release(reader); }
  }
  finish(ReadableStreamBYOBReader, 'ReadableStreamBYOBReader');
  shape(ReadableStreamBYOBReader, 'ReadableStreamBYOBReader', ['closed']);
  internal.byobReader = (state) => new ReadableStreamBYOBReader(state.object);

  function readInto(reader, view, least) {
    const bytes = bytesOf(view);
    if (typedLength(bytes) === 0) throw new TypeError('You must call read() on a "byob" reader with a positive-sized TypedArray object.');
    const name = viewName(view);
    const room = name === undefined ? typedLength(bytes) : typedLength(view);
    least = p.trunc(+least);
    if (!(least >= 1)) throw new TypeError('The minimum number of elements to read must be at least 1.');
    if (least > room) throw new RangeError('The minimum number of elements to read is more than the view has room for.');
    if (reader.stream === undefined) return rejected(released());
    const { stream } = reader;
    return new Promise((resolve, reject) => {
      const request = { chunk: (value) => resolve({ value, done: false }), close: (value) => resolve({ value, done: true }), error: reject };
      stream.disturbed = true;
      if (stream.state === 'errored') reject(stream.stored);
      else pullInto(stream.controller, view, least, request);
    });
  }

  // ---- Bodies ----

  // A body of the host: { id, length } and, for those who wait for its end, a promise.
  internal.hostStream = (id, length = undefined) => hostStream({ __proto__: null, id, length, ended: undefined, forget: undefined });
  // The controller of a stream of ours is made when it is first needed, and begins at once.
  function ours(stream, source) {
    const c = newController(stream, () => source.pull(c), (reason) => source.cancel(reason), 0, undefined);
    c.started = true;
    return c;
  }
  // A state of a stream whose source, { pull(c), cancel(reason) }, is made when it is first needed.
  internal.unmadeBytes = (make) => readable.unmade((stream) => ours(stream, make(stream)));
  const OF_HOST = internal.unmadeBytes((stream) => hostSource(stream.host));
  function hostSource(body) {
    return {
      __proto__: null,
      pull: (c) => then(h.attempt(() => host.bodyRead(body.id)), (bytes) => {
        if (bytes === null || bytes === undefined) {
          body.ended?.resolve();
          closeBytes(c);
        } else if (typedLength(bytes) > 0) enqueueBytes(c, bytes);
        else c.again = true;
      }, (error) => { body.ended?.reject(error); throw error; }),
      cancel(reason) {
        host.bodyCancel(body.id, text(reason));
        body.ended?.reject(reason);
        return resolved();
      },
    };
  }
  const hostStream = (body) => readable.wrap({ __proto__: OF_HOST, host: body, length: body.length });
  // What nobody has used becomes a stream of the host's body.
  internal.becomeHost = (stream, body) => {
    stream.host = body;
    stream.length ??= body.length;
    if (stream.unmade) p.setPrototypeOf(stream, OF_HOST);
    else ours(stream, hostSource(body));
  };
  internal.streamOfHeld = hostStream;
  const text = (reason) => { try { return isObject(reason) && 'message' in reason ? `${reason.message}` : reason === undefined ? '' : `${reason}`; } catch { return ''; } };
  internal.reasonText = text;

  // A stream of bytes that are all there.
  const OF_BYTES = internal.unmadeBytes(({ bytes }) => ({
    __proto__: null,
    pull(c) {
      if (typedLength(bytes) > 0) enqueueBytes(c, natives.copy(bytes));
      closeBytes(c);
      return resolved();
    },
    cancel: resolved,
  }));
  internal.bytesStream = (bytes) => readable.wrap({ __proto__: OF_BYTES, bytes, length: typedLength(bytes) });
  internal.streamOf = (bytes) => internal.bytesStream(bytes).object;
  // For the branches of a tee: the view that the first who waits with one has left, undefined if nobody does; whether anybody does;
  // and what was read into such a view.
  internal.viewToFill = (c) => {
    const into = c.pending[0];
    return into === undefined ? undefined : new Uint8Array(into.buffer, into.start + into.filled, into.length - into.filled);
  };
  internal.giveBack = (c, view) => { if (c.pending.length > 0) c.pending[0].buffer = typedBuffer(view); };
  internal.respondBytes = respond;
  internal.enqueueBytes = enqueueBytes;
  internal.closeBytes = closeBytes;
  internal.failBytes = failBytes;
});
