// TransformStream, and the transforms between text and bytes.
(function (internal) {
  'use strict';
  const { p, h, natives, readable, writable, shape } = internal;
  const { RangeError, TypeError, then } = p;
  const { bytesOf, deferred, finish, illegal, noop, rejected, resolved, member } = h;
  const key = {};

  let sidesOf;
  class TransformStream {
    #sides;
    static { sidesOf = (stream) => { if (typeof stream !== 'object' || stream === null || !(#sides in stream)) throw illegal(); return stream.#sides; }; }
    constructor(transformer = undefined, writing = undefined, reading = undefined) {
      if (transformer === key) { this.#sides = writing; return; }
      transformer ??= {};
      if (transformer.readableType !== undefined || transformer.writableType !== undefined) throw new RangeError('The types of a transformer must not be given.');
      this.#sides = connect(transformer, writing, reading);
    }
    get readable() { return sidesOf(this).readable.object; }
    get writable() { return sidesOf(this).writable.object; }
  }
  finish(TransformStream, 'TransformStream');
  shape(TransformStream, 'TransformStream', ['readable', 'writable']);
  internal.TransformStream = TransformStream;
  internal.sidesKey = key;

  function connect(transformer, writing, reading) {
    const t = { readable: undefined, writable: undefined, pressure: undefined, changed: undefined, transform: undefined, flush: undefined, cancel: undefined, finishing: undefined };
    const controller = new TransformStreamDefaultController(key, t);
    const start = transformer.start;
    const transform = internal.method(transformer, 'transform', 'Transformer');
    const flush = internal.method(transformer, 'flush', 'Transformer');
    const cancelling = internal.method(transformer, 'cancel', 'Transformer');
    t.transform = transform === undefined ? (chunk) => { try { enqueue(t, chunk); return resolved(); } catch (error) { return rejected(error); } } : (chunk) => transform(chunk, controller);
    t.flush = flush === undefined ? () => resolved() : () => flush(controller);
    t.cancel = cancelling === undefined ? () => resolved() : (reason) => cancelling(reason);
    const started = deferred();
    // What is done to either side before it has begun comes first.
    const begun = then(started.promise, noop);
    const write = internal.strategyOf(writing, 1);
    const read = internal.strategyOf(reading, 0);
    t.writable = writable.makeWritable(() => begun, (chunk) => sinkWrite(t, chunk), () => sinkClose(t), (reason) => sinkAbort(t, reason), write.mark, write.size ?? (() => 1));
    t.readable = readable.makeStream(() => begun, () => { setPressure(t, false); return t.changed.promise; }, (reason) => sourceCancel(t, reason), read.mark);
    if (read.size !== undefined) t.readable.controller.size = read.size;
    setPressure(t, true);
    if (start === undefined) started.resolve();
    else then(h.attempt(() => p.apply(start, transformer, [controller])), () => started.resolve(), started.reject);
    return t;
  }
  function setPressure(t, pressure) {
    if (t.changed !== undefined) t.changed.resolve();
    t.changed = deferred();
    t.pressure = pressure;
  }
  function fail(t, error) {
    readable.failController(t.readable.controller, error);
    failWritable(t, error);
  }
  function failWritable(t, error) {
    t.transform = t.flush = t.cancel = () => resolved();
    writable.failController(t.writable.controller, error);
    if (t.pressure) setPressure(t, false);
  }
  function enqueue(t, chunk) {
    const c = t.readable.controller;
    if (!readable.open(c)) throw new TypeError('Unable to enqueue: the readable side of the TransformStream has been closed or has failed.');
    try { readable.enqueue(c, chunk); } catch (error) {
      failWritable(t, error);
      throw t.readable.stored;
    }
    const waiting = t.readable.reader !== undefined && t.readable.reader.requests.length > 0;
    const pressure = !waiting && readable.desired(c) <= 0;
    if (pressure !== t.pressure) setPressure(t, true);
  }
  function perform(t, chunk) {
    return then(t.transform(chunk), undefined, (error) => { fail(t, error); throw error; });
  }
  function sinkWrite(t, chunk) {
    if (!t.pressure) return perform(t, chunk);
    const written = deferred();
    then(t.changed.promise, () => {
      if (t.writable.state === 'erroring') written.reject(t.writable.stored);
      else then(perform(t, chunk), () => written.resolve(), written.reject);
    });
    return written.promise;
  }
  function sinkAbort(t, reason) {
    if (t.finishing !== undefined) return t.finishing.promise;
    t.finishing = deferred();
    then(t.cancel(reason), () => {
      if (t.readable.state === 'errored') t.finishing.reject(t.readable.stored);
      else { readable.failController(t.readable.controller, reason); t.finishing.resolve(); }
    }, (error) => { readable.failController(t.readable.controller, error); t.finishing.reject(error); });
    return t.finishing.promise;
  }
  function sinkClose(t) {
    if (t.finishing !== undefined) return t.finishing.promise;
    t.finishing = deferred();
    then(t.flush(), () => {
      if (t.readable.state === 'errored') t.finishing.reject(t.readable.stored);
      else { readable.closeController(t.readable.controller); t.finishing.resolve(); }
    }, (error) => { readable.failController(t.readable.controller, error); t.finishing.reject(error); });
    return t.finishing.promise;
  }
  function sourceCancel(t, reason) {
    if (t.finishing !== undefined) return t.finishing.promise;
    t.finishing = deferred();
    then(t.cancel(reason), () => {
      if (t.writable.state === 'errored') t.finishing.reject(t.writable.stored);
      else { failWritable(t, reason); t.finishing.resolve(); }
    }, (error) => { failWritable(t, error); t.finishing.reject(error); });
    return t.finishing.promise;
  }

  let controllerOf;
  class TransformStreamDefaultController {
    #transform;
    static { controllerOf = (c) => { if (typeof c !== 'object' || c === null || !(#transform in c)) throw illegal(); return c.#transform; }; }
    constructor(secret, t) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#transform = t; }
    get desiredSize() { return readable.desired(controllerOf(this).readable.controller); }
    enqueue(chunk = undefined) { enqueue(controllerOf(this), chunk); }
    error(reason = undefined) { fail(controllerOf(this), reason); }
    terminate() {
      const t = controllerOf(this);
      readable.closeController(t.readable.controller);
      failWritable(t, new TypeError('The transform stream has been terminated'));
    }
  }
  finish(TransformStreamDefaultController, 'TransformStreamDefaultController');

  class TextDecoderStream extends TransformStream {
    #decoder;
    constructor(label = 'utf-8', options = undefined) {
      const decoder = new internal.classes.TextDecoder(label, options);
      const run = natives.decoder(decoder.encoding, decoder.fatal, decoder.ignoreBOM);
      const part = (bytes, last, controller) => {
        const text = run(bytes, last);
        if (text === null || text === undefined) throw new TypeError('Failed to decode input.');
        if (text !== '') controller.enqueue(text);
      };
      super({
        __proto__: null,
        transform(chunk, controller) {
          const bytes = bytesOf(chunk);
          if (bytes === null) throw new TypeError('This TransformStream is being used as a byte stream, but received an object of non-ArrayBuffer/ArrayBufferView type on its writable side.');
          part(bytes, false, controller);
        },
        flush(controller) { part(new p.Uint8Array(0), true, controller); },
      });
      this.#decoder = decoder;
    }
    get encoding() { return this.#decoder.encoding; }
    get fatal() { return this.#decoder.fatal; }
    get ignoreBOM() { return this.#decoder.ignoreBOM; }
  }
  finish(TextDecoderStream, 'TextDecoderStream');

  class TextEncoderStream extends TransformStream {
    constructor() {
      // The first half of a pair waits for the second.
      let half = '';
      super({
        __proto__: null,
        transform(chunk, controller) {
          let text = half + `${chunk}`;
          half = '';
          const last = text.length > 0 ? p.stringCharCodeAt(text, text.length - 1) : 0;
          if (last >= 0xd800 && last < 0xdc00) { half = text[text.length - 1]; text = p.stringSlice(text, 0, -1); }
          if (text !== '') controller.enqueue(natives.encode(text));
        },
        flush(controller) { if (half !== '') controller.enqueue(natives.encode(half)); },
      });
    }
    get encoding() { return 'utf-8'; }
  }
  finish(TextEncoderStream, 'TextEncoderStream');
});
