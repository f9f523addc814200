// Headers: lists of names in lower case and values. Those of requests and responses from outside cannot be changed.
(function (internal) {
  'use strict';
  const { p, h, natives, shape } = internal;
  const { TypeError, arraySort, arrayRemove, defineProperty, symbolIterator } = p;
  const { finish, illegal, wrongArgument, wrongInit, isObject } = h;
  const pairs = internal.pairIterators('Headers Iterator');
  const COOKIE = 'set-cookie';

  let headersOf;
  class Headers {
    // `sorted` is what iteration shows, until the next change.
    #state = { names: [], values: [], sorted: undefined, immutable: false };
    static {
      headersOf = (headers) => { if (!isObject(headers) || !(#state in headers)) throw illegal(); return headers.#state; };
      internal.isHeaders = (value) => isObject(value) && #state in value;
    }
    constructor(init = undefined) {
      if (init === undefined) return;
      if (!isObject(init)) throw wrongInit('Headers', 1, 'Headers or Sequence or object');
      const state = this.#state;
      if (internal.isHeaders(init) && init[symbolIterator] === entries) {
        state.names = p.arraySlice(init.#state.names);
        state.values = p.arraySlice(init.#state.values);
        return;
      }
      internal.eachPair(init, (name, value) => append(state, checkedName(name), checkedValue(value)), wrongPair, () => new TypeError("Incorrect type: the provided value is not of type 'Sequence'."));
    }
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
  function append(state, name, value) {
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

  internal.headers = {
    __proto__: null,
    // Of the host's list of pairs; the names are headers already.
    from(list, immutable) {
      const headers = new Headers();
      const state = headersOf(headers);
      for (let i = 0; i < list.length; i++) append(state, natives.asciiLower(list[i][0]), list[i][1]);
      state.immutable = immutable;
      return headers;
    },
    list(headers) {
      const state = headersOf(headers);
      const list = [];
      for (let i = 0; i < state.names.length; i++) list[i] = [state.names[i], state.values[i]];
      return list;
    },
    get: (headers, name) => get(headersOf(headers), name),
    has: (headers, name) => p.arrayIndexOf(headersOf(headers).names, name) >= 0,
    set: (headers, name, value) => set(headersOf(headers), name, value),
    remove: (headers, name) => remove(headersOf(headers), name, 0),
  };
});
