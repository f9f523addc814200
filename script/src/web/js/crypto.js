// crypto: random values; `subtle` is in a file of its own.
(function (internal) {
  'use strict';
  const { p, h, dom, host } = internal;
  const { Uint8Array, typedBytes, typedBuffer, typedOffset, viewName, isView, numberToString, stringPadStart } = p;
  const QUOTA = 65536;

  class Crypto {
    get subtle() { return internal.subtle; }
    getRandomValues(view) {
      if (!isView(view)) throw h.wrongArgument('Crypto', 'getRandomValues', 1, 'ArrayBufferView');
      const name = viewName(view);
      if (name === undefined || p.stringStartsWith(name, 'Float')) throw dom('TypeMismatchError', 'ArrayBufferView argument to getRandomValues() must be an integer-typed view.');
      if (typedBytes(view) > QUOTA) throw dom('QuotaExceededError', `getRandomValues() only accepts buffers of size <= 64K but provided ${typedBytes(view)} bytes.`);
      internal.inEvent();
      host.random(new Uint8Array(typedBuffer(view), typedOffset(view), typedBytes(view)));
      return view;
    }
    randomUUID() {
      internal.inEvent();
      const bytes = new Uint8Array(16);
      host.random(bytes);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      let text = '';
      for (let i = 0; i < 16; i++) text += (i === 4 || i === 6 || i === 8 || i === 10 ? '-' : '') + stringPadStart(numberToString(bytes[i], 16), 2, '0');
      return text;
    }
    get DigestStream() { return internal.DigestStream; }
  }
  h.finish(Crypto, 'Crypto');
  internal.shape(Crypto, 'Crypto', ['subtle']);
  internal.globals.crypto = new Crypto();
  // Hexadecimal digits for boundaries of forms; random where that is allowed.
  internal.hex = (count) => {
    const bytes = new Uint8Array(count);
    if (internal.event() !== null) host.random(bytes);
    let text = '';
    for (let i = 0; i < count; i++) text += stringPadStart(numberToString(bytes[i], 16), 2, '0');
    return text;
  };
});
