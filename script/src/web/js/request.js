// Request.
(function (internal) {
  'use strict';
  const { p, h, natives, bodies, headers, shape } = internal;
  const { SafeSet, TypeError } = p;
  const { finish, illegal, wrongInit, isObject } = h;
  const { Headers } = internal.classes;
  const METHODS = new SafeSet();
  for (const name of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'COPY', 'LOCK', 'MKCOL', 'MOVE', 'PROPFIND', 'PROPPATCH', 'SEARCH', 'UNLOCK', 'ACL',
    'REPORT', 'MKACTIVITY', 'CHECKOUT', 'MERGE', 'MSEARCH', 'NOTIFY', 'SUBSCRIBE', 'UNSUBSCRIBE', 'PURGE', 'QUERY', 'BAN', 'MKCALENDAR', 'LINK', 'UNLINK']) METHODS.add(name);
  const REDIRECT = 'Invalid redirect value, must be one of "follow" or "manual" ("error" won\'t be implemented since it does not make sense at the edge; use "manual" and check the response status code).';
  const key = {};

  let stateOf;
  class Request extends internal.Body {
    #state;
    static {
      stateOf = (request) => { if (!isObject(request) || !(#state in request)) throw illegal(); return request.#state; };
      internal.isRequest = (value) => isObject(value) && #state in value;
    }
    constructor(input, init = undefined) {
      if (arguments.length < 1) throw wrongInit('Request', 1, 'Request or string');
      const state = input === key ? init : build(input, init);
      super(bodies.key, state);
      this.#state = state;
    }
    clone() {
      const state = stateOf(this);
      const body = bodies.clone(state.body);
      signal(state);
      return new Request(key, { ...state, body, headers: new Headers(state.headers) });
    }
    get method() { return stateOf(this).method; }
    get url() { return stateOf(this).url; }
    get headers() { return stateOf(this).headers; }
    get redirect() { return stateOf(this).redirect; }
    get fetcher() { stateOf(this); return null; }
    get signal() { return signal(stateOf(this)); }
    get cf() { return stateOf(this).cf; }
    get integrity() { stateOf(this); return ''; }
    get keepalive() { stateOf(this); return false; }
    get cache() { return stateOf(this).cache; }
  }
  finish(Request, 'Request');
  shape(Request, 'Request', ['method', 'url', 'headers', 'redirect', 'fetcher', 'signal', 'cf', 'integrity', 'keepalive', 'cache', 'body', 'bodyUsed']);
  const signal = (state) => (state.signal ??= internal.newSignal());
  const passesSignal = (state) => !state.incoming || internal.has('request_signal_passthrough');
  internal.signalOf = (state) => (passesSignal(state) ? state.signal : undefined);

  function build(input, init) {
    if (init !== undefined && init !== null && !isObject(init)) throw wrongInit('Request', 2, 'RequestInitializerDict or Request');
    const state = { method: 'GET', url: '', headers: undefined, redirect: 'follow', signal: undefined, cf: undefined, cache: undefined, body: undefined, incoming: false };
    const given = init?.body;
    let from;
    if (internal.isRequest(input)) {
      from = stateOf(input);
      state.url = from.url;
      state.method = from.method;
      state.redirect = from.redirect;
      // That a client has gone ends what it asked for, not what was asked on its behalf, as the reference has it.
      state.signal = passesSignal(from) ? from.signal : undefined;
      state.cf = from.cf;
      state.cache = from.cache;
    } else {
      const url = internal.normal(`${input}`);
      if (url === null) throw new TypeError(`Invalid URL: ${input}`);
      state.url = url;
    }
    if (isObject(init)) settings(state, init);
    const wanted = init?.headers;
    if (wanted === null) throw new TypeError("Incorrect type for the 'headers' field on 'RequestInitializerDict': the provided value is not of type 'Headers or Sequence or object'.");
    state.headers = wanted !== undefined ? new Headers(wanted) : from !== undefined ? new Headers(from.headers) : new Headers();
    takeBody(state, from, given);
    return state;
  }
  function settings(state, init) {
    const { method, redirect, signal: aborts, cf, cache } = init;
    if (method !== undefined) {
      state.method = natives.asciiUpper(`${method}`);
      if (!METHODS.has(state.method)) throw new TypeError(`Invalid HTTP method string: ${method}`);
    }
    if (redirect !== undefined) {
      if (redirect !== 'follow' && redirect !== 'manual') throw new TypeError(REDIRECT);
      state.redirect = redirect;
    }
    if (aborts === null) state.signal = undefined;
    else if (aborts !== undefined) {
      if (!internal.isSignal(aborts)) throw new TypeError("Incorrect type for the 'signal' field on 'RequestInitializerDict': the provided value is not of type 'AbortSignal'.");
      state.signal = aborts;
    }
    if (cf !== undefined) state.cf = cf;
    if (cache !== undefined) {
      if (cache !== 'no-store' && cache !== 'no-cache' && cache !== 'reload') throw new TypeError(`Unsupported cache mode: ${cache}`);
      state.cache = cache;
    }
  }
  // A body that is given, or else that of the request that this one is made of, which is used then.
  function takeBody(state, from, given) {
    if (given !== undefined && given !== null) {
      if (state.method === 'GET' || state.method === 'HEAD') throw new TypeError('Request with a GET or HEAD method cannot have a body.');
      const { body, type } = bodies.extract(given);
      state.body = body;
      if (type !== null && !headers.has(state.headers, 'content-type')) headers.set(state.headers, 'content-type', type);
      return;
    }
    if (from === undefined || bodies.isNull(from.body)) { state.body = bodies.record(undefined, undefined); return; }
    if (bodies.disturbed(from.body)) throw new TypeError('Cannot reconstruct a Request with a used body.');
    bodies.checkUsable(from.body);
    state.body = bodies.move(from.body);
  }
  internal.requestState = stateOf;
  // A request of the host's: { method, url, headers, cf }.
  internal.incoming = (head, given) => {
    const state = {
      method: head.method, url: head.url, headers: headers.from(head.headers, true), redirect: 'manual', signal: undefined, cf: head.cf, cache: undefined,
      body: bodies.receive(given), incoming: true,
    };
    return new Request(key, state);
  };
  // For the host: { method, url, headers, body }; the request is used then.
  internal.requestLeaving = (request) => {
    const state = stateOf(request);
    return { __proto__: null, method: state.method, url: state.url, headers: headers.list(state.headers), body: bodies.send(state.body) };
  };
});
