// URL and URLSearchParams. A URL's parts come from Rust; its parameters and its query follow each other.
(function (internal) {
  'use strict';
  const { p, h, natives, shape } = internal;
  const { Error, TypeError, isEnumerable, ownKeys, symbolIterator, defineProperty, arraySort, stringSlice, stringStartsWith } = p;
  const { finish, illegal, wrongArgument, wrongInit, isObject } = h;
  const NAMES = ['href', 'origin', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash'];

  // Iterators over pairs: `at(index)` gives the pair, or undefined behind the last.
  const IteratorPrototype = p.getPrototypeOf(p.getPrototypeOf([][symbolIterator]()));
  internal.pairIterators = (name) => {
    let stateOf;
    class Iterator {
      #state;
      static { stateOf = (iterator) => { if (typeof iterator !== 'object' || iterator === null || !(#state in iterator)) throw illegal(); return iterator.#state; }; }
      constructor(at, kind) { this.#state = { at, kind, index: 0 }; }
      next() {
        const state = stateOf(this);
        const pair = state.at(state.index);
        if (pair === undefined) return { done: true, value: undefined };
        state.index++;
        return { done: false, value: state.kind === 'keys' ? pair[0] : state.kind === 'values' ? pair[1] : [pair[0], pair[1]] };
      }
    }
    p.setPrototypeOf(Iterator.prototype, IteratorPrototype);
    delete Iterator.prototype.constructor;
    defineProperty(Iterator.prototype, 'next', { enumerable: true });
    defineProperty(Iterator.prototype, Symbol.toStringTag, { value: name, configurable: true });
    return (at, kind) => new Iterator(at, kind);
  };
  const pairs = internal.pairIterators('URLSearchParams Iterator');

  // The entries of a record or of a sequence of pairs: put(name, value) for each.
  internal.eachPair = (init, put, wrongLength, wrongItem) => {
    const iterate = init[symbolIterator];
    if (iterate === undefined || iterate === null) {
      const keys = ownKeys(init);
      for (let i = 0; i < keys.length; i++) if (typeof keys[i] === 'string' && isEnumerable(init, keys[i])) put(`${keys[i]}`, `${init[keys[i]]}`);
      return;
    }
    for (const item of init) {
      if (!isObject(item) || typeof item[symbolIterator] !== 'function') throw wrongItem();
      const pair = [];
      for (const part of item) pair[pair.length] = part;
      if (pair.length !== 2) throw wrongLength();
      put(`${pair[0]}`, `${pair[1]}`);
    }
  };

  let paramsOf;
  let linkParams;
  class URLSearchParams {
    // `list` is names and values in turns; `url` the state of the URL whose query this is.
    #state = { list: [], url: undefined };
    static {
      paramsOf = (params) => { if (typeof params !== 'object' || params === null || !(#state in params)) throw illegal(); return params.#state; };
      linkParams = (url) => { const params = new URLSearchParams(); params.#state.url = url; params.#state.list = parsed(url.parts[9]); return params; };
      internal.isParams = (value) => typeof value === 'object' && value !== null && #state in value;
    }
    constructor(init = '') {
      const { list } = this.#state;
      if (!isObject(init)) { this.#state.list = parsed(`${init}`); return; }
      if (internal.isParams(init) && init[symbolIterator] === entries) { this.#state.list = p.arraySlice(init.#state.list); return; }
      const isRecord = (init[symbolIterator] ?? null) === null;
      let mended = false;
      internal.eachPair(init, (name, value) => {
        const key = natives.usv(name);
        mended ||= key !== name;
        putPair(list, key, natives.usv(value), isRecord && mended);
      },
        () => new TypeError('Invalid URL search params sequence.'), () => new TypeError("Incorrect type: the provided value is not of type 'Sequence'."));
    }
    get size() { return paramsOf(this).list.length / 2; }
    append(name, value) {
      const state = paramsOf(this);
      need(arguments, 2, 'append');
      state.list[state.list.length] = natives.usv(`${name}`);
      state.list[state.list.length] = natives.usv(`${value}`);
      changed(state);
    }
    delete(name, value = undefined) {
      const state = paramsOf(this);
      need(arguments, 1, 'delete');
      keep(state, natives.usv(`${name}`), value === undefined ? undefined : natives.usv(`${value}`));
    }
    get(name) {
      const { list } = paramsOf(this);
      need(arguments, 1, 'get');
      name = natives.usv(`${name}`);
      for (let i = 0; i < list.length; i += 2) if (list[i] === name) return list[i + 1];
      return null;
    }
    getAll(name) {
      const { list } = paramsOf(this);
      need(arguments, 1, 'getAll');
      name = natives.usv(`${name}`);
      const found = [];
      for (let i = 0; i < list.length; i += 2) if (list[i] === name) found[found.length] = list[i + 1];
      return found;
    }
    has(name, value = undefined) {
      const { list } = paramsOf(this);
      need(arguments, 1, 'has');
      name = natives.usv(`${name}`);
      if (value !== undefined) value = natives.usv(`${value}`);
      for (let i = 0; i < list.length; i += 2) if (list[i] === name && (value === undefined || list[i + 1] === value)) return true;
      return false;
    }
    set(name, value) {
      const state = paramsOf(this);
      need(arguments, 2, 'set');
      name = natives.usv(`${name}`);
      value = natives.usv(`${value}`);
      const kept = [];
      let placed = false;
      for (let i = 0; i < state.list.length; i += 2) {
        const same = state.list[i] === name;
        if (same && placed) continue;
        kept[kept.length] = state.list[i];
        kept[kept.length] = same ? value : state.list[i + 1];
        placed ||= same;
      }
      if (!placed) { kept[kept.length] = name; kept[kept.length] = value; }
      state.list = kept;
      changed(state);
    }
    sort() {
      const state = paramsOf(this);
      const order = [];
      for (let i = 0; i < state.list.length; i += 2) order[i / 2] = [state.list[i], state.list[i + 1], i];
      arraySort(order, (a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : a[2] - b[2]));
      const sorted = [];
      for (let i = 0; i < order.length; i++) { sorted[2 * i] = order[i][0]; sorted[2 * i + 1] = order[i][1]; }
      state.list = sorted;
      changed(state);
    }
    forEach(callback, self = undefined) {
      const state = paramsOf(this);
      if (typeof callback !== 'function') throw wrongArgument('URLSearchParams', 'forEach', 1, 'function');
      for (let i = 0; i < state.list.length; i += 2) p.apply(callback, self, [state.list[i + 1], state.list[i], this]);
    }
    entries() { return iterate(this, 'entries'); }
    keys() { return iterate(this, 'keys'); }
    values() { return iterate(this, 'values'); }
    toString() { return natives.formWrite(paramsOf(this).list); }
  }
  finish(URLSearchParams, 'URLSearchParams');
  const { entries } = URLSearchParams.prototype;
  defineProperty(URLSearchParams.prototype, symbolIterator, { value: URLSearchParams.prototype.entries, writable: true, configurable: true });
  const look = (list) => { const shown = []; for (let i = 0; i < list.length; i += 2) shown[i / 2] = [list[i], list[i + 1]]; return { map: true, size: shown.length, pairs: shown }; };
  shape(URLSearchParams, 'URLSearchParams', (params) => look(paramsOf(params).list));

  // Keys of a record that are the same once they are well-formed are one, with the value of the last.
  function putPair(list, name, value, once) {
    for (let i = 0; once && i < list.length; i += 2) if (list[i] === name) { list[i + 1] = value; return; }
    list[list.length] = name;
    list[list.length] = value;
  }
  const parsed = (text) => natives.formParse(stringStartsWith(text, '?') ? stringSlice(text, 1) : text);
  const need = (args, count, method) => { if (args.length < count) throw wrongArgument('URLSearchParams', method, args.length + 1, 'USVString'); };
  const iterate = (params, kind) => {
    const state = paramsOf(params);
    return pairs((index) => (2 * index < state.list.length ? [state.list[2 * index], state.list[2 * index + 1]] : undefined), kind);
  };
  function keep(state, name, value) {
    const kept = [];
    for (let i = 0; i < state.list.length; i += 2) {
      if (state.list[i] === name && (value === undefined || state.list[i + 1] === value)) continue;
      kept[kept.length] = state.list[i];
      kept[kept.length] = state.list[i + 1];
    }
    state.list = kept;
    changed(state);
  }
  function changed(state) {
    if (state.url !== undefined) state.url.parts = natives.urlSet(state.url.parts[0], 'search', natives.formWrite(state.list)) ?? state.url.parts;
  }

  const parse = (text, base) => (base === undefined ? natives.urlParse(text) : natives.urlParse(text, base)) ?? null;
  let urlOf;
  class URL {
    #state;
    static {
      urlOf = (url) => { if (typeof url !== 'object' || url === null || !(#state in url)) throw illegal(); return url.#state; };
      internal.isURL = (value) => typeof value === 'object' && value !== null && #state in value;
      internal.hrefOf = (url) => url.#state.parts[0];
    }
    constructor(url, base = undefined) {
      if (arguments.length < 1) throw wrongInit('URL', 1, 'USVString');
      const parts = parse(`${url}`, base === undefined ? undefined : `${base}`);
      if (parts === null) throw new TypeError('Invalid URL string.');
      this.#state = { parts, params: undefined };
    }
    static canParse(url, base = undefined) { return parse(`${url}`, base === undefined ? undefined : `${base}`) !== null; }
    static parse(url, base = undefined) { return URL.canParse(url, base) ? new URL(url, base) : null; }
    static createObjectURL() { throw new Error('URL.createObjectURL() is not implemented'); }
    static revokeObjectURL() { throw new Error('URL.revokeObjectURL() is not implemented'); }
    get href() { return urlOf(this).parts[0]; }
    set href(value) {
      const state = urlOf(this);
      const parts = parse(`${value}`);
      if (parts === null) throw new TypeError("Failed to set the 'href' property on 'URL': the provided value is not of type 'valid URL string'.");
      state.parts = parts;
      follow(state);
    }
    get origin() { return urlOf(this).parts[1]; }
    get searchParams() { const state = urlOf(this); return (state.params ??= linkParams(state)); }
    toString() { return urlOf(this).parts[0]; }
    toJSON() { return urlOf(this).parts[0]; }
  }
  const follow = (state) => { if (state.params !== undefined) paramsOf(state.params).list = parsed(state.parts[9]); };
  for (let i = 2; i < NAMES.length; i++) {
    const name = NAMES[i];
    defineProperty(URL.prototype, name, {
      get() { return urlOf(this).parts[i]; },
      set(value) {
        const state = urlOf(this);
        state.parts = natives.urlSet(state.parts[0], name, `${value}`) ?? state.parts;
        if (name === 'search') follow(state);
      },
      enumerable: true, configurable: true,
    });
  }
  finish(URL, 'URL');
  shape(URL, 'URL', ['origin', 'href', 'protocol', 'username', 'password', 'host', 'hostname', 'port', 'pathname', 'search', 'hash', 'searchParams']);
  // The URL as it is written; null if it is none.
  internal.normal = (text) => natives.urlHref(text) ?? null;
  internal.partsOf = (text, base) => parse(text, base);
});
