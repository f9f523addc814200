// What Request and Response have in common: a body, which is nothing, bytes, or a stream.
(function (internal) {
  'use strict';
  const { p, h, host, natives, readable } = internal;
  const { Uint8Array, TypeError, arrayIndexOf, jsonParse, stringIndexOf, stringSlice, stringTrim, then, typedBuffer, typedLength } = p;
  const { bytesOf, finish, handled, illegal, rejected, resolved, sub } = h;
  // As much as crosses with the head of a message, in bytes: more flows as a body of its own.
  const INLINE = 65536;
  // One write of such a body, in bytes.
  const PIECE = 65536;

  const used = () => new TypeError('Body has already been used. It can only be used once. Use tee() first if you need to read it twice.');
  const notBytes = () => new TypeError('This ReadableStream did not return bytes.');

  const RECORD = { __proto__: null, bytes: undefined, stream: undefined, used: false };
  const record = (bytes, stream) => ({ __proto__: RECORD, bytes, stream });
  const nothing = () => ({ __proto__: RECORD });
  const isNull = (body) => body.bytes === undefined && body.stream === undefined;
  const disturbed = (body) => body.used || (body.stream !== undefined && body.stream.disturbed);

  const textOf = p.uncurry(p.String.prototype.valueOf);
  const isText = (value) => { try { textOf(value); return true; } catch { return false; } };
  // A value as a body: { body, type }, its media type null where it has none.
  function extract(value) {
    if (value === null || value === undefined) return { body: record(undefined, undefined), type: null };
    if (typeof value === 'string') return { body: record(natives.encode(value), undefined), type: 'text/plain;charset=UTF-8' };
    const bytes = bytesOf(value);
    if (bytes !== null) return { body: record(natives.copy(bytes), undefined), type: null };
    if (internal.isReadable(value)) {
      const stream = readable.stateOf(value);
      if (stream.disturbed) throw new TypeError('This ReadableStream is disturbed (has already been read from), and cannot be used as a body.');
      if (stream.reader !== undefined) throw new TypeError('This ReadableStream is locked to a reader, and cannot be used as a body.');
      return { body: record(undefined, stream), type: null };
    }
    if (internal.isBlob(value)) return { body: record(internal.blobBytes(value), undefined), type: internal.blobType(value) || null };
    if (internal.isParams(value)) return { body: record(natives.encode(`${value}`), undefined), type: 'application/x-www-form-urlencoded;charset=UTF-8' };
    if (internal.isForm(value)) {
      const form = internal.writeForm(value);
      return { body: record(form.bytes, undefined), type: form.type };
    }
    // What can be iterated over flows.
    if (typeof value === 'object' && !isText(value) && (value[p.symbolAsyncIterator] ?? value[p.symbolIterator]) !== undefined)
      return { body: record(undefined, readable.stateOf(internal.streamFrom(value))), type: null };
    return { body: record(natives.encode(`${value}`), undefined), type: 'text/plain;charset=UTF-8' };
  }

  function streamOf(body) {
    if (body.stream !== undefined) return body.stream;
    if (body.bytes === undefined) return null;
    body.stream = internal.bytesStream(body.bytes);
    if (body.used) spend(body.stream);
    return body.stream;
  }
  // Ends the stream as one that was read.
  function spend(stream) {
    handled(readable.cancel(stream, undefined));
    readable.acquire(stream);
  }
  function checkUsable(body) {
    if (disturbed(body)) throw used();
    if (body.stream !== undefined && body.stream.reader !== undefined) throw readable.locked();
  }
  // The bytes, where all are there; the body is used then.
  function takeBytes(body) {
    if (body.stream === undefined) { body.used = true; return body.bytes; }
    const { bytes } = body.stream;
    if (bytes !== undefined) { spend(body.stream); body.used = true; }
    return bytes;
  }
  // Within an object that asks no prototype for a method `then`.
  function consume(body) {
    if (isNull(body)) return resolved({ __proto__: null, bytes: new Uint8Array(0) });
    try { checkUsable(body); } catch (error) { return rejected(error); }
    const bytes = takeBytes(body);
    return bytes !== undefined ? resolved({ __proto__: null, bytes }) : readAll(body.stream);
  }
  async function readAll(stream) {
    const reader = readable.acquire(stream);
    const parts = [];
    for (;;) {
      const result = await readable.readQuietly(reader);
      if (result.done) return { __proto__: null, bytes: parts.length === 1 ? parts[0] : natives.concat(parts) };
      const bytes = bytesOf(result.value);
      if (bytes === null) {
        const error = notBytes();
        handled(readable.cancel(stream, error));
        throw error;
      }
      parts[parts.length] = bytes;
    }
  }
  function clone(body) {
    if (isNull(body)) return nothing();
    if (disturbed(body)) throw readable.notTeed();
    if (body.stream === undefined) return record(body.bytes, undefined);
    const branches = readable.tee(body.stream);
    body.stream = branches[0];
    body.bytes = undefined;
    return record(undefined, branches[1]);
  }

  // The body as one of another owner's; for its own it is used.
  function move(body) {
    const taken = record(body.bytes, undefined);
    if (body.stream !== undefined) { taken.stream = moveStream(body.stream); taken.bytes = undefined; }
    body.used = true;
    return taken;
  }
  function moveStream(stream) {
    const { bytes, length } = stream;
    if (bytes !== undefined && !stream.disturbed) { spend(stream); return internal.bytesStream(bytes); }
    if (stream.host !== undefined && !stream.disturbed && stream.state === 'readable') {
      const held = stream.host;
      stream.host = undefined;
      stream.disturbed = true;
      readable.acquire(stream);
      return internal.streamOfHeld(held);
    }
    const reader = readable.acquire(stream);
    const byte = stream.controller.byob !== undefined;
    stream.disturbed = true;
    const pull = async () => {
      const result = await readable.readQuietly(reader);
      if (result.done) (byte ? internal.closeBytes : readable.closeController)(moved.controller);
      else (byte ? internal.enqueueBytes : readable.enqueue)(moved.controller, result.value);
    };
    const cancelling = (reason) => readable.cancel(stream, reason);
    const moved = byte ? internal.makeByteStream(pull, cancelling) : readable.makeStream(h.noop, pull, cancelling, 0);
    moved.length = length;
    return moved;
  }

  // ---- On its way to the host ----

  // null, a Uint8Array, { host, length } or { script, length }; the body is used then.
  function send(body) {
    if (isNull(body)) return null;
    checkUsable(body);
    const bytes = takeBytes(body);
    if (bytes !== undefined) return typedLength(bytes) <= INLINE ? bytes : sendBytes(bytes);
    const held = internal.takeHost(body.stream);
    body.used = true;
    if (held !== undefined) return { __proto__: null, host: held.id, length: held.length };
    const id = host.bodyNew();
    handled(pump(body.stream, id));
    return { __proto__: null, script: id, length: body.stream.length };
  }
  function sendBytes(bytes) {
    const id = host.bodyNew();
    handled(then(write(id, bytes), () => host.bodyEnd(id), () => {}));
    return { __proto__: null, script: id, length: typedLength(bytes) };
  }
  async function write(id, bytes) {
    const length = typedLength(bytes);
    for (let from = 0; from < length; from += PIECE) await host.bodyWrite(id, length <= PIECE ? bytes : sub(bytes, from, p.min(from + PIECE, length)));
  }
  async function pump(stream, id) {
    const reader = readable.acquire(stream);
    for (;;) {
      let result;
      try { result = await readable.readQuietly(reader); } catch (error) { host.bodyFail(id, internal.reasonText(error)); return; }
      if (result.done) { host.bodyEnd(id); return; }
      const bytes = bytesOf(result.value);
      if (bytes === null) {
        const error = notBytes();
        handled(readable.cancel(stream, error));
        host.bodyFail(id, error.message);
        return;
      }
      // The other side wants no more.
      try { await write(id, bytes); } catch (error) { handled(readable.cancel(stream, error)); return; }
    }
  }

  // What the host gave as a body.
  function receive(given) {
    if (given === null || given === undefined) return nothing();
    const bytes = bytesOf(given);
    return bytes !== null ? record(bytes, undefined) : record(undefined, internal.hostStream(given.host, given.length));
  }

  const key = {};
  let partsOf;
  class Body {
    // What the owner is inside: { kind, body, headers } and what else it has.
    #parts;
    static {
      partsOf = (owner) => { if (typeof owner !== 'object' || owner === null || !(#parts in owner)) throw illegal(); return owner.#parts; };
      internal.bodyOwner = (kind) => ({
        __proto__: null,
        is: (value) => typeof value === 'object' && value !== null && #parts in value && value.#parts.kind === kind,
        stateOf(value) {
          if (typeof value !== 'object' || value === null || !(#parts in value) || value.#parts.kind !== kind) throw illegal();
          return value.#parts;
        },
      });
    }
    constructor(secret, parts) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#parts = parts; }
    get body() { const stream = streamOf(partsOf(this).body); return stream === null ? null : stream.object; }
    get bodyUsed() { return disturbed(partsOf(this).body); }
    arrayBuffer() { return read(this, (bytes) => typedBuffer(natives.copy(bytes))); }
    bytes() { return read(this, (bytes) => natives.copy(bytes)); }
    text() { return read(this, (bytes) => natives.decode(bytes)); }
    json() { return read(this, (bytes) => jsonParse(natives.decode(bytes))); }
    formData() { return read(this, (bytes, type) => internal.readForm(bytes, type)); }
    blob() {
      return read(this, (bytes, type) => internal.makeBlob(natives.copy(bytes), type === null ? '' : typeText(type)));
    }
  }

  // ---- Media types ----

  // The pieces of a text between marks that stand outside of quotes.
  function pieces(text, mark) {
    const list = [];
    let from = 0;
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
      if (quoted && text[i] === '\\') i++;
      else if (text[i] === '"') quoted = !quoted;
      else if (text[i] === mark && !quoted) { list[list.length] = stringSlice(text, from, i); from = i + 1; }
    }
    list[list.length] = stringSlice(text, from);
    return list;
  }
  function unquoted(text) {
    let value = '';
    for (let i = 1; i < text.length && text[i] !== '"'; i++) value += text[i] === '\\' && i + 1 < text.length ? text[++i] : text[i];
    return value;
  }
  // A type as { essence, names, values }; undefined if it is none.
  function parseType(text) {
    const parts = pieces(text, ';');
    const essence = natives.asciiLower(stringTrim(parts[0]));
    const slash = stringIndexOf(essence, '/');
    if (slash < 0 || !natives.isToken(stringSlice(essence, 0, slash)) || !natives.isToken(stringSlice(essence, slash + 1))) return undefined;
    const type = { essence, names: [], values: [] };
    for (let i = 1; i < parts.length; i++) {
      const at = stringIndexOf(parts[i], '=');
      const name = natives.asciiLower(stringTrim(stringSlice(parts[i], 0, p.max(at, 0))));
      const given = stringSlice(parts[i], at + 1);
      const value = given[0] === '"' ? unquoted(given) : stringTrim(given);
      if (at < 0 || !natives.isToken(name) || (value === '' && given[0] !== '"') || arrayIndexOf(type.names, name) >= 0) continue;
      type.names[type.names.length] = name;
      type.values[type.values.length] = value;
    }
    return type;
  }
  // Of several, the last counts; it has the charset of one of the same essence before it where it has none.
  function lastType(text) {
    const given = pieces(text, ',');
    let last;
    for (let i = 0; i < given.length; i++) {
      const type = parseType(given[i]);
      if (type === undefined || type.essence === '*/*') continue;
      const charset = last !== undefined && last.essence === type.essence ? arrayIndexOf(last.names, 'charset') : -1;
      if (charset >= 0 && arrayIndexOf(type.names, 'charset') < 0) {
        type.names[type.names.length] = 'charset';
        type.values[type.values.length] = last.values[charset];
      }
      last = type;
    }
    return last;
  }
  function quote(text) {
    let quoted = '"';
    for (let i = 0; i < text.length; i++) quoted += text[i] === '"' || text[i] === '\\' ? `\\${text[i]}` : text[i];
    return `${quoted}"`;
  }
  // As it is written; nothing if there is none.
  function typeText(text) {
    const type = lastType(text);
    if (type === undefined) return '';
    let written = type.essence;
    for (let i = 0; i < type.names.length; i++) {
      const value = type.values[i];
      written += `;${type.names[i]}=${natives.isToken(value) ? value : quote(value)}`;
    }
    return written;
  }
  function read(owner, convert) {
    try {
      const parts = partsOf(owner);
      return then(consume(parts.body), ({ bytes }) => convert(bytes, internal.headers.get(parts.headers, 'content-type')));
    } catch (error) { return rejected(error); }
  }
  finish(Body, 'Body');
  delete internal.classes.Body;
  internal.Body = Body;
  internal.typeText = typeText;
  internal.bodies = { __proto__: null, key, extract, clone, move, send, receive, isNull, disturbed, record, nothing, checkUsable, used };
});
