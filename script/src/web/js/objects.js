// Objects: their ids, namespaces and stubs, and what an object knows of itself.
(function (internal) {
  'use strict';
  const { p, h, host, dispatch } = internal;
  const { Error, Proxy, SafeMap, TypeError, getOwnPropertyDescriptor, getPrototypeOf, hasOwn, objectKeys, regexpExec, stringToLowerCase, then } = p;
  const { finish, handled, illegal, isObject, rejected, resolved } = h;
  const natives = host.objects;
  const { isError } = p.Error;
  const domName = p.uncurry(getOwnPropertyDescriptor(internal.DOMException.prototype, 'name').get);
  const isDomException = (value) => { try { domName(value); return true; } catch { return false; } };
  const key = {};
  // Objects that were reset and are remembered: what was made to call them before stays broken.
  const MOST_RESETS = 10000;
  const MOST_NAME = 2048;

  let idOf;
  class DurableObjectId {
    #state;
    static { idOf = (id) => { if (typeof id !== 'object' || id === null || !(#state in id)) throw illegal(); return id.#state; }; internal.isObjectId = (id) => typeof id === 'object' && id !== null && #state in id; }
    constructor(secret, state) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#state = state; }
    toString() { return idOf(this).digits; }
    equals(other) { return idOf(this).digits === idOf(other).digits; }
    get name() { return idOf(this).name; }
  }
  finish(DurableObjectId, 'DurableObjectId');
  internal.shape(DurableObjectId, 'DurableObjectId', ['name']);
  const newId = (className, digits, name) => new DurableObjectId(key, { __proto__: null, className, digits, name: name ?? undefined });

  let resets = new SafeMap();
  dispatch.objectReset = (id, error) => {
    if (resets.size >= MOST_RESETS) resets = new SafeMap();
    resets.set(id, { __proto__: null, error });
  };

  // ---- Stubs ----

  const stubs = new p.SafeWeakMap();
  const lost = (stub) => {
    if (stub.broken === undefined && resets.get(stub.id) !== stub.reset) stub.broken = resets.get(stub.id)?.error ?? new Error('The Durable Object has been reset.');
    return stub.broken;
  };
  // Calls of one that fail since the object was reset break it for good.
  const failing = (stub, error) => {
    if (isObject(error) && hasOwn(error, 'durableObjectReset')) stub.broken ??= error;
    throw error;
  };
  const RESERVED = new p.SafeSet();
  for (const name of ['fetch', 'connect', 'alarm', 'webSocketMessage', 'webSocketClose', 'webSocketError', 'dup', 'constructor']) RESERVED.add(name);

  function DurableObject() { throw new TypeError('Illegal constructor'); }
  finish(DurableObject, 'DurableObject');
  delete internal.classes.DurableObject;
  const getters = {
    __proto__: null,
    fetch(stub) {
      return function fetch(input, init) {
        if (arguments.length < 1) return rejected(h.wrongArgument('Fetcher', 'fetch', 1, 'Request or string'));
        const broken = lost(stub);
        return broken !== undefined ? rejected(broken) : internal.fetchFrom(stub.target, arguments, (error) => failing(stub, error));
      };
    },
    connect: () => function connect() { throw new Error('connect() of a Durable Object is not supported by this version of Berth.'); },
    id: (stub) => stub.idObject,
    name: (stub) => stub.name,
    then: () => undefined,
  };
  const traps = {
    __proto__: null,
    get(made, name) {
      const stub = stubs.get(made);
      if (typeof name === 'symbol') return name === p.Symbol.toStringTag ? 'DurableObject' : undefined;
      if (getters[name] !== undefined) return getters[name](stub);
      // What every object has is the stub's own.
      if (name === 'constructor' || name in p.Object.prototype) return made[name];
      return function () { return call(stub, name, arguments); };
    },
    has: (made, name) => name === 'fetch' || name === 'id' || name === 'name',
    set() { throw new TypeError('Cannot set a property of a Durable Object stub.'); },
    defineProperty() { throw new TypeError('Cannot define a property of a Durable Object stub.'); },
  };
  const STUB = { __proto__: null, target: undefined, id: undefined, name: undefined, idObject: undefined, broken: undefined, reset: undefined };
  function newStub(id) {
    const { className, digits, name } = idOf(id);
    const made = { __proto__: DurableObject.prototype };
    stubs.set(made, { __proto__: STUB, target: { __proto__: null, class: className, id: digits, name }, id: digits, name, idObject: id, reset: resets.get(digits) });
    return new Proxy(made, traps);
  }

  // ---- Calls of methods ----

  // Between objects go plain objects and those of the platform, no instances of classes: they would arrive without their methods.
  let strict = false;
  const { platform } = internal;
  internal.platform = (object) => platform(object) ?? (strict ? ownClass(object) : undefined);
  function ownClass(object) {
    const proto = getPrototypeOf(object);
    if (proto === null || proto === p.Object.prototype) return undefined;
    const made = getOwnPropertyDescriptor(proto, 'constructor')?.value;
    return typeof made === 'function' ? made.name : 'Object';
  }
  function serialized(value) {
    const before = strict;
    strict = true;
    try { return internal.serialize(value); } finally { strict = before; }
  }
  function pack(value) {
    if (internal.isRequest(value)) return { __proto__: null, request: internal.requestLeaving(value) };
    if (internal.isResponse(value)) {
      if (internal.responseState(value).webSocket !== null) throw new TypeError('A WebSocket cannot be an argument or result of a method; only fetch() can return one.');
      return { __proto__: null, response: internal.leaving(value) };
    }
    return { __proto__: null, value: serialized(value) };
  }
  function unpack(packed) {
    if (packed.request !== undefined) return internal.incoming(packed.request, packed.body);
    if (packed.response !== undefined) return internal.arrived(packed.response, '', false);
    return internal.deserialize(packed.value);
  }
  function call(stub, name, args) {
    const list = [];
    try {
      const broken = lost(stub);
      if (broken !== undefined) return rejected(broken);
      for (let i = 0; i < args.length; i++) list[i] = pack(args[i]);
      return then(natives.call(stub.target, name, list), unpack, (error) => failing(stub, ofObject(error, stub)));
    } catch (error) {
      // What the call would have sent nobody reads.
      for (let i = 0; i < list.length; i++) if (list[i].value === undefined) host.abandon(list[i]);
      return rejected(error);
    }
  }
  // ---- Errors on their way ----

  // Most bytes of what an error carries besides its text: it goes with every answer that it fails.
  const MOST_THROWN = 32768;
  const hide = (object, name, value) => { p.defineProperty(object, name, { __proto__: null, value, writable: true, enumerable: false, configurable: true }); };
  const show = (object, name, value) => { p.defineProperty(object, name, { __proto__: null, value, writable: true, enumerable: true, configurable: true }); };
  // What was thrown, as far as a clone can hold it: for an error its own properties and cause besides, otherwise the value itself.
  dispatch.thrown = (value) => {
    if (!isObject(value) || typeof value === 'function') return undefined;
    try {
      const bytes = internal.serialize(isError(value) || isDomException(value) ? carried(value) : { __proto__: null, value });
      return p.typedLength(bytes) > MOST_THROWN ? undefined : bytes;
    } catch { return undefined; }
  };
  function carried(error) {
    if (isDomException(error)) return { __proto__: null, value: error };
    const own = {};
    const names = objectKeys(error);
    for (let i = 0; i < names.length; i++) {
      const value = error[names[i]];
      if (names[i] !== 'stack' && names[i] !== 'message' && names[i] !== 'cause') show(own, names[i], value);
    }
    const cause = getOwnPropertyDescriptor(error, 'cause');
    return cause === undefined ? { __proto__: null, own } : { __proto__: null, own, cause: cause.value };
  }
  const arrived = new p.SafeWeakMap();
  // The error as it arrives: one of the language, with what it carried.
  dispatch.caught = (error, bytes) => {
    const { own, cause, value } = internal.deserialize(bytes);
    if (own === undefined) {
      if (!isDomException(value)) arrived.set(value, true);
      return value;
    }
    arrived.set(error, true);
    const names = objectKeys(own);
    for (let i = 0; i < names.length; i++) show(error, names[i], own[names[i]]);
    if (cause !== undefined) hide(error, 'cause', cause);
    return error;
  };
  // What an object's own code has thrown says which object that was.
  function ofObject(error, stub) {
    if (isObject(error) && arrived.get(error) === true) {
      const known = { __proto__: null, value: stub.id, writable: true, enumerable: true, configurable: true };
      try { p.defineProperty(error, 'durableObjectId', known); } catch {}
    }
    return error;
  }

  const missing = (name) => new TypeError(`The RPC receiver does not implement the method "${name}".`);
  // Methods are those of its class and the classes above, but for what every object has.
  function methodOf(object, name) {
    if (RESERVED.has(name) || hasOwn(object, name)) throw missing(name);
    for (let proto = getPrototypeOf(object); proto !== null && proto !== p.Object.prototype; proto = getPrototypeOf(proto)) {
      const own = getOwnPropertyDescriptor(proto, name);
      if (own === undefined) continue;
      if (typeof own.value !== 'function') break;
      return own.value;
    }
    throw missing(name);
  }
  dispatch.callMethod = async (object, name, args) => {
    if (!p.hasInstance(dispatch.workers.DurableObject, object))
      throw new TypeError('The receiving Durable Object does not support RPC, because its class was not declared with `extends DurableObject`. In order to enable RPC, make sure your class extends the special class `DurableObject`, which can be imported from the module "cloudflare:workers".');
    const method = methodOf(object, name);
    const list = [];
    for (let i = 0; i < args.length; i++) list[i] = unpack(args[i]);
    return pack(await p.apply(method, object, list));
  };

  // ---- Namespaces ----

  // Digits that were calculated, by class and name; begun anew when there are so many.
  const MOST_KNOWN = 1024;
  let known = new SafeMap();
  function digitsOf(className, name) {
    const both = `${className}\n${name}`;
    const before = known.get(both);
    if (before !== undefined) return before;
    const length = p.typedLength(internal.natives.encode(name));
    if (length < 1 || length > MOST_NAME) throw new TypeError(`The name of a Durable Object must have from 1 to ${MOST_NAME} bytes.`);
    const digits = natives.named(className, name);
    if (known.size >= MOST_KNOWN) known = new SafeMap();
    known.set(both, digits);
    return digits;
  }

  let classOf;
  class DurableObjectNamespace {
    #className;
    static { classOf = (namespace) => { if (typeof namespace !== 'object' || namespace === null || !(#className in namespace)) throw illegal(); return namespace.#className; }; }
    constructor(secret, className) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#className = className; }
    idFromName(name) {
      const className = classOf(this);
      if (arguments.length < 1) throw h.wrongArgument('DurableObjectNamespace', 'idFromName', 1, 'string');
      const text = `${name}`;
      return newId(className, digitsOf(className, text), text);
    }
    newUniqueId(options = undefined) {
      const className = classOf(this);
      return newId(className, natives.unique(className), undefined);
    }
    idFromString(text) {
      const className = classOf(this);
      const digits = stringToLowerCase(`${text}`);
      if (regexpExec(/^[0-9a-f]{64}$/, digits) === null) throw new TypeError('Invalid Durable Object ID: must be 64 hex digits');
      if (!natives.belongs(className, digits)) throw new TypeError('Durable Object ID is not valid for this namespace.');
      return newId(className, digits, undefined);
    }
    get(id, options = undefined) {
      const className = classOf(this);
      if (!internal.isObjectId(id)) throw h.wrongArgument('DurableObjectNamespace', 'get', 1, 'DurableObjectId');
      if (idOf(id).className !== className) throw new TypeError('Durable Object ID is not valid for this namespace.');
      return newStub(id);
    }
    getByName(name, options = undefined) {
      if (arguments.length < 1) throw h.wrongArgument('DurableObjectNamespace', 'getByName', 1, 'string');
      return newStub(this.idFromName(name));
    }
    // There is one.
    jurisdiction() { classOf(this); return this; }
  }
  finish(DurableObjectNamespace, 'DurableObjectNamespace');
  internal.shape(DurableObjectNamespace, 'DurableObjectNamespace', []);
  const namespaces = new SafeMap();
  dispatch.namespace = (className) => {
    let namespace = namespaces.get(className);
    if (namespace === undefined) namespaces.set(className, namespace = new DurableObjectNamespace(key, className));
    return namespace;
  };
  // What `ctx.exports` has, from the date on from which it is there.
  let exported;
  const exportsOf = () => {
    if (!(internal.since('2025-11-17') || internal.has('enable_ctx_exports'))) return undefined;
    if (exported === undefined) {
      exported = {};
      const names = natives.classes();
      for (let i = 0; i < names.length; i++) p.defineProperty(exported, names[i], { __proto__: null, value: dispatch.namespace(names[i]), enumerable: true });
    }
    return exported;
  };
  const context = dispatch.context;
  dispatch.context = (props, exports = exportsOf(), abort = undefined) => context(props, exports, abort);

  // ---- What an object knows of itself ----

  let stateOf;
  class DurableObjectState {
    #state;
    static { stateOf = (state) => { if (typeof state !== 'object' || state === null || !(#state in state)) throw illegal(); return state.#state; }; }
    constructor(secret, state) { if (secret !== key) throw new TypeError('Illegal constructor'); this.#state = state; }
    get id() { return stateOf(this).id; }
    get storage() { return stateOf(this).storage; }
    get container() { return stateOf(this).container; }
    get props() { return stateOf(this).props; }
    get exports() { stateOf(this); return exportsOf(); }
    // An object lives on without.
    waitUntil(promise) { stateOf(this); then(resolved(promise), undefined, (error) => { internal.globals.reportError(error); }); }
    blockConcurrencyWhile(callback) {
      const state = stateOf(this);
      if (typeof callback !== 'function') return rejected(h.wrongArgument('DurableObjectState', 'blockConcurrencyWhile', 1, 'function'));
      try { return handled(natives.section(state.instance, false, callback)); } catch (error) { return rejected(error); }
    }
    abort(reason = undefined, options = undefined) {
      const text = reason === undefined ? 'Application called abort() to reset Durable Object.' : `${isObject(reason) && 'message' in reason ? reason.message : reason}`;
      natives.abort(stateOf(this).instance, text);
      const error = new Error(text);
      p.defineProperty(error, 'durableObjectReset', { __proto__: null, value: true, writable: true, enumerable: true, configurable: true });
      throw error;
    }
  }
  // WebSockets that stay while their object is not there.
  const HIBERNATION = ['acceptWebSocket', 'getWebSockets', 'getTags', 'setWebSocketAutoResponse', 'getWebSocketAutoResponse', 'getWebSocketAutoResponseTimestamp',
    'setHibernatableWebSocketEventTimeout', 'getHibernatableWebSocketEventTimeout'];
  for (const name of HIBERNATION) {
    const absent = { [name]() { stateOf(this); throw new Error(`${name}() is not supported by this version of Berth.`); } }[name];
    p.defineProperty(DurableObjectState.prototype, name, { __proto__: null, value: absent, writable: true, enumerable: false, configurable: true });
  }
  finish(DurableObjectState, 'DurableObjectState');
  internal.shape(DurableObjectState, 'DurableObjectState', ['id', 'storage', 'props']);
  dispatch.objectState = (instance, className, digits, name) => new DurableObjectState(key, {
    __proto__: null, instance, id: newId(className, digits, name), storage: internal.storage(instance, className), container: internal.container(instance, className), props: {},
  });
  dispatch.sectionEnded = natives.sectionEnded;
  internal.hasAlarm = (className) => dispatch.hasAlarm(className);
});
