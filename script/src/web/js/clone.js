// structuredClone, and the tools that the Rust side of it needs.
(function (internal) {
  'use strict';
  const { p, h, dom, natives } = internal;
  const {
    DataView, Date, Error, Map, RegExp, Set, Symbol, TypeError, arraySlice, BigInt, bigintToString, bufferDetached, bufferLength, bufferTransfer, dataBuffer, dataLength, dataOffset,
    dateTime, defineProperty, functionToString, getOwnPropertyDescriptor, getPrototypeOf, hasOwn, isArray, isEnumerable, mapForEach, mapPut, Object, regexpFlags, regexpSource, setAdd, setForEach,
    symbolToString, typedBuffer, typedLength, typedOffset, Uint8Array, viewName, views,
  } = p;
  const refused = (text) => { throw dom('DataCloneError', text); };
  const kinds = { __proto__: null, Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };
  const valueOf = { __proto__: null };
  for (const Class of [Number, String, Boolean, BigInt]) valueOf[Class.name] = p.uncurry(Class.prototype.valueOf);
  const domName = p.uncurry(getOwnPropertyDescriptor(internal.DOMException.prototype, 'name').get);
  const domMessage = p.uncurry(getOwnPropertyDescriptor(internal.DOMException.prototype, 'message').get);
  const className = (object) => {
    for (let proto = getPrototypeOf(object); proto !== null; proto = getPrototypeOf(proto)) {
      if (proto === p.Promise.prototype) return 'Promise';
      const own = getOwnPropertyDescriptor(proto, 'constructor');
      if (own !== undefined && typeof own.value === 'function') return own.value.name;
    }
    return 'Object';
  };
  // How the reference names what it refuses.
  function look(object) {
    const name = className(object);
    const tag = p.objectToString(object);
    return (name === 'Object' && tag !== '[object Arguments]' && tag !== '[object Object]') || name === 'Symbol' ? tag : `#<${name}>`;
  }
  const ownString = (object, key) => {
    const own = getOwnPropertyDescriptor(object, key);
    return own !== undefined && hasOwn(own, 'value') && own.value !== undefined ? [`${own.value}`] : [];
  };
  const hide = (object, key, value) => { defineProperty(object, key, { __proto__: null, value, writable: true, enumerable: false, configurable: true }); };

  const tools = {
    __proto__: null,
    samples: {
      plain: [{}], array: [[]], date: [new Date(0)], regexp: [/x/], map: [new Map()], set: [new Set()],
      buffer: [new ArrayBuffer(0)], view: [], error: [new Error()], dom: [dom('', '')], boxed: [Object(0), Object(''), Object(true), Object(0n)],
    },
    fail: refused,
    refuse(value) {
      if (typeof value === 'function') refused(`${functionToString(value)} could not be cloned.`);
      if (typeof value === 'symbol') refused(`${symbolToString(value)} could not be cloned.`);
      refused(`${natives.isProxy(value) ? '#<Object>' : look(value)} could not be cloned.`);
    },
    // The type and the bytes of a Blob; nothing of a plain object.
    plain(object) {
      const name = internal.platform(object);
      if (name === 'Blob' && internal.isBlob(object)) return [internal.blobType(object), internal.blobBytes(object)];
      if (object === globalThis) refused('#<ServiceWorkerGlobalScope> could not be cloned.');
      if (name === 'ReadableStream' || name === 'WritableStream') refused(`${name} can only be serialized for RPC.`);
      if (name !== undefined) refused(`Could not serialize object of type "${name}". This type does not support serialization.`);
    },
    owns: (object, key) => hasOwn(object, key),
    digits: (value) => bigintToString(value, 16),
    time: (date) => dateTime(date),
    regexp: (value) => [regexpSource(value), regexpFlags(value)],
    exception: (value) => [domMessage(value), domName(value), p.stackOf(value) ?? ''],
    unbox(object) {
      for (const kind in valueOf) try { return valueOf[kind](object); } catch {}
      return refused('#<Object> could not be cloned.');
    },
    list(collection) {
      const list = [];
      try { mapForEach(collection, (value, key) => { list[list.length] = key; list[list.length] = value; }); } catch { setForEach(collection, (value) => { list[list.length] = value; }); }
      return list;
    },
    bytes(buffer) {
      if (bufferDetached(buffer)) refused('An ArrayBuffer is detached and could not be cloned.');
      return new Uint8Array(buffer);
    },
    view(value) {
      const name = viewName(value);
      if (name === undefined) return { name: 'DataView', buffer: dataBuffer(value), start: dataOffset(value), length: dataLength(value) };
      return { name, buffer: typedBuffer(value), start: typedOffset(value), length: typedLength(value) };
    },
    error(error) {
      const name = `${error.name}`;
      const cause = getOwnPropertyDescriptor(error, 'cause');
      const stack = p.stackOf(error);
      return [kinds[name] === undefined ? 'Error' : name, ownString(error, 'message'), stack === undefined ? [] : [stack],
        cause !== undefined && hasOwn(cause, 'value') && !cause.enumerable ? [cause.value] : []];
    },
    bigint: (digits, negative) => (negative ? -BigInt(`0x${digits}`) : BigInt(`0x${digits}`)),
    date: (time) => new Date(time),
    regexpOf: (parts) => new RegExp(parts[0], parts[1]),
    map: () => new Map(), put: (map, key, value) => { mapPut(map, key, value); },
    set: () => new Set(), add: (set, value) => { setAdd(set, value); },
    viewOf(name, buffer, start, length) {
      try { return new views[name](buffer, start, length); } catch { return null; }
    },
    blobOf: (type, bytes) => internal.makeBlob(bytes, type),
    errorOf(name) {
      const error = new (kinds[name] ?? Error)();
      hide(error, 'stack', '');
      return error;
    },
    exceptionOf(parts) {
      const error = dom(parts[1], parts[0]);
      if (parts[2] !== '') hide(error, 'stack', parts[2]);
      return error;
    },
    hide,
    box: (parts) => Object(parts[0]),
    define(object, key, value) { defineProperty(object, key, { __proto__: null, value, writable: true, enumerable: true, configurable: true }); },
    extend(array, length) { array.length = length; },
  };
  for (const name of p.objectKeys(views)) tools.samples.view[tools.samples.view.length] = new views[name](new ArrayBuffer(8));
  const [serialize, deserialize] = natives.cloner(tools);
  internal.serialize = (value) => serialize(tools, value);
  internal.deserialize = (bytes) => deserialize(tools, bytes);
  internal.dispatch.serialize = internal.serialize;
  internal.dispatch.deserialize = internal.deserialize;

  function transferList(options) {
    if (options === undefined || options === null) return [];
    if (!h.isObject(options)) throw h.wrongArgument('ServiceWorkerGlobalScope', 'structuredClone', 2, 'StructuredCloneOptions');
    const given = options.transfer;
    const list = [];
    if (given === undefined) return list;
    if (!isArray(given)) throw new TypeError("Incorrect type for the 'transfer' field on 'StructuredCloneOptions': the provided value is not of type 'Array'.");
    for (let i = 0; i < given.length; i++) {
      // A view stands for its buffer.
      const buffer = p.isView(given[i]) ? tools.view(given[i]).buffer : given[i];
      try { bufferLength(buffer); } catch { throw new TypeError('Object is not transferable'); }
      list[list.length] = buffer;
    }
    return list;
  }
  internal.globals.structuredClone = function structuredClone(value, options = undefined) {
    if (arguments.length < 1) throw h.wrongArgument('ServiceWorkerGlobalScope', 'structuredClone', 1, 'Value');
    const list = transferList(options);
    const copy = internal.deserialize(internal.serialize(value));
    for (let i = 0; i < list.length; i++) if (!bufferDetached(list[i])) bufferTransfer(list[i]);
    return copy;
  };
});
