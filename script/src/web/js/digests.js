// DigestStream: what is written to it is added up.
(function (internal) {
  'use strict';
  const { p, h, natives } = internal;
  const { BigInt, TypeError, typedBuffer, typedLength } = p;
  const { bytesOf, finish, illegal, isObject, wrongInit } = h;
  const { native, goOn, digestName } = internal.cryptoKeys;
  const { WritableStream } = internal.classes;
  const CRC = { __proto__: null, crc32: true, crc32c: true, crc64nvme: true };

  let digestOf;
  class DigestStream extends WritableStream {
    #state;
    static { digestOf = (stream) => { if (typeof stream !== 'object' || stream === null || !(#state in stream)) throw illegal(); return stream.#state; }; }
    constructor(algorithm) {
      if (algorithm === undefined || algorithm === null) throw wrongInit('DigestStream', 1, 'string or HashAlgorithm');
      const name = isObject(algorithm) ? `${algorithm.name}` : `${algorithm}`;
      const state = { sum: native.hasher(CRC[name] === true ? name : digestName(name)), bytes: 0, end: h.deferred() };
      super(sinkOf(state));
      h.handled(state.end.promise);
      this.#state = state;
    }
    get digest() { return digestOf(this).end.promise; }
    get bytesWritten() { return BigInt(digestOf(this).bytes); }
  }
  const sinkOf = (state) => ({
    __proto__: null,
    write(chunk) {
      const bytes = typeof chunk === 'string' ? natives.encode(chunk) : bytesOf(chunk);
      if (bytes === null) throw new TypeError('DigestStream is a byte stream but received an object of non-ArrayBuffer/ArrayBufferView/string type on its writable side.');
      state.sum(bytes);
      state.bytes += typedLength(bytes);
      goOn();
    },
    close() { state.end.resolve(typedBuffer(state.sum())); },
    abort(reason) { state.end.reject(reason); },
  });
  finish(DigestStream, 'DigestStream');
  delete internal.classes.DigestStream;
  internal.shape(DigestStream, 'DigestStream', ['digest', 'bytesWritten', 'locked']);
  internal.DigestStream = DigestStream;
});
