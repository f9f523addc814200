// TextEncoder, TextDecoder, and base64 with the reference's texts.
(function (internal) {
  'use strict';
  const { p, h, dom, natives, shape } = internal;
  const { bytesOf, finish, illegal, wrongArgument, member, isObject } = h;
  const { viewName, Uint8Array, TypeError, RangeError } = p;
  const none = new Uint8Array(0);

  class TextEncoder {
    get encoding() { return 'utf-8'; }
    encode(input = '') { return natives.encode(`${input}`); }
    encodeInto(input, to) {
      if (arguments.length === 0) throw wrongArgument('TextEncoder', 'encodeInto', 1, 'String');
      if (!p.isView(to) || viewName(to) !== 'Uint8Array') throw wrongArgument('TextEncoder', 'encodeInto', 2, 'Uint8Array');
      const counts = natives.encodeInto(`${input}`, to);
      return { read: counts[0], written: counts[1] };
    }
  }
  finish(TextEncoder, 'TextEncoder');
  shape(TextEncoder, 'TextEncoder', ['encoding']);

  let decoderOf;
  class TextDecoder {
    #state;
    static { decoderOf = (decoder) => { if (typeof decoder !== 'object' || decoder === null || !(#state in decoder)) throw illegal(); return decoder.#state; }; }
    constructor(label = 'utf-8', options = undefined) {
      label = `${label}`;
      if (options !== undefined && !isObject(options)) throw h.wrongInit('TextDecoder', 2, 'ConstructorOptions');
      const encoding = natives.encoding(label);
      if (encoding === null || encoding === undefined) throw new RangeError(`"${label}" is not a valid encoding.`);
      const fatal = !!member(options, 'fatal');
      const ignoreBOM = !!member(options, 'ignoreBOM');
      this.#state = { __proto__: null, encoding, fatal, ignoreBOM, run: undefined };
    }
    get encoding() { return decoderOf(this).encoding; }
    get fatal() { return decoderOf(this).fatal; }
    get ignoreBOM() { return decoderOf(this).ignoreBOM; }
    decode(input = none, options = undefined) {
      const state = decoderOf(this);
      const bytes = bytesOf(input);
      if (bytes === null) throw wrongArgument('TextDecoder', 'decode', 1, 'Array');
      if (options !== undefined && !isObject(options)) throw wrongArgument('TextDecoder', 'decode', 2, 'DecodeOptions');
      const last = !member(options, 'stream');
      if (last && state.run === undefined && state.encoding === 'utf-8' && !state.fatal && !state.ignoreBOM) return natives.decode(bytes);
      state.run ??= natives.decoder(state.encoding, state.fatal, state.ignoreBOM);
      const text = state.run(bytes, last);
      if (text === null || text === undefined) throw new TypeError('Failed to decode input.');
      return text;
    }
  }
  finish(TextDecoder, 'TextDecoder');
  shape(TextDecoder, 'TextDecoder', ['encoding', 'fatal', 'ignoreBOM']);

  const { atob, btoa } = globalThis;
  internal.globals.atob = function (text) {
    if (arguments.length < 1) throw wrongArgument('ServiceWorkerGlobalScope', 'atob', 1, 'string');
    text = `${text}`;
    try { return atob(text); } catch {
      throw dom('InvalidCharacterError', "atob() called with invalid base64-encoded data. (Only whitespace, '+', '/', alphanumeric ASCII, and up to two terminal '=' signs when the input data length is divisible by 4 are allowed.)");
    }
  };
  internal.globals.btoa = function (text) {
    if (arguments.length < 1) throw wrongArgument('ServiceWorkerGlobalScope', 'btoa', 1, 'string');
    text = `${text}`;
    try { return btoa(text); } catch { throw dom('InvalidCharacterError', 'btoa() can only operate on characters in the Latin1 (ISO/IEC 8859-1) range.'); }
  };
  for (const name of ['atob', 'btoa']) p.defineProperty(internal.globals[name], 'name', { value: name, configurable: true });
});
