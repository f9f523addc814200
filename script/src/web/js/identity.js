// IdentityTransformStream and FixedLengthStream: bytes go through as they are, each write waiting for its reader. A body of the
// host that is piped into one, before anybody looked at either, goes on as the host's: see `pipe.js`.
(function (internal) {
  'use strict';
  const { p, h, natives, writable, enqueueBytes, closeBytes, failBytes, shape } = internal;
  const { TypeError, then, typedLength } = p;
  const { bytesOf, finish, rejected, resolved } = h;

  const IDENTITY = {
    __proto__: null, readable: undefined, writable: undefined, asked: false, written: 0, expected: undefined, waiting: undefined,
    // Made for the first who asks; once a reader has asked, it is resolved.
    get wanted() { return (this.waiting ??= h.lazy()); },
  };
  const READABLE = internal.unmadeBytes(({ identity: t }) => ({
    __proto__: null,
    pull() { t.asked = true; t.wanted.resolve(); return resolved(); },
    cancel(reason) {
      writable.failController(t.writable.controller, reason);
      t.wanted.resolve();
      return resolved();
    },
  }));
  const WRITABLE = writable.unmade((s) => {
    const t = s.identity;
    const c = writable.makeOurs(s, (chunk) => write(t, chunk), () => close(t), (reason) => { failBytes(t.readable.controller, reason); return resolved(); });
    // A write that waits for a reader does not hold up an abort.
    c.onAbort = (reason) => { failBytes(t.readable.controller, reason); t.wanted.resolve(); };
    return c;
  });
  // `expected` is how many bytes must go through, where that is said.
  function connect(expected) {
    const t = { __proto__: IDENTITY, expected };
    t.readable = internal.readable.wrap({ __proto__: READABLE, identity: t, length: expected });
    t.writable = writable.wrap({ __proto__: WRITABLE, identity: t });
    return t;
  }
  function write(t, chunk) {
    const view = typeof chunk === 'string' ? natives.encode(chunk) : bytesOf(chunk);
    if (view === null) return refuse(t, new TypeError('This TransformStream is being used as a byte stream, but received an object of non-ArrayBuffer/ArrayBufferView type on its writable side.'));
    const length = typedLength(view);
    if (length === 0) return resolved();
    t.written += length;
    if (t.expected !== undefined && t.written > t.expected) return refuse(t, new TypeError('Attempt to write too many bytes through a FixedLengthStream.'));
    const bytes = typeof chunk === 'string' ? view : natives.copy(view);
    return then(t.wanted.promise, () => {
      if (t.readable.state !== 'readable') return;
      t.waiting = undefined;
      t.asked = false;
      enqueueBytes(t.readable.controller, bytes);
    });
  }
  function close(t) {
    // It is the reader that hears of what is missing, as in the reference.
    if (t.expected !== undefined && t.written < t.expected) failBytes(t.readable.controller, new TypeError('FixedLengthStream did not see all expected bytes before close().'));
    else closeBytes(t.readable.controller);
    return resolved();
  }
  function refuse(t, error) {
    failBytes(t.readable.controller, error);
    return rejected(error);
  }

  class IdentityTransformStream extends internal.TransformStream {
    constructor() { super(internal.sidesKey, connect(undefined)); }
  }
  finish(IdentityTransformStream, 'IdentityTransformStream');
  shape(IdentityTransformStream, 'IdentityTransformStream', ['readable', 'writable']);

  class FixedLengthStream extends internal.TransformStream {
    constructor(length) {
      const number = p.trunc(typeof length === 'bigint' ? p.Number(length) : +length);
      if (!p.isInteger(number)) throw new TypeError('The value cannot be converted because it is not an integer.');
      if (number < 0) throw new TypeError('The value cannot be converted because it is negative and this API expects a positive bigint.');
      super(internal.sidesKey, connect(number));
    }
  }
  finish(FixedLengthStream, 'FixedLengthStream');
  shape(FixedLengthStream, 'FixedLengthStream', ['readable', 'writable']);
});
