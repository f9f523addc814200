// Copies of what the web classes use of the engine, taken before any user code runs, and the helpers that all parts share.
(function (internal) {
  'use strict';
  const { defineProperty, getOwnPropertyDescriptor, getPrototypeOf, setPrototypeOf, freeze, getOwnPropertyNames } = Object;
  const { apply, construct, ownKeys } = Reflect;
  const { bind, call } = Function.prototype;
  // uncurry(f)(self, a, b) is f.call(self, a, b), and needs no property of f to say so.
  const uncurry = bind.bind(call);
  const getter = (proto, key) => uncurry(getOwnPropertyDescriptor(proto, key).get);

  const primordials = {
    __proto__: null,
    defineProperty, getOwnPropertyDescriptor, getPrototypeOf, setPrototypeOf, freeze, getOwnPropertyNames, apply, construct, ownKeys, uncurry,
    objectKeys: Object.keys, isArray: Array.isArray, Promise, Symbol, ArrayBuffer, DataView, Uint8Array, Map, Set, Date, RegExp,
    Error, TypeError, RangeError, SyntaxError, EvalError, BigInt, Number, String, Boolean, Object, Proxy,
    hasOwn: Object.hasOwn, is: Object.is, symbolIterator: Symbol.iterator, symbolAsyncIterator: Symbol.asyncIterator,
    jsonParse: JSON.parse, jsonStringify: JSON.stringify, floor: Math.floor, min: Math.min, max: Math.max, trunc: Math.trunc, sqrt: Math.sqrt, round: Math.round,
    now: Date.now, isInteger: Number.isInteger, isSafeInteger: Number.isSafeInteger, parseFloat, parseInt, isNaN: Number.isNaN,
    then: uncurry(Promise.prototype.then),
    functionToString: uncurry(Function.prototype.toString), hasInstance: uncurry(Function.prototype[Symbol.hasInstance]),
    objectToString: uncurry(Object.prototype.toString), isEnumerable: uncurry(Object.prototype.propertyIsEnumerable),
    errorToString: uncurry(Error.prototype.toString), numberToString: uncurry(Number.prototype.toString),
    bigintToString: uncurry(BigInt.prototype.toString), symbolToString: uncurry(Symbol.prototype.toString),
    symbolDescription: getter(Symbol.prototype, 'description'),
    dateTime: uncurry(Date.prototype.getTime), dateToISO: uncurry(Date.prototype.toISOString),
    regexpExec: uncurry(RegExp.prototype.exec), regexpSource: getter(RegExp.prototype, 'source'),
    mapForEach: uncurry(Map.prototype.forEach), mapGet: uncurry(Map.prototype.get), mapPut: uncurry(Map.prototype.set), mapSize: getter(Map.prototype, 'size'),
    setForEach: uncurry(Set.prototype.forEach), setAdd: uncurry(Set.prototype.add), setSize: getter(Set.prototype, 'size'),
    bufferLength: getter(ArrayBuffer.prototype, 'byteLength'), bufferSlice: uncurry(ArrayBuffer.prototype.slice),
    bufferTransfer: uncurry(ArrayBuffer.prototype.transfer), bufferDetached: getter(ArrayBuffer.prototype, 'detached'),
    isView: ArrayBuffer.isView,
    dataBuffer: getter(DataView.prototype, 'buffer'), dataOffset: getter(DataView.prototype, 'byteOffset'), dataLength: getter(DataView.prototype, 'byteLength'),
    arrayJoin: uncurry(Array.prototype.join),
    arraySort: uncurry(Array.prototype.sort), arrayShift: uncurry(Array.prototype.shift), arrayIndexOf: uncurry(Array.prototype.indexOf),
  };
  // Parts of lists, by hand: the engine's methods ask the list what class to make.
  primordials.arraySlice = (list, from = 0, to = list.length) => {
    const part = [];
    for (let i = from; i < to; i++) part[i - from] = list[i];
    return part;
  };
  primordials.arrayConcat = (one, other) => {
    const whole = primordials.arraySlice(one);
    for (let i = 0; i < other.length; i++) whole[whole.length] = other[i];
    return whole;
  };
  // Takes one item out.
  primordials.arrayRemove = (list, at) => {
    for (let i = at; i < list.length - 1; i++) list[i] = list[i + 1];
    list.length--;
  };
  // The engine's getter of all flags asks for each by its name.
  const flags = [];
  for (const [name, flag] of [['hasIndices', 'd'], ['global', 'g'], ['ignoreCase', 'i'], ['multiline', 'm'], ['dotAll', 's'], ['unicode', 'u'], ['unicodeSets', 'v'], ['sticky', 'y']])
    flags.push([getter(RegExp.prototype, name), flag]);
  primordials.regexpFlags = (regexp) => {
    let text = '';
    for (let i = 0; i < flags.length; i++) if (flags[i][0](regexp)) text += flags[i][1];
    return text;
  };
  primordials.regexpToString = (regexp) => `/${primordials.regexpSource(regexp)}/${primordials.regexpFlags(regexp)}`;
  const typed = getPrototypeOf(Uint8Array.prototype);
  primordials.viewName = getter(typed, Symbol.toStringTag);
  primordials.typedBuffer = getter(typed, 'buffer');
  primordials.typedOffset = getter(typed, 'byteOffset');
  primordials.typedBytes = getter(typed, 'byteLength');
  primordials.typedLength = getter(typed, 'length');
  for (const name of ['indexOf', 'slice', 'substring', 'startsWith', 'endsWith', 'includes', 'charCodeAt', 'trim', 'split', 'repeat', 'padStart', 'padEnd', 'toLowerCase', 'toUpperCase', 'lastIndexOf'])
    primordials['string' + name[0].toUpperCase() + name.slice(1)] = uncurry(String.prototype[name]);
  primordials.views = { __proto__: null };
  for (const name of ['Uint8Array', 'Uint8ClampedArray', 'Int8Array', 'Uint16Array', 'Int16Array', 'Uint32Array', 'Int32Array', 'BigUint64Array', 'BigInt64Array', 'Float16Array', 'Float32Array', 'Float64Array', 'DataView'])
    primordials.views[name] = globalThis[name];

  // The stack of an error, wherever the engine keeps it; undefined where there is none.
  const stackProperty = getOwnPropertyDescriptor(Error.prototype, 'stack');
  const readStack = uncurry(stackProperty.get);
  primordials.stackOf = (error) => {
    const own = getOwnPropertyDescriptor(error, 'stack');
    if (own !== undefined) return typeof own.value === 'string' ? own.value : undefined;
    try { return readStack(error); } catch { return undefined; }
  };
  
  // `await` and `then` look at a promise's constructor and its species: nobody may take their place. Subclasses still can.
  const pin = (object, key, value) => defineProperty(object, key, {
    get() { return value; },
    set(other) { if (this !== object) defineProperty(this, key, { __proto__: null, value: other, writable: true, enumerable: true, configurable: true }); },
    enumerable: false, configurable: false,
  });
  pin(Promise.prototype, 'constructor', Promise);
  defineProperty(Promise, Symbol.species, { ...getOwnPropertyDescriptor(Promise, Symbol.species), configurable: false });

  // The engine makes template literals by calling this method by its name.
  defineProperty(String.prototype, 'concat', { writable: false, configurable: false });

  // Collections whose methods are their own.
  const safe = (Base) => {
    const Safe = class extends Base {};
    for (const key of ownKeys(Base.prototype))
      if (key !== 'constructor') defineProperty(Safe.prototype, key, getOwnPropertyDescriptor(Base.prototype, key));
    setPrototypeOf(Safe.prototype, null);
    freeze(Safe.prototype);
    return Safe;
  };
  primordials.SafeMap = safe(Map);
  primordials.SafeSet = safe(Set);
  primordials.SafeWeakMap = safe(WeakMap);
  primordials.SafeWeakSet = safe(WeakSet);

  const { then, isView, viewName, typedBuffer, typedOffset, typedBytes, dataBuffer, dataOffset, dataLength } = primordials;
  const resolvePromise = Promise.resolve;
  const rejectPromise = Promise.reject;
  const noop = () => {};
  // As a deferred, but its promise is only made for who asks for it, and its rejection is nobody's fault.
  const LAZY = {
    __proto__: null, state: 0, value: undefined, made: undefined, ends: undefined,
    resolve(value) { settle(this, 1, value); },
    reject(reason) { settle(this, 2, reason); },
    // The error is made for who looks at it: one takes long, with its stack.
    rejectWith(make) { if (this.ends !== undefined) settle(this, 2, make()); else settle(this, 3, make); },
    get promise() {
      if (this.made === undefined) {
        if (this.state === 1) this.made = helpers.resolved(this.value);
        else if (this.state === 2) this.made = helpers.rejected(this.value);
        else if (this.state === 3) this.made = helpers.rejected(this.value());
        else this.made = new Promise((resolve, reject) => { this.ends = [resolve, reject]; });
        helpers.handled(this.made);
      }
      return this.made;
    },
  };
  function settle(lazy, state, value) {
    if (lazy.state !== 0) return;
    lazy.state = state;
    lazy.value = value;
    if (lazy.ends !== undefined) lazy.ends[state - 1](value);
  }
  const helpers = {
    __proto__: null, noop,
    resolved: (value) => apply(resolvePromise, Promise, [value]),
    rejected: (reason) => apply(rejectPromise, Promise, [reason]),
    // Nobody needs to look at this promise's rejection.
    handled: (promise) => { then(promise, undefined, noop); return promise; },
    // What it gives, or what it throws, as a promise.
    attempt(run) { try { return helpers.resolved(run()); } catch (error) { return helpers.rejected(error); } },
    deferred() {
      const made = { __proto__: null, promise: undefined, resolve: undefined, reject: undefined };
      made.promise = new Promise((resolve, reject) => { made.resolve = resolve; made.reject = reject; });
      return made;
    },
    lazy: () => ({ __proto__: LAZY }),
    // The bytes of any buffer or view, as a view of them; null of anything else.
    bytesOf(value) {
      if (isView(value)) {
        const name = viewName(value);
        if (name === 'Uint8Array') return value;
        return name === undefined ? new Uint8Array(dataBuffer(value), dataOffset(value), dataLength(value))
          : new Uint8Array(typedBuffer(value), typedOffset(value), typedBytes(value));
      }
      return internal.natives.isBuffer(value) ? new Uint8Array(value) : null;
    },
    sub: (view, from, to) => new Uint8Array(typedBuffer(view), typedOffset(view) + from, to - from),
    illegal: () => new TypeError('Illegal invocation: function called with incorrect `this` reference.'),
    wrongArgument: (where, method, index, type) => new TypeError(`Failed to execute '${method}' on '${where}': parameter ${index} is not of type '${type}'.`),
    wrongInit: (name, index, type) => new TypeError(`Failed to construct '${name}': constructor parameter ${index} is not of type '${type}'.`),
    isObject: (value) => (typeof value === 'object' && value !== null) || typeof value === 'function',
    // A dictionary's member, or undefined where there is no dictionary.
    member: (dictionary, key) => (dictionary === undefined || dictionary === null ? undefined : dictionary[key]),
    // A class as Web IDL describes it: named by its tag, its members enumerable.
    finish(Class, name) {
      for (const object of [Class.prototype, Class]) {
        for (const key of getOwnPropertyNames(object)) {
          const property = getOwnPropertyDescriptor(object, key);
          if (key === 'constructor' || key === 'prototype' || key === 'name' || key === 'length' || !property.configurable) continue;
          defineProperty(object, key, { ...property, enumerable: true });
        }
      }
      defineProperty(Class.prototype, Symbol.toStringTag, { value: name, configurable: true });
      internal.classes[name] = Class;
    },
    constants(Class, values) {
      for (const key of ownKeys(values))
        for (const object of [Class, Class.prototype]) defineProperty(object, key, { value: values[key], enumerable: true });
    },
  };
  internal.classes = { __proto__: null };
  internal.globals = { __proto__: null };
  internal.p = primordials;
  internal.h = helpers;
  internal.dispatch = { __proto__: null };
});
