// Headers: lists of names in lower case and values. Those of requests and responses from outside cannot be changed.
(function (internal) {
  'use strict';
  const { p, h, natives, shape } = internal;
  const { TypeError, arraySort, arrayRemove, defineProperty, symbolIterator } = p;
  const { finish, illegal, wrongArgument, wrongInit, isObject } = h;
  const pairs = internal.pairIterators('Headers Iterator');
  const COOKIE = 'set-cookie';
  const key = {};
  // Names and values, by their place; both lists are also others' while they are `shared`. `sorted` is what iteration shows, until
  // the next change.
  const STATE = { __proto__: null, names: undefined, values: undefined, shared: false, sorted: undefined, immutable: false };
  const fresh = () => ({ __proto__: STATE, names: [], values: [] });

  let headersOf;
  class Headers {
    #state;
    static {
      headersOf = (headers) => { if (typeof headers !== 'object' || headers === null || !(#state in headers)) throw illegal(); return headers.#state; };
      internal.isHeaders = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(init = undefined, made) { this.#state = init === key ? made : init === undefined ? fresh() : of(init); }
    get(name) {
      const state = headersOf(this);
      need(arguments, 1, 'get');
      return get(state, checkedName(name));
    }
    getAll(name) {
      const state = headersOf(this);
      need(arguments, 1, 'getAll');
      if (checkedName(name) !== COOKIE) throw new TypeError('getAll() can only be used with the header name "Set-Cookie".');
      return all(state, COOKIE);
    }
    getSetCookie() { return all(headersOf(this), COOKIE); }
    has(name) {
      const state = headersOf(this);
      need(arguments, 1, 'has');
      return p.arrayIndexOf(state.names, checkedName(name)) >= 0;
    }
    set(name, value) {
      const state = headersOf(this);
      need(arguments, 2, 'set');
      change(state);
      set(state, checkedName(name), checkedValue(value));
    }
    append(name, value) {
      const state = headersOf(this);
      need(arguments, 2, 'append');
      change(state);
      append(state, checkedName(name), checkedValue(value));
    }
    delete(name) {
      const state = headersOf(this);
      need(arguments, 1, 'delete');
      change(state);
      remove(state, checkedName(name), 0);
    }
    forEach(callback, self = undefined) {
      const state = headersOf(this);
      if (typeof callback !== 'function') throw wrongArgument('Headers', 'forEach', 1, 'function');
      const list = sorted(state);
      for (let i = 0; i < list.length; i++) p.apply(callback, self, [list[i][1], list[i][0], this]);
    }
    entries() { return iterate(this, 'entries'); }
    keys() { return iterate(this, 'keys'); }
    values() { return iterate(this, 'values'); }
  }
  finish(Headers, 'Headers');
  const { entries } = Headers.prototype;
  defineProperty(Headers.prototype, symbolIterator, { value: Headers.prototype.entries, writable: true, configurable: true });
  shape(Headers, 'Headers', (headers) => {
    const state = headersOf(headers);
    const list = sorted(state);
    return { map: true, size: list.length, pairs: p.arrayConcat(list, [['[immutable]', state.immutable, true]]) };
  });

  const wrongPair = () => new TypeError('To initialize a Headers object from a sequence, each inner sequence must have exactly two elements.');
  const need = (args, count, method) => { if (args.length < count) throw wrongArgument('Headers', method, args.length + 1, 'string'); };
  // Over the headers as they are now, as the reference has it: they can be changed meanwhile.
  const iterate = (headers, kind) => { const list = sorted(headersOf(headers)); return pairs((index) => list[index], kind); };
  function checkedName(name) {
    const checked = natives.headerName(`${name}`);
    if (checked === null || checked === undefined) throw new TypeError('Invalid header name.');
    return checked;
  }
  function checkedValue(value) {
    const checked = natives.headerValue(`${value}`);
    if (checked === null || checked === undefined) throw new TypeError('Invalid header value.');
    return checked;
  }
  function change(state) { if (state.immutable) throw new TypeError("Can't modify immutable headers."); }
  function own(state) {
    if (!state.shared) return;
    state.names = p.arraySlice(state.names);
    state.values = p.arraySlice(state.values);
    state.shared = false;
  }
  function copy(state) {
    state.shared = true;
    return { __proto__: STATE, names: state.names, values: state.values, shared: true };
  }
  // What somebody gives as headers.
  function of(init) {
    if (!isObject(init)) throw wrongInit('Headers', 1, 'Headers or Sequence or object');
    if (internal.isHeaders(init) && init[symbolIterator] === entries) return copy(headersOf(init));
    const state = fresh();
    internal.eachPair(init, (name, value) => append(state, checkedName(name), checkedValue(value)), wrongPair, () => new TypeError("Incorrect type: the provided value is not of type 'Sequence'."));
    return state;
  }
  function append(state, name, value) {
    own(state);
    state.names[state.names.length] = name;
    state.values[state.values.length] = value;
    state.sorted = undefined;
  }
  function get(state, name) {
    let found = null;
    for (let i = 0; i < state.names.length; i++) if (state.names[i] === name) found = found === null ? state.values[i] : `${found}, ${state.values[i]}`;
    return found;
  }
  function all(state, name) {
    const found = [];
    for (let i = 0; i < state.names.length; i++) if (state.names[i] === name) found[found.length] = state.values[i];
    return found;
  }
  // Takes away every header of the name from `from` on.
  function remove(state, name, from) {
    own(state);
    for (let i = state.names.length - 1; i >= from; i--) {
      if (state.names[i] !== name) continue;
      arrayRemove(state.names, i);
      arrayRemove(state.values, i);
    }
    state.sorted = undefined;
  }
  function set(state, name, value) {
    const at = p.arrayIndexOf(state.names, name);
    if (at < 0) return append(state, name, value);
    own(state);
    state.values[at] = value;
    remove(state, name, at + 1);
  }
  function sorted(state) {
    if (state.sorted !== undefined) return state.sorted;
    const list = [];
    for (let i = 0; i < state.names.length; i++) {
      const name = state.names[i];
      if (name !== COOKIE && p.arrayIndexOf(state.names, name) < i) continue;
      list[list.length] = [name, name === COOKIE ? state.values[i] : get(state, name), i];
    }
    arraySort(list, (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[2] - b[2]));
    state.sorted = list;
    return list;
  }

  // All but `object` take and give what headers are inside.
  internal.headers = {
    __proto__: null, fresh, of, copy, get, set,
    // Of the host's lists: names are in lower case, and headers already.
    from: (names, values, immutable) => ({ __proto__: STATE, names, values, immutable }),
    // The object of the headers of a request or response, which keeps it: made for who asks for it.
    object: (owner) => (owner.headersObject ??= new Headers(key, owner.headers)),
    has: (state, name) => p.arrayIndexOf(state.names, name) >= 0,
  };
});
