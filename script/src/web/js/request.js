// Request.
(function (internal) {
  'use strict';
  const { p, h, natives, bodies, headers, shape } = internal;
  const { SafeSet, TypeError } = p;
  const { finish, wrongInit, isObject } = h;
  const METHODS = new SafeSet();
  for (const name of ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'COPY', 'LOCK', 'MKCOL', 'MOVE', 'PROPFIND', 'PROPPATCH', 'SEARCH', 'UNLOCK', 'ACL',
    'REPORT', 'MKACTIVITY', 'CHECKOUT', 'MERGE', 'MSEARCH', 'NOTIFY', 'SUBSCRIBE', 'UNSUBSCRIBE', 'PURGE', 'QUERY', 'BAN', 'MKCALENDAR', 'LINK', 'UNLINK']) METHODS.add(name);
  const REDIRECT = 'Invalid redirect value, must be one of "follow" or "manual" ("error" won\'t be implemented since it does not make sense at the edge; use "manual" and check the response status code).';
  const key = {};
  const STATE = { __proto__: null, kind: key, method: 'GET', url: '', headers: undefined, headersObject: undefined, redirect: 'follow', signal: undefined, cf: undefined, cache: undefined, body: undefined, incoming: false };
  const { is: isRequest, stateOf } = internal.bodyOwner(key);
  internal.isRequest = isRequest;

  class Request extends internal.Body {
    constructor(input, init = undefined) {
      if (arguments.length < 1) throw wrongInit('Request', 1, 'Request or string');
      super(bodies.key, input === key ? init : build(input, init));
    }
    clone() {
      const state = stateOf(this);
      const body = bodies.clone(state.body);
      signal(state);
      return new Request(key, { __proto__: STATE, ...state, body, headers: headers.copy(state.headers), headersObject: undefined });
    }
    get method() { return stateOf(this).method; }
    get url() { return stateOf(this).url; }
    get headers() { return headers.object(stateOf(this)); }
    get redirect() { return stateOf(this).redirect; }
    get fetcher() { stateOf(this); return null; }
    get signal() { return internal.signalObject(signal(stateOf(this))); }
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
    const state = { __proto__: STATE };
    const given = init?.body;
    let from;
    if (isRequest(input)) {
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
    state.headers = wanted !== undefined ? headers.of(wanted) : from !== undefined ? headers.copy(from.headers) : headers.fresh();
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
      state.signal = internal.signalState(aborts);
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
    if (from === undefined || bodies.isNull(from.body)) { state.body = bodies.nothing(); return; }
    if (bodies.disturbed(from.body)) throw new TypeError('Cannot reconstruct a Request with a used body.');
    bodies.checkUsable(from.body);
    state.body = bodies.move(from.body);
  }
  internal.requestState = stateOf;
  // A request of the host's: { method, url, names, values, cf }.
  internal.incoming = (head, given) => new Request(key, {
    __proto__: STATE, method: head.method, url: head.url, headers: headers.from(head.names, head.values, true), redirect: 'manual', cf: head.cf, body: bodies.receive(given), incoming: true,
  });
  // For the host: { method, url, names, values, body }; the request is used then.
  internal.requestLeaving = (request) => {
    const state = stateOf(request);
    return { __proto__: null, method: state.method, url: state.url, names: state.headers.names, values: state.headers.values, body: bodies.send(state.body) };
  };
});
